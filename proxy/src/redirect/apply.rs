//! Loads, removes, inspects the redirect rules in the network namespace of this process.

use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

use super::plan::RedirectPlan;
use super::rules::{self, CHAINS, JUMPS, Jump, TABLE};

/// The front end of the kernel's packet filter that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `nft`, preferred: one transaction for both families.
    Nft,
    /// `iptables-nft` with `ip6tables-nft`, where there is no `nft`.
    Iptables,
    /// `iptables-legacy` with `ip6tables-legacy`, where there is neither: a filter of its own in the kernel.
    IptablesLegacy,
}

impl Tool {
    /// The first of them that is installed.
    ///
    /// # Errors
    /// [`ApplyError::NoTool`] when none is.
    pub fn installed() -> Result<Self, ApplyError> {
        if runs("nft", &["--version"]) {
            return Ok(Self::Nft);
        }
        let whole = |families: &[Family]| families.iter().all(|family| runs(family.program, &["--version"]));
        if whole(&FAMILIES) {
            return Ok(Self::Iptables);
        }
        if whole(&LEGACY_FAMILIES) {
            return Ok(Self::IptablesLegacy);
        }
        Err(ApplyError::NoTool)
    }

    /// The programs of this front end, one set for each address family; none where one program serves both.
    const fn families(self) -> &'static [Family] {
        match self {
            Self::Nft => &[],
            Self::Iptables => &FAMILIES,
            Self::IptablesLegacy => &LEGACY_FAMILIES,
        }
    }
}

/// Whether the rules of a plan are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// All of them, and nothing else, in our table.
    Installed,
    /// None of them.
    Absent,
    /// Some, or others: what differs, as the tool prints it.
    Different {
        /// The first line that is missing, in the tool's words, or what stands where it should.
        first: String,
    },
}

/// Puts the rules of `plan` in force. What an earlier plan had put there is replaced; nothing of anybody else
/// is touched. With `nft` the change is one transaction.
///
/// # Errors
/// When the tool cannot be run or refuses, which it does without `CAP_NET_ADMIN`.
pub fn install(tool: Tool, plan: &RedirectPlan) -> Result<(), ApplyError> {
    match tool {
        Tool::Nft => feed("nft", &["-f", "-"], &rules::nft(plan)),
        Tool::Iptables | Tool::IptablesLegacy => tool.families().iter().try_for_each(|family| {
            feed(
                family.restore,
                &["--noflush", "-w", LOCK_SECONDS],
                &rules::iptables(plan, family.ipv6),
            )?;
            JUMPS.iter().try_for_each(|jump| {
                if family.runs(&with("-C", jump)) {
                    return Ok(());
                }
                family.change(&with(jump.add, jump))
            })
        }),
    }
}

/// Takes our rules away. Fine when there are none.
///
/// # Errors
/// When the tool cannot be run or refuses.
pub fn remove(tool: Tool) -> Result<(), ApplyError> {
    match tool {
        Tool::Nft => feed(
            "nft",
            &["-f", "-"],
            &format!("table inet {TABLE}\ndelete table inet {TABLE}\n"),
        ),
        Tool::Iptables | Tool::IptablesLegacy => tool.families().iter().try_for_each(|family| {
            for jump in JUMPS.iter().rev() {
                if family.runs(&with("-C", jump)) {
                    family.change(&with("-D", jump))?;
                }
            }
            for (table, chain) in CHAINS {
                if family.runs(&["-t", table, "-n", "-L", chain]) {
                    family.change(&["-t", table, "-F", chain])?;
                    family.change(&["-t", table, "-X", chain])?;
                }
            }
            Ok(())
        }),
    }
}

