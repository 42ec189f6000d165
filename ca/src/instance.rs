//! Opens what a CA's data folder holds: keys, ledger, certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_identity::{Timestamp, TrustDomain};

use crate::attest::Attested;
use crate::authority::{Authorities, AuthorityError, AuthoritySettings};
use crate::config::Config;
use crate::folder::{Folder, FolderError, Reservation, Reserved};
use crate::issue::{Issuer, LeafPolicy};
use crate::keystore::{Keystore, KeystoreError};
use crate::ledger::refusals::Refusals;
use crate::ledger::sample::SampleLimits;
use crate::ledger::sqlite::{Options, SqliteLedger, peek};
use crate::ledger::{Ledger, LedgerError, Now, OpenError};
use crate::overview::Overview;

/// A CA that is open in this process; others may have it open too.
#[derive(Debug)]
pub struct Instance {
    /// The settings, the trust domain filled in.
    pub config: Config,
    /// Whose identities are issued.
    pub trust_domain: TrustDomain,
    /// The data folder.
    pub folder: Folder,
    /// Where everything is recorded.
    pub ledger: Arc<SqliteLedger>,
    /// The CA's own certificates.
    pub authorities: Arc<Authorities>,
    /// The way of every refusal into the ledger.
    pub refusals: Arc<Refusals>,
    /// Issues certificates.
    pub issuer: Issuer,
    /// The clock that all of it goes by.
    pub clock: Clock,
    /// Whether the ledger was made just now.
    pub is_new: bool,
    _reserved: Reserved,
}

impl Instance {
    /// Opens the CA that `config` describes, by `clock`; with `create`, makes the folder and the ledger where there
    /// are none. Roots are another matter: see [`Authorities::found_new`].
    ///
    /// # Errors
    /// When there is no CA and none is to be made, its trust domain is not known or another one, or a file cannot be
    /// used.
    pub async fn open(config: Config, clock: Clock, create: bool) -> Result<Self, InstanceError> {
        let at = || config.data.clone();
        let folder = if create {
            Folder::create(&config.data)
        } else {
            open_folder(&config.data)
        };
        let folder = folder.map_err(|source| InstanceError::Folder { source })?;
        let is_new = !folder.is_initialised();
        if is_new && !create {
            return Err(InstanceError::NoCa { folder: at() });
        }
        // Making a CA excludes everybody else; using one does not.
        let reservation = if is_new {
            Reservation::Alone
        } else {
            Reservation::Shared
        };
        let reserved = folder
            .reserve(reservation)
            .map_err(|source| InstanceError::Folder { source })?;
        let trust_domain = trust_domain(&config, &folder, is_new)?;
        let keys = Keystore::open(&folder, config.passphrase_file.as_deref());
        let keys = keys.map_err(|source| InstanceError::Keys { source })?;
        let ledger = open_ledger(&folder, &keys, &trust_domain, &clock, is_new)?;
        // From here on others may come in.
        let reserved = reserved
            .shared()
            .map_err(|source| InstanceError::Folder { source })?;
        let ledger = Arc::new(ledger);
        let shared: Arc<dyn Ledger> = ledger.clone();
        let settings = authority_settings(&config, &trust_domain);
        let authorities = Authorities::open(settings, shared.clone(), keys, clock.clone()).await;
        let authorities = Arc::new(authorities.map_err(|source| InstanceError::Authorities { source })?);
        let policy = LeafPolicy {
            trust_domain: trust_domain.clone(),
            default_lifetime: config.leaf.default_lifetime,
            min_lifetime: config.leaf.min_lifetime,
            max_lifetime: config.leaf.max_lifetime,
            crypto: config.crypto,
        };
        let refusals = Refusals::new(shared.clone(), ledger_time(&clock), SampleLimits::default());
        let refusals = Arc::new(refusals);
        let issuer = Issuer::new(
            authorities.clone(),
            shared,
            refusals.clone(),
            clock.clone(),
            policy,
        );
        Ok(Self {
            config,
            trust_domain,
            folder,
            ledger,
            authorities,
            refusals,
            issuer,
            clock,
            is_new,
            _reserved: reserved,
        })
    }

