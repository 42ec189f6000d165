//! `ferrule install`, `upgrade` and `uninstall`: print what `kubectl` is to apply or delete.

pub(crate) mod arguments;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use ferrule_manifests::{RenderError, Values, remains, render};

use crate::failure::Failure;
use arguments::{Install, Uninstall, Upgrade};

pub(crate) fn install(arguments: &Install) -> Result<ExitCode, Failure> {
    print(&manifests(arguments)?)
}

pub(crate) fn upgrade(arguments: &Upgrade) -> Result<ExitCode, Failure> {
    let to = env!("CARGO_PKG_VERSION");
    if !is_one_step(&arguments.from, to) {
        return Err(Failure::Usage {
            message: format!(
                "this is version {to}, which cannot follow {}: programs work together one minor version apart; \
                 take the versions between in turn",
                arguments.from
            ),
        });
    }
    print(&manifests(&arguments.install)?)
}

pub(crate) fn uninstall(arguments: &Uninstall) -> Result<ExitCode, Failure> {
    print(&remains(&arguments.namespace).map_err(usage)?)
}

fn manifests(arguments: &Install) -> Result<String, Failure> {
    let choices = &arguments.choices;
    let mut values = Values::new(&choices.namespace).map_err(usage)?;
    let mut set = |name: &str, value: &str| values.set(name, value).map_err(usage);
    set("namespaces", "create")?;
    set("trustDomain", arguments.trust_domain.as_str())?;
    set("capture", choices.capture.word())?;
    if let Some(prefix) = &choices.image_prefix {
        set("image.prefix", prefix)?;
    }
    if let Some(tag) = &choices.image_tag {
        set("image.tag", tag)?;
    }
    if let Some(file) = &choices.digests {
        for (name, digest) in digests(file)? {
            set(&format!("digests.{name}"), &format!("@{digest}"))?;
        }
    }
    for value in &choices.values {
        let (name, value) = value.split_once('=').ok_or_else(|| Failure::Usage {
            message: format!("{value:?} is not of the form NAME=VALUE"),
        })?;
        set(name, value)?;
    }
    render(&values).map_err(usage)
}

/// The images' names, without what all of them begin with, and their digests.
fn digests(file: &Path) -> Result<Vec<(String, String)>, Failure> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(Failure::could_not(format!("read {shown}")))?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| {
            let pair = line.split_once(char::is_whitespace).and_then(|(name, digest)| {
                let (name, digest) = (name.strip_prefix("ferrule-")?, digest.trim());
                is_digest(digest).then(|| (name.to_owned(), digest.to_owned()))
            });
            pair.ok_or_else(|| Failure::Usage {
                message: format!(
                    "line {} of {shown} is not an image's name and sha256: with 64 digits",
                    number + 1
                ),
            })
        })
        .collect()
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|digits| {
        digits.len() == 64
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Whether `to` may follow `from`: the same minor version, or the next.
fn is_one_step(from: &str, to: &str) -> bool {
    let read = |text: &str| {
        let mut parts = text.trim_start_matches('v').split('.').map(str::parse::<u64>);
        match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
            _ => None,
        }
    };
    match (read(from), read(to)) {
        (Some((from_major, from)), Some((to_major, to))) => {
            from_major == to_major && (from == to || from + 1 == to)
        }
        _ => false,
    }
}

fn usage(error: RenderError) -> Failure {
    Failure::Usage {
        message: ferrule_daemon::logging::Chain(&error).to_string(),
    }
}

fn print(text: &str) -> Result<ExitCode, Failure> {
    let done = std::io::stdout().write_all(text.as_bytes());
    done.map_err(Failure::could_not("print the manifests"))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_takes_one_step() {
        for (from, to, may) in [
            ("0.1.0", "0.1.3", true),
            ("v0.1.0", "0.2.0", true),
            ("0.1.0", "0.3.0", false),
            ("0.2.0", "0.1.9", false),
            ("0.1.0", "1.1.0", false),
            ("new", "0.1.0", false),
        ] {
            assert_eq!(is_one_step(from, to), may, "{from} {to}");
        }
    }
}
