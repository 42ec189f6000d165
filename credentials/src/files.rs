//! Follows credentials that another authority keeps in files: cert-manager, SPIRE's helper, an operator.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use ferrule_identity::certificate::read_chain;
use ferrule_identity::pem::{self, PemLimits};
use ferrule_identity::tls::{TrustCell, TrustSnapshot};
use ferrule_identity::{
    BundleError, Bundles, CertificateError, Crl, CrlError, Fingerprint, KeyError, PemError, PrivateKey,
    Revocations, Timestamp, TrustBundle, TrustDomain, WorkloadCertificate,
};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{Credentials, Newest};

mod stamp;

use stamp::{Stamp, Watched};

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The trust domain that the bundle is for; it is never inferred from the certificates.
    pub trust_domain: TrustDomain,
    /// The chain, leaf first, in PEM.
    pub chain: PathBuf,
    /// The leaf's private key, in PEM, not encrypted.
    pub key: PathBuf,
    /// The roots, in PEM, or in SPIFFE's JSON when the name ends in `.json`.
    pub bundle: PathBuf,
    /// Certificate revocation lists in PEM, if there are any.
    pub crls: Option<PathBuf>,
}

/// Looks at the files again and again, and publishes what is new and in order.
#[derive(Debug)]
pub struct FileKeeper {
    files: Files,
    clock: Clock,
    trust: Arc<TrustCell>,
    credentials: watch::Sender<Option<Arc<Credentials>>>,
    /// What was read last, taken or not.
    seen: Option<Fingerprint>,
    watched: Watched,
}

/// What came of a look at the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// By their marks they are as they were, so they were not read.
    Unread,
    /// They hold what they held.
    Same,
    /// What they hold is new, and in force now.
    Taken,
}

impl FileKeeper {
    /// Reads the files for the first time. `trust` follows them in place.
    ///
    /// # Errors
    /// Names the file that cannot be read, or what is wrong with what it holds.
    pub fn open(files: Files, trust: Arc<TrustCell>, clock: Clock) -> Result<(Self, Newest), FilesError> {
        let (credentials, for_credentials) = watch::channel(None);
        let mut keeper = Self {
            files,
            clock,
            trust,
            credentials,
            seen: None,
            watched: Watched::default(),
        };
        keeper.look()?;
        Ok((keeper, for_credentials))
    }

    /// Looks again every [`LOOK_AGAIN`], for ever. Files that are not in order, such as a new chain whose key has not
    /// been written yet, change nothing; the fault is logged once.
    pub async fn run(mut self) -> Infallible {
        let mut said = String::new();
        loop {
            self.clock.sleep(LOOK_AGAIN).await;
            match self.look() {
                Ok(Looked::Taken) => said.clear(),
                Ok(Looked::Unread | Looked::Same) => {}
                Err(error) => {
                    let error = Chain(&error).to_string();
                    if error != said {
                        warn!(
                            error,
                            "credential files not taken, the last good ones stay in force"
                        );
                    }
                    said = error;
                }
            }
        }
    }

    /// Reads the files unless they are certain to be as they were, and publishes them if they are others than last
    /// time and in order.
    fn look(&mut self) -> Result<Looked, FilesError> {
        // Before the reading: what changes meanwhile has other marks at the next look.
        let stamps = self.files.stamps().inspect_err(|_| self.watched.forget())?;
        if !self.watched.is_due(stamps) {
            return Ok(Looked::Unread);
        }
        let texts = Texts::read(&self.files).inspect_err(|_| self.watched.forget())?;
        let print = texts.fingerprint();
        if self.seen == Some(print) {
            return Ok(Looked::Same);
        }
        // Seen, whatever comes of it: the same fault is reported once.
        self.seen = Some(print);
        let now = Timestamp::from_unix(self.clock.unix());
        let (certificate, trust) = texts.check(&self.files, now)?;
        info!(
            id = %certificate.id(), serial = %certificate.serial(),
            not_after = %certificate.lifetime().not_after(), "credential files taken"
        );
        // The deny list comes from elsewhere, and stays.
        let merged = |held: &TrustSnapshot| {
            let held = &held.revocations;
            let revocations = Revocations::new(held.generation(), held.denied().clone(), trust.crls);
            Ok::<_, Infallible>(Some(TrustSnapshot {
                bundles: trust.bundles,
                revocations,
            }))
        };
        let Ok(_) = self.trust.update(merged);
        let credentials = Credentials {
            certificate,
            trust: self.trust.load(),
        };
        self.credentials.send_replace(Some(Arc::new(credentials)));
        Ok(Looked::Taken)
    }
}

