//! Keeps what other hosts of the mesh say about their workloads, in a folder, until the certificates end that they showed.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ferrule_document::Problems;
use ferrule_identity::{Timestamp, TrustDomain};
use ferrule_policy::{PlaceDocument, ServiceName, Stack};
use ferrule_wire::directory::address;

use crate::model::Model;

/// A folder with a file for each host and namespace.
#[derive(Debug, Clone)]
pub struct Announced {
    folder: PathBuf,
    trust_domain: TrustDomain,
}

/// What a host says of one namespace.
#[derive(Debug, Clone, Copy)]
pub struct Announcement<'a> {
    /// The namespace, which the host has proved to speak for.
    pub namespace: &'a str,
    /// The host.
    pub host: &'a str,
    /// Workloads and services, in YAML; nothing when it leaves.
    pub documents: &'a str,
    /// For how long it counts.
    pub until: Timestamp,
}

impl Announced {
    /// What is kept in `folder`, which need not exist.
    pub const fn new(folder: PathBuf, trust_domain: TrustDomain) -> Self {
        Self { folder, trust_domain }
    }

    /// Takes an announcement in place of the host's last one, as far as it fits what `model` says of others.
    ///
    /// # Errors
    /// When it is about others than the host's own, claims an address that somebody else has, or cannot be kept; then
    /// the last one counts.
    pub fn take(&self, said: Announcement<'_>, model: &Model) -> Result<(), AnnounceError> {
        let host = said.host;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if host.is_empty() || host.len() > 128 || host.starts_with('.') || !host.bytes().all(is_plain) {
            let host = host.chars().take(128).collect();
            return Err(AnnounceError::Host { host });
        }
        let path = self.folder.join(format!("{}.{host}.yaml", said.namespace));
        if said.documents.trim().is_empty() {
            return match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(AnnounceError::Keep { path, source })
                }
                _ => Ok(()),
            };
        }
        let stack = self.read(host, said.documents.as_bytes())?;
        check(&stack, said, model)?;
        let text = format!("{UNTIL}{}\n{}", said.until.unix(), said.documents);
        if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        self.keep(&path, &text)
            .map_err(|source| AnnounceError::Keep { path, source })
    }

    fn keep(&self, path: &Path, text: &str) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        if !path.exists() && fs::read_dir(&self.folder)?.count() >= MOST {
            return Err(io::Error::other(format!(
                "there are {MOST} announcements already"
            )));
        }
        // Hidden until it is whole.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = self.folder.join(format!(".{name}"));
        fs::write(&aside, text)?;
        fs::rename(aside, path)
    }

    fn read(&self, name: &str, bytes: &[u8]) -> Result<Stack, AnnounceError> {
        Stack::read([(name, bytes)], &self.trust_domain)
            .map_err(|problems| AnnounceError::Faults { problems })
    }

    /// The announcements that count at `now`: their names and texts.
    pub fn live(&self, now: Timestamp) -> Vec<(String, Vec<u8>)> {
        // Without the folder nobody has announced anything; a file may go while it is looked for.
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut live: Vec<(String, Vec<u8>)> = entries
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let is_whole = !name.starts_with('.') && name.ends_with(".yaml");
                let text = is_whole.then(|| fs::read(entry.path()).ok())??;
                (until(&text)? > now).then_some((name, text))
            })
            .collect();
        live.sort();
        live
    }

    /// Adds to `stack` what the announcements say and nobody has said before; what cannot be used is told.
    pub fn add(&self, stack: &mut Stack, live: &[(String, Vec<u8>)]) -> Vec<String> {
        let mut known = Known::default();
        for place in &stack.places {
            known.note(place);
        }
        let mut faults = Vec::new();
        for (name, text) in live {
            match self.read(name, text) {
                Ok(announced) => {
                    for place in announced.places {
                        match known.clash(&place) {
                            None => {
                                known.note(&place);
                                stack.places.push(place);
                            }
                            // The first word about a service counts; those behind it may be on several hosts.
                            Some(_) if matches!(place, PlaceDocument::Service(_)) => {}
                            Some(clash) => faults.push(format!("{name}: {clash}")),
                        }
                    }
                }
                Err(error) => faults.push(format!("{name}: {error}")),
            }
        }
        faults
    }
}

/// What is taken.
#[derive(Default)]
struct Known {
    workloads: HashSet<(String, String)>,
    services: HashSet<ServiceName>,
    addresses: HashSet<IpAddr>,
}