/// Compares what is in force with `plan`, line by line in the tool's own spelling.
///
/// # Errors
/// When the tool cannot be run or refuses.
pub fn check(tool: Tool, plan: &RedirectPlan) -> Result<Found, ApplyError> {
    match tool {
        Tool::Nft => {
            let listed = output("nft", &["-nn", "list", "tables", "inet"])?;
            if !listed
                .lines()
                .any(|line| line.trim() == format!("table inet {TABLE}"))
            {
                return Ok(Found::Absent);
            }
            let found = output("nft", &["-nn", "list", "table", "inet", TABLE])?;
            Ok(compare(&spelled(&rules::nft(plan)), &spelled(&found)))
        }
        Tool::Iptables | Tool::IptablesLegacy => {
            let mut wanted = Vec::new();
            let mut found = Vec::new();
            for family in tool.families() {
                found.extend(chain_lines(&output(family.save, &[])?));
                wanted.extend(chain_lines(&rules::iptables(plan, family.ipv6)));
                for jump in JUMPS {
                    let text = format!("*{}\n-A {}", jump.table, jump.rule.join(" "));
                    wanted.extend(chain_lines(&text));
                }
            }
            // Which chain is listed first says nothing; the order within one decides, so the sort is stable.
            wanted.sort_by(|one, other| one.0.cmp(&other.0));
            found.sort_by(|one, other| one.0.cmp(&other.0));
            let [wanted, found] =
                [wanted, found].map(|lines| lines.into_iter().map(|line| line.1).collect::<Vec<_>>());
            if found.is_empty() {
                return Ok(Found::Absent);
            }
            Ok(compare(&wanted, &found))
        }
    }
}

/// The lines of a table that decide something, in one spelling: nft prints a one-element set without its
/// braces, names the hook's priority, and fills in defaults.
fn spelled(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("delete ") && !line.is_empty())
        .skip_while(|line| !line.starts_with("chain"))
        .map(|line| {
            let line = line.replace("priority dstnat", "priority -100");
            let line = line.replace("meta l4proto 6 ", "meta l4proto tcp ");
            mark_spelled(&line_without_braces(&line))
        })
        .collect()
}

fn line_without_braces(line: &str) -> String {
    match (line.split_once("{ "), line.rsplit_once(" }")) {
        (Some((before, _)), Some((_, after))) if !line.contains(',') => {
            let inside = line[before.len() + 2..line.len() - after.len() - 2].to_owned();
            format!("{before}{inside}{after}")
        }
        _ => line.to_owned(),
    }
}

/// nft prints a mark with eight hex digits.
fn mark_spelled(line: &str) -> String {
    let Some(rest) = line.strip_prefix("meta mark 0x") else {
        return line.to_owned();
    };
    match rest
        .split_once(' ')
        .map(|(hex, end)| (u32::from_str_radix(hex, 16), end))
    {
        Some((Ok(mark), end)) => format!("meta mark {mark:#010x} {end}"),
        _ => line.to_owned(),
    }
}

/// The lines of an iptables-save listing that belong to our chains or lead into them, each behind its table and chain.
fn chain_lines(text: &str) -> Vec<(String, String)> {
    let mut table = "";
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if line.starts_with("-A ") && line.contains("FERRULE_") {
            let chain = line.split(' ').nth(1).unwrap_or_default();
            lines.push((format!("{table} {chain}"), canonical(line)));
        }
    }
    lines
}

/// One spelling for what iptables-save prints and what we wrote.
fn canonical(line: &str) -> String {
    let line = line.replace("-m tcp ", "");
    let mut words: Vec<String> = Vec::new();
    let mut rest = line.split_whitespace().peekable();
    while let Some(word) = rest.next() {
        let value = match word {
            "-d" => rest.next().map(|address| match address.split_once('/') {
                None if address.contains(':') => format!("{address}/128"),
                None => format!("{address}/32"),
                Some(_) => address.to_owned(),
            }),
            "--dport" => rest.next().map(|ports| match ports.split_once(':') {
                Some((first, last)) if first == last => first.to_owned(),
                _ => ports.to_owned(),
            }),
            _ => None,
        };
        words.push(value.map_or_else(|| word.to_owned(), |value| format!("{word} {value}")));
    }
    // iptables prints the protocol after the address; the order decides nothing.
    words.sort();
    words.join(" ")
}