impl Files {
    fn stamps(&self) -> Result<Vec<Stamp>, FilesError> {
        [&self.chain, &self.key, &self.bundle]
            .into_iter()
            .chain(&self.crls)
            .map(|path| {
                Stamp::of(path).map_err(|source| FilesError::Read {
                    path: path.clone(),
                    source,
                })
            })
            .collect()
    }
}

/// What the files say of trust.
struct FromFiles {
    bundles: Bundles,
    crls: Vec<Crl>,
}

/// What the files hold.
struct Texts {
    chain: String,
    key: zeroize::Zeroizing<String>,
    bundle: String,
    crls: Option<String>,
}

impl Texts {
    fn read(files: &Files) -> Result<Self, FilesError> {
        Ok(Self {
            chain: read(&files.chain)?,
            key: zeroize::Zeroizing::new(read(&files.key)?),
            bundle: read(&files.bundle)?,
            crls: files.crls.as_deref().map(read).transpose()?,
        })
    }

    fn fingerprint(&self) -> Fingerprint {
        let each = [
            &self.chain,
            &*self.key,
            &self.bundle,
            self.crls.as_ref().unwrap_or(&String::new()),
        ]
        .map(|text| *Fingerprint::of(text.as_bytes()).as_bytes());
        Fingerprint::of(&each.concat())
    }

    fn check(&self, files: &Files, now: Timestamp) -> Result<(WorkloadCertificate, FromFiles), FilesError> {
        let trust_domain = files.trust_domain.clone();
        let json = files
            .bundle
            .extension()
            .is_some_and(|extension| extension == "json");
        let bundle = if json {
            TrustBundle::from_jwks(trust_domain, &self.bundle, now)
        } else {
            TrustBundle::from_pem(trust_domain, &self.bundle, now)
        }
        .map_err(|source| FilesError::Bundle {
            path: files.bundle.clone(),
            source: Box::new(source),
        })?;
        let key = PrivateKey::from_pem(&self.key).map_err(|source| FilesError::Key {
            path: files.key.clone(),
            source,
        })?;
        let certificate =
            WorkloadCertificate::from_pem(&self.chain, key, &bundle, now).map_err(|source| {
                FilesError::Chain {
                    path: files.chain.clone(),
                    source: Box::new(source),
                }
            })?;
        let crls = self.crls(files, &bundle, now)?;
        let bundles = Bundles::from_iter([bundle]);
        Ok((certificate, FromFiles { bundles, crls }))
    }

    fn crls(&self, files: &Files, bundle: &TrustBundle, now: Timestamp) -> Result<Vec<Crl>, FilesError> {
        let (Some(text), Some(path)) = (&self.crls, &files.crls) else {
            return Ok(Vec::new());
        };
        let mut issuers = read_chain(&self.chain).map_err(|source| FilesError::Chain {
            path: files.chain.clone(),
            source: Box::new(source),
        })?;
        issuers.extend(bundle.anchors().iter().map(|anchor| anchor.der().clone()));
        let blocks =
            pem::read_all(text, pem::X509_CRL, PemLimits::CHAIN).map_err(|source| FilesError::Pem {
                path: path.clone(),
                source,
            })?;
        blocks
            .iter()
            .map(|block| Crl::from_der(block.der(), &issuers, now))
            .collect::<Result<_, _>>()
            .map_err(|source| FilesError::Crl {
                path: path.clone(),
                source: Box::new(source),
            })
    }
}

fn read(path: &Path) -> Result<String, FilesError> {
    let failed = |source| FilesError::Read {
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_FILE_BYTES {
        return Err(failed(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "more than 16 MiB",
        )));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// How often the files are looked at. Kubernetes swaps a mounted secret by a link, which a watch on the file itself
/// would miss; looking at where the names lead does not.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);

const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Why files are not taken.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file that cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Roots that are not trusted.
    #[error("the bundle in {path} is refused", path = path.display())]
    Bundle {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<BundleError>,
    },
    /// A key that is none.
    #[error("the private key in {path} is refused", path = path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// A chain that peers would refuse.
    #[error("the certificate in {path} is refused", path = path.display())]
    Chain {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<CertificateError>,
    },
    /// Lists that are not taken.
    #[error("the revocation lists in {path} are refused", path = path.display())]
    Crl {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<CrlError>,
    },
    /// Text that is not PEM.
    #[error("{path} is not PEM", path = path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// The line, and what is wrong there.
        source: PemError,
    },
}

#[cfg(test)]
mod tests;