impl Known {
    fn note(&mut self, place: &PlaceDocument) {
        match place {
            PlaceDocument::Workload(workload) => {
                self.workloads
                    .insert((workload.namespace.clone(), workload.name.clone()));
                self.addresses.extend(&workload.addresses);
            }
            PlaceDocument::Service(service) => {
                self.services.insert(service.name.clone());
                self.addresses.extend(&service.addresses);
            }
        }
    }

    fn clash(&self, place: &PlaceDocument) -> Option<String> {
        let (is_taken, addresses) = match place {
            PlaceDocument::Workload(workload) => {
                let key = (workload.namespace.clone(), workload.name.clone());
                (self.workloads.contains(&key), &workload.addresses)
            }
            PlaceDocument::Service(service) => (self.services.contains(&service.name), &service.addresses),
        };
        if is_taken {
            return Some("somebody else has the name".to_owned());
        }
        let taken = addresses
            .iter()
            .find(|address| self.addresses.contains(*address))?;
        Some(format!("somebody else has the address {taken}"))
    }
}

/// Whether everything in `stack` is the host's own.
fn check(stack: &Stack, said: Announcement<'_>, model: &Model) -> Result<(), AnnounceError> {
    let domain = model.trust_domain();
    let foreign = |what: &str, name: &str, why: &str| AnnounceError::Foreign {
        what: format!("{what} {name}"),
        why: why.to_owned(),
    };
    if !stack.policies.is_empty() {
        return Err(AnnounceError::Rules);
    }
    let mut own = BTreeSet::new();
    let mut claimed = Vec::new();
    for place in &stack.places {
        match place {
            PlaceDocument::Workload(workload) => {
                let name = &workload.name;
                if workload.namespace != said.namespace {
                    return Err(foreign("the workload", name, "is of another namespace"));
                }
                if !name.ends_with(&format!(".{}", said.host)) {
                    return Err(foreign("the workload", name, "does not end with the host's name"));
                }
                if workload.node.is_none() {
                    return Err(foreign("the workload", name, "names no machine as its own"));
                }
                own.insert(address::workload_name(&workload.namespace, name, domain));
                claimed.extend(&workload.addresses);
            }
            PlaceDocument::Service(service) => {
                if *service.name.namespace != *said.namespace {
                    return Err(foreign(
                        "the service",
                        &service.name.name,
                        "is of another namespace",
                    ));
                }
                own.insert(address::service_name(&service.name));
                claimed.extend(&service.addresses);
            }
        }
    }
    for claimed in claimed {
        let holders = model.find(&address::address_name(claimed));
        // Whoever lives there, and the services before it, are told together.
        let other = holders.iter().find(|(name, _)| !own.contains(&**name));
        if let Some((holder, _)) = other {
            return Err(AnnounceError::Taken {
                address: claimed,
                holder: holder.to_string(),
            });
        }
    }
    Ok(())
}

/// When an announcement stops to count.
fn until(text: &[u8]) -> Option<Timestamp> {
    let line = text.split(|byte| *byte == b'\n').next()?;
    let seconds = std::str::from_utf8(line).ok()?.strip_prefix(UNTIL)?;
    seconds.trim().parse().ok().map(Timestamp::from_unix)
}

const UNTIL: &str = "# until ";

/// More announcements than hosts that anybody joins by hand.
const MOST: usize = 1_000;

/// Why an announcement is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// A name that is none.
    #[error("{host:?} is no host's name: it has more than letters, digits, dots, hyphens and underscores")]
    Host {
        /// What was said.
        host: String,
    },
    /// It cannot be read.
    #[error("the announcement has faults:\n{problems}")]
    Faults {
        /// Which.
        problems: Problems,
    },
    /// Rules lie with the directory.
    #[error("a host announces workloads and services; rules lie with the first host")]
    Rules,
    /// About somebody else's.
    #[error("{what} {why}")]
    Foreign {
        /// Who.
        what: String,
        /// In what.
        why: String,
    },
    /// An address twice.
    #[error("{address} is the address of {holder}; give this host another share: `host.block`")]
    Taken {
        /// The address.
        address: IpAddr,
        /// Who lives there.
        holder: String,
    },
    /// The file cannot be written.
    #[error("cannot keep the announcement in {path}", path = path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