    /// The ledger, as everybody but its own commands knows it.
    pub fn shared_ledger(&self) -> Arc<dyn Ledger> {
        self.ledger.clone()
    }

    /// How the CA is.
    pub fn overview(&self) -> Overview {
        Overview::new(self.authorities.clone(), self.shared_ledger())
    }

    /// Whoever runs a command here.
    pub fn operator(&self) -> Attested {
        Attested::operator(&self.trust_domain)
    }

    /// The CA's clock.
    pub fn now(&self) -> Timestamp {
        Timestamp::from(self.clock.now())
    }

    /// Ends the use of the ledger: what was appended is on disk, the last checkpoint is signed.
    ///
    /// # Errors
    /// When that fails.
    pub async fn close(&self) -> Result<(), LedgerError> {
        self.ledger.close().await
    }
}

fn open_folder(path: &Path) -> Result<Folder, FolderError> {
    Folder::open(path)
}

/// The clock as the ledger takes it.
pub fn ledger_time(clock: &Clock) -> Now {
    let clock = clock.clone();
    Arc::new(move || Timestamp::from(clock.now()))
}

/// What is set, or what the ledger says where nothing is.
fn trust_domain(config: &Config, folder: &Folder, is_new: bool) -> Result<TrustDomain, InstanceError> {
    match (&config.trust_domain, is_new) {
        (Some(trust_domain), _) => Ok(trust_domain.clone()),
        (None, true) => Err(InstanceError::NoTrustDomain {
            folder: folder.path().to_owned(),
        }),
        (None, false) => peek::trust_domain(folder.path()).map_err(|source| InstanceError::Ledger { source }),
    }
}

fn open_ledger(
    folder: &Folder,
    keys: &Keystore,
    trust_domain: &TrustDomain,
    clock: &Clock,
    create: bool,
) -> Result<SqliteLedger, InstanceError> {
    let key = keys
        .replica_key()
        .map_err(|source| InstanceError::Keys { source })?;
    let mut options = Options::new(trust_domain.clone(), Some(Arc::new(key)), ledger_time(clock));
    options.create = create;
    options.patience = PATIENCE;
    SqliteLedger::open(folder.path(), options).map_err(|source| InstanceError::Ledger { source })
}

/// The part of the settings that the CA's own certificates are made by.
pub fn authority_settings(config: &Config, trust_domain: &TrustDomain) -> AuthoritySettings {
    AuthoritySettings {
        trust_domain: trust_domain.clone(),
        profile: config.profile,
        crypto: config.crypto,
        signing: config.signing,
        root: config.root,
        refresh_hint: config.bundle_refresh_hint,
        longest_leaf: config.leaf.max_lifetime,
    }
}

/// Why a CA could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// There is none.
    #[error(
        "there is no CA in {folder}; make one with: ferrule-ca init --trust-domain NAME --data {folder}",
        folder = folder.display()
    )]
    NoCa {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// There is none, and its trust domain is not known.
    #[error(
        "there is no CA in {folder} yet, and a new one needs a name: add --trust-domain NAME, such as shop.local",
        folder = folder.display()
    )]
    NoTrustDomain {
        /// Where it was to be made.
        folder: PathBuf,
    },
    /// The folder cannot be used.
    #[error("cannot use the data folder")]
    Folder {
        /// The cause.
        source: FolderError,
    },
    /// The keys cannot be used.
    #[error("cannot use the CA's keys")]
    Keys {
        /// The cause.
        source: KeystoreError,
    },
    /// The ledger cannot be used.
    #[error("cannot use the CA's ledger")]
    Ledger {
        /// The cause.
        source: OpenError,
    },
    /// The certificates cannot be used.
    #[error("cannot use the CA's certificates")]
    Authorities {
        /// The cause.
        source: AuthorityError,
    },
}

/// How long an append waits for other processes and for a slow disk.
const PATIENCE: Duration = Duration::from_secs(5);
