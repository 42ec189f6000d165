//! Holds the CA's own certificates: roots, signing certificates, their keys, their turn.
//!
//! What holds is what the ledger says ([`View`]); this process only keeps a copy with the keys opened, and reads it
//! again when the ledger changes. Reading order: [`slots`] (whose turn it is; pure), [`view`], `found` (how the
//! first root comes to be), `rotate` (roots, by command), [`rotation`] (signing certificates, by itself).

mod active;
pub(crate) mod certificate;
mod draft;
pub mod error;
mod found;
pub(crate) mod root;
mod rotate;
pub mod rotation;
pub mod signer;
pub mod slots;
pub mod view;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_identity::{Fingerprint, KeyAlgorithm, PrivateKey, Timestamp, TrustDomain};
use tokio::sync::watch;

use crate::config::{Profile, RootConfig, SigningConfig};
use crate::crypto::{CryptoProfile, listed};
use crate::keystore::{Keystore, KeystoreError, SecretKind};
use crate::ledger::event::Role;
use crate::ledger::{Ledger, LedgerError};

pub use active::ActiveSigner;
pub use error::AuthorityError;
pub use rotate::{Acknowledgements, Lagging, RootSource};
pub use view::{Listed, View};

use draft::Draft;
use signer::{FileSigner, Signer};
use view::Known;

/// What the CA's own certificates are made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthoritySettings {
    /// Whose identities are vouched for.
    pub trust_domain: TrustDomain,
    /// How much is demanded of the keys' keeping.
    pub profile: Profile,
    /// Which algorithms are used.
    pub crypto: CryptoProfile,
    /// Signing certificates.
    pub signing: SigningConfig,
    /// Roots that are made here.
    pub root: RootConfig,
    /// How often peers ask for the bundle.
    pub refresh_hint: Duration,
    /// The longest life of a leaf: a signing certificate is replaced before it would shorten one.
    pub longest_leaf: Duration,
}

/// The CA's own certificates with their keys, as the ledger says they are.
pub struct Authorities {
    settings: AuthoritySettings,
    replica: String,
    ledger: Arc<dyn Ledger>,
    keys: Arc<Keystore>,
    clock: Clock,
    view: watch::Sender<Arc<View>>,
    /// One change or reading at a time, so that a slow reading never replaces a newer one.
    turn: tokio::sync::Mutex<()>,
}

impl Authorities {
    /// Takes what the ledger says into use. That there is no root yet is no error here; see
    /// [`found_new`](Self::found_new), [`request`](Self::request) and [`import`](Self::import).
    ///
    /// # Errors
    /// When the ledger or a key cannot be read, the settings contradict each other, or the production profile meets
    /// a root or a secret that it does not take.
    pub async fn open(
        settings: AuthoritySettings,
        ledger: Arc<dyn Ledger>,
        keys: Keystore,
        clock: Clock,
    ) -> Result<Self, AuthorityError> {
        check_settings(&settings, &keys)?;
        let chain = ledger.chain().await.map_err(ledger_error("find the replica"))?;
        let authorities = Self {
            replica: chain.replica,
            settings,
            ledger,
            keys: Arc::new(keys),
            clock,
            view: watch::channel(Arc::new(View::empty())).0,
            turn: tokio::sync::Mutex::new(()),
        };
        authorities.refresh().await?;
        authorities.check_profile()?;
        authorities.republish_after_restore().await?;
        Ok(authorities)
    }

    /// The certificates as this process last read them.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Tells of every new [`View`].
    pub fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// The signing certificate in use.
    ///
    /// # Errors
    /// Why there is none.
    pub fn active_signer(&self) -> Result<Arc<ActiveSigner>, Arc<AuthorityError>> {
        self.view.borrow().active.clone()
    }

    /// What the certificates are made by.
    pub const fn settings(&self) -> &AuthoritySettings {
        &self.settings
    }

    /// The keys.
    pub fn keys(&self) -> &Keystore {
        &self.keys
    }

    /// Reads the ledger again, opens the keys that are new, and lets go of those that are gone.
    ///
    /// # Errors
    /// When the ledger cannot be read; the last view then stays. A signing key that cannot be opened is no error
    /// here: the view says so, and whoever wants to sign learns why.
    pub async fn refresh(&self) -> Result<(), AuthorityError> {
        let _turn = self.turn.lock().await;
        self.read_again().await
    }

    async fn read_again(&self) -> Result<(), AuthorityError> {
        let reading = ledger_error("read the authorities");
        let authorities = self.ledger.authorities().await.map_err(reading)?;
        let bundle = self
            .ledger
            .bundle()
            .await
            .map_err(ledger_error("read the bundle"))?;
        let mut view = View::read(&self.replica, &authorities, &bundle)?;
        let before = self.view();
        let mut signers = Vec::new();
        let wanted: Vec<Known> = view
            .known
            .iter()
            .filter(|known| view::keeps_list(&known.slot))
            .cloned()
            .collect();
        let active = view.slots.active_signer(&self.replica).map(|slot| slot.id);
        view.active = Err(Arc::new(match view.slots.active_root() {
            Some(_) => AuthorityError::NoSigner,
            None => AuthorityError::NoRoot,
        }));
        for known in wanted {
            let name = known.slot.id.to_string();
            let kept = before
                .list_signers
                .iter()
                .find(|signer| signer.authority() == name);
            let opened = match kept {
                Some(signer) => Ok(Arc::clone(signer)),
                None => self.open_signer(&view, &known).await.map(Arc::new),
            };
            if let Err(error) = &opened {
                tracing::error!(authority = %name, %error, "signing certificate cannot be used");
            }
            let is_active = active == Some(known.slot.id);
            match (opened, is_active) {
                (Ok(signer), true) => {
                    view.active = Ok(Arc::clone(&signer));
                    signers.push(signer);
                }
                (Ok(signer), false) => signers.push(signer),
                (Err(error), true) => view.active = Err(Arc::new(error)),
                (Err(_), false) => {}
            }
        }
        view.list_signers = signers;
        self.view.send_replace(Arc::new(view));
        Ok(())
    }