fn compare(wanted: &[String], found: &[String]) -> Found {
    for place in 0..wanted.len().max(found.len()) {
        match (wanted.get(place), found.get(place)) {
            (Some(wanted), Some(found)) if wanted == found => {}
            (Some(wanted), Some(found)) => {
                return Found::Different {
                    first: format!("{found:?} where {wanted:?} should be"),
                };
            }
            (Some(wanted), None) => {
                return Found::Different {
                    first: format!("{wanted:?} is missing"),
                };
            }
            (None, Some(found)) => {
                return Found::Different {
                    first: format!("{found:?} does not belong there"),
                };
            }
            (None, None) => {}
        }
    }
    Found::Installed
}

/// `-t <table> <verb> <rule>`.
fn with(verb: &'static str, jump: &Jump) -> Vec<&'static str> {
    ["-t", jump.table, verb].into_iter().chain(jump.rule).collect()
}

/// The programs of one address family.
struct Family {
    program: &'static str,
    restore: &'static str,
    save: &'static str,
    ipv6: bool,
}

impl Family {
    /// Whether the program does as it is told.
    fn runs(&self, arguments: &[&str]) -> bool {
        let waiting: Vec<&str> = ["-w", LOCK_SECONDS].iter().chain(arguments).copied().collect();
        runs(self.program, &waiting)
    }

    fn change(&self, arguments: &[&str]) -> Result<(), ApplyError> {
        let waiting: Vec<&str> = ["-w", LOCK_SECONDS].iter().chain(arguments).copied().collect();
        feed(self.program, &waiting, "")
    }
}

/// How long a program waits for another that changes rules at the moment.
const LOCK_SECONDS: &str = "10";

const FAMILIES: [Family; 2] = [
    Family {
        program: "iptables-nft",
        restore: "iptables-nft-restore",
        save: "iptables-nft-save",
        ipv6: false,
    },
    Family {
        program: "ip6tables-nft",
        restore: "ip6tables-nft-restore",
        save: "ip6tables-nft-save",
        ipv6: true,
    },
];

const LEGACY_FAMILIES: [Family; 2] = [
    Family {
        program: "iptables-legacy",
        restore: "iptables-legacy-restore",
        save: "iptables-legacy-save",
        ipv6: false,
    },
    Family {
        program: "ip6tables-legacy",
        restore: "ip6tables-legacy-restore",
        save: "ip6tables-legacy-save",
        ipv6: true,
    },
];

/// Whether `program` can be run and ends well.
fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn output(program: &'static str, arguments: &[&str]) -> Result<String, ApplyError> {
    let done = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ApplyError::Run { program, source })?;
    accepted(program, done)
}

fn feed(program: &'static str, arguments: &[&str], input: &str) -> Result<(), ApplyError> {
    let failed = |source: io::Error| ApplyError::Run { program, source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // A tool that refuses before it has read everything says why on its standard error.
            Err(source) if source.kind() != io::ErrorKind::BrokenPipe => return Err(failed(source)),
            _ => {}
        }
    }
    let done = child.wait_with_output().map_err(failed)?;
    accepted(program, done).map(drop)
}

fn accepted(program: &'static str, done: Output) -> Result<String, ApplyError> {
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(ApplyError::Refused {
        program,
        said: said.trim().chars().take(512).collect(),
    })
}

/// Why the rules could not be loaded, removed or read.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// No front end of the packet filter.
    #[error("neither nft nor iptables is installed; install the package nftables")]
    NoTool,
    /// The tool did not start, or went away.
    #[error("cannot run {program}")]
    Run {
        /// Its name.
        program: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The tool ended with an error.
    #[error("{program} refused: {said}; changing rules needs CAP_NET_ADMIN in this network namespace")]
    Refused {
        /// Its name.
        program: &'static str,
        /// The first 512 characters of what it printed.
        said: String,
    },
}