    async fn open_signer(&self, view: &View, known: &Known) -> Result<ActiveSigner, AuthorityError> {
        let key = self.load_key(known.slot.id).await?;
        let signer: Arc<dyn Signer> = Arc::new(FileSigner::new(key));
        view::prepare(&self.settings.trust_domain, view, known, signer, self.now())
    }

    /// Opens a key of the folder, away from the tasks that answer others: it takes a while on purpose.
    async fn load_key(&self, id: Fingerprint) -> Result<PrivateKey, AuthorityError> {
        if !self.keys.has(id) {
            return Err(AuthorityError::NoKey {
                key: id,
                folder: self.keys.folder().keys(),
            });
        }
        self.with_keys("open the signing key", move |keys| keys.load(id))
            .await
    }

    /// The key of a root that is ours.
    async fn root_key(&self, id: Fingerprint) -> Result<FileSigner, AuthorityError> {
        let doing = "read the root's key";
        let sealed = self
            .ledger
            .sealed(id.to_string())
            .await
            .map_err(ledger_error(doing))?;
        let sealed = sealed.ok_or_else(|| AuthorityError::RootElsewhere { root: id.to_string() })?;
        let opened = move |keys: &Keystore| keys.unseal(&id.to_string(), &sealed);
        Ok(FileSigner::new(
            self.with_keys("open the root's key", opened).await?,
        ))
    }

    async fn with_keys<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Keystore) -> Result<T, KeystoreError> + Send + 'static,
    ) -> Result<T, AuthorityError> {
        let keys = Arc::clone(&self.keys);
        let worked = tokio::task::spawn_blocking(move || work(&keys)).await;
        worked
            .map_err(|_| AuthorityError::Cancelled)?
            .map_err(|source| AuthorityError::Keys {
                doing,
                source: Box::new(source),
            })
    }

    /// Makes a key of the folder for the next signing certificate. It is on disk before anything names it.
    async fn new_signing_key(&self) -> Result<FileSigner, AuthorityError> {
        let algorithm = self.settings.signing.algorithm;
        let key = new_key("signing certificate", algorithm)?;
        let kept = move |keys: &Keystore| keys.store(&key).map(|_| key);
        Ok(FileSigner::new(
            self.with_keys("keep the signing key", kept).await?,
        ))
    }

    /// Writes a draft down and reads the result. What somebody else changed meanwhile makes it fail as a whole.
    async fn commit(&self, draft: Draft<'_>, doing: &'static str) -> Result<(), AuthorityError> {
        let entries = draft.into_entries();
        self.ledger.append(entries).await.map_err(ledger_error(doing))?;
        self.read_again().await
    }

    async fn republish_after_restore(&self) -> Result<(), AuthorityError> {
        let _turn = self.turn.lock().await;
        let bundle = self
            .ledger
            .bundle()
            .await
            .map_err(ledger_error("read the bundle"))?;
        if !draft::must_republish(bundle.sequence, bundle.next) {
            return Ok(());
        }
        let view = self.view();
        let mut draft = Draft::new(&view, "restore");
        draft.republish(bundle.next);
        self.commit(draft, "publish the bundle again").await
    }

    /// The production profile and a root whose key is here do not go together.
    fn check_profile(&self) -> Result<(), AuthorityError> {
        if self.settings.profile == Profile::Standard {
            return Ok(());
        }
        let view = self.view();
        let online = view
            .known
            .iter()
            .find(|known| known.slot.role == Role::Root && known.sealed);
        match online {
            Some(known) => Err(AuthorityError::OnlineRoot {
                root: known.slot.id.to_string(),
            }),
            None => Ok(()),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from(self.clock.now())
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities")
            .field("trust_domain", &self.settings.trust_domain)
            .field("view", &self.view())
            .finish_non_exhaustive()
    }
}

fn check_settings(settings: &AuthoritySettings, keys: &Keystore) -> Result<(), AuthorityError> {
    if settings.profile == Profile::Production && keys.kind() == SecretKind::BesideData {
        return Err(AuthorityError::SecretBesideData {
            path: keys.source().to_owned(),
        });
    }
    let (signing, root) = (settings.signing.algorithm, settings.root.algorithm);
    check_algorithm(
        "signing.algorithm",
        signing,
        settings.crypto.signing_keys(),
        settings.crypto,
    )?;
    check_algorithm(
        "root.algorithm",
        root,
        settings.crypto.root_keys(),
        settings.crypto,
    )
}

fn check_algorithm(
    setting: &str,
    algorithm: KeyAlgorithm,
    accepted: &[KeyAlgorithm],
    crypto: CryptoProfile,
) -> Result<(), AuthorityError> {
    if accepted.contains(&algorithm) {
        return Ok(());
    }
    Err(AuthorityError::Algorithm(format!(
        "{setting} is {algorithm}; the crypto profile {crypto} takes {}",
        listed(accepted)
    )))
}

fn new_key(what: &'static str, algorithm: KeyAlgorithm) -> Result<PrivateKey, AuthorityError> {
    PrivateKey::generate(algorithm).map_err(|source| AuthorityError::NewKey {
        what,
        source: Box::new(source),
    })
}

fn ledger_error(doing: &'static str) -> impl FnOnce(LedgerError) -> AuthorityError {
    move |source| AuthorityError::Ledger {
        doing,
        source: Box::new(source),
    }
}

#[cfg(test)]
pub(crate) mod tests;
