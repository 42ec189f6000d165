//! Rotates roots, one step for each command. Where a rotation stands is what the ledger says, so a CA that was
//! stopped at any point goes on from there.

use std::pin::Pin;

use ferrule_identity::{Fingerprint, PrivateKey, Timestamp};

use super::certificate::AuthorityCertificate;
use super::draft::Draft;
use super::error::AuthorityError;
use super::found::certificate_error;
use super::root;
use super::signer::FileSigner;
use super::slots::{Slot, SlotRefusal};
use super::view::{Known, View};
use super::{Authorities, ledger_error, new_key};
use crate::ledger::event::{Role, Step};

/// Knows which live proxies do not hold a bundle yet. The directory does; without one, no new root is activated.
pub trait Acknowledgements: Send + Sync {
    /// The live proxies that have not acknowledged the bundle of this sequence or a later one, by names that an
    /// operator can find them by. Empty when all have.
    ///
    /// # Errors
    /// In words, when it cannot be told; that counts as a reason to wait.
    fn lagging(&self, sequence: u64) -> Lagging<'_>;
}

/// The answer of [`Acknowledgements::lagging`], still to come.
pub type Lagging<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send + 'a>>;

/// Where a new root comes from.
#[derive(Debug)]
pub enum RootSource {
    /// Made here, its key locked into the ledger.
    New,
    /// From elsewhere with its key, which is locked into the ledger.
    WithKey {
        /// The certificate in PEM.
        certificate: String,
        /// Its key.
        key: PrivateKey,
    },
    /// From elsewhere, its key too: this CA stays an intermediate.
    Elsewhere {
        /// The certificate in PEM.
        certificate: String,
    },
}

impl Authorities {
    /// First step: publishes a new root beside the active one, and says its fingerprint. Nothing is signed with it.
    ///
    /// # Errors
    /// When another one waits, the profile refuses it, or the certificate breaks a rule.
    pub async fn prepare_root(&self, source: RootSource, by: &str) -> Result<Fingerprint, AuthorityError> {
        let now = self.now();
        let (certificate, sealed) = self.root_from(source, now)?;
        let _turn = self.turn.lock().await;
        self.read_again().await?;
        let view = self.view();
        let mut draft = Draft::new(&view, by);
        let chain = std::slice::from_ref(&certificate.der);
        draft.add(Role::Root, &certificate, chain, sealed);
        let slot = Slot::root(certificate.authority(), certificate.lifetime, now);
        draft.step(|slots| slots.prepare_root(slot, now))?;
        self.commit(draft, "publish the new root").await?;
        Ok(certificate.authority())
    }

    /// Second step: the prepared root signs from now on, first of all a new signing certificate; the old root stays
    /// trusted. Where the root's key is elsewhere, the signing certificate comes with [`import`](Self::import).
    ///
    /// # Errors
    /// Too soon, somebody lags (named), or nobody can tell whether anybody does.
    pub async fn activate_root(
        &self,
        acknowledgements: Option<&dyn Acknowledgements>,
        by: &str,
    ) -> Result<(), AuthorityError> {
        let _turn = self.turn.lock().await;
        self.read_again().await?;
        let (now, view) = (self.now(), self.view());
        let lagging = match acknowledgements {
            None => None,
            Some(source) => match source.lagging(view.slots.sequence()).await {
                Ok(who) => Some(who),
                Err(reason) => {
                    tracing::warn!(%reason, "cannot tell who holds the new root");
                    None
                }
            },
        };
        let mut draft = Draft::new(&view, by);
        let hint = self.settings.refresh_hint;
        draft.step(|slots| slots.activate_root(hint, lagging.as_deref(), now))?;
        let next = view.slots.prepared_root().and_then(|slot| view.find(slot.id));
        if let Some(next) = next.filter(|next| next.sealed) {
            let key = self.root_key(next.slot.id).await?;
            self.add_new_signing(&mut draft, &next.certificate, &key, now)
                .await?;
        }
        self.commit(draft, "activate the new root").await
    }

    /// Takes the prepared root back.
    ///
    /// # Errors
    /// When none is prepared.
    pub async fn withdraw_root(&self, by: &str) -> Result<(), AuthorityError> {
        let _turn = self.turn.lock().await;
        self.read_again().await?;
        let (now, view) = (self.now(), self.view());
        let mut draft = Draft::new(&view, by);
        draft.step(|slots| slots.withdraw_root(now))?;
        self.commit(draft, "withdraw the prepared root").await
    }

    /// Goes back from a new root to the one before it, which is still trusted by everybody: the last resort when the
    /// new one turns out to be wrong. What the new one signed stays valid until it ends.
    ///
    /// # Errors
    /// When no root is retired, or the retired one has ended.
    pub async fn roll_back_root(&self, by: &str) -> Result<(), AuthorityError> {
        let _turn = self.turn.lock().await;
        self.read_again().await?;
        let (now, view) = (self.now(), self.view());
        let mut draft = Draft::new(&view, by);
        draft.step(|slots| slots.roll_back_root(now))?;
        let old = view
            .slots
            .newest_retired_root()
            .and_then(|slot| view.find(slot.id));
        if let Some(old) = old.filter(|old| old.sealed) {
            let key = self.root_key(old.slot.id).await?;
            self.add_new_signing(&mut draft, &old.certificate, &key, now)
                .await?;
        }
        self.commit(draft, "roll back to the retired root").await
    }

    /// Third step: takes the retired root out of the bundle. `which` is its fingerprint or the beginning of it; it can
    /// be left out when there is only one.
    ///
    /// # Errors
    /// When a certificate that chains to it is live, or a replica still signs below it.
    pub async fn retire_root(&self, which: Option<&str>, by: &str) -> Result<Fingerprint, AuthorityError> {
        let _turn = self.turn.lock().await;
        self.read_again().await?;
        let (now, view) = (self.now(), self.view());
        let root = retired_root(&view, which)?;
        let last = self.last_leaf_below(&view, root.slot.id).await?;
        let mut draft = Draft::new(&view, by);
        draft.step(|slots| slots.remove_root(root.slot.id, last, now))?;
        self.commit(draft, "remove the retired root").await?;
        Ok(root.slot.id)
    }

    /// When the last certificate that chains to `root` ends.
    async fn last_leaf_below(
        &self,
        view: &View,
        root: Fingerprint,
    ) -> Result<Option<Timestamp>, AuthorityError> {
        let uses = self
            .ledger
            .issuers()
            .await
            .map_err(ledger_error("count the live certificates"))?;
        let below = |authority: &str| {
            let id = authority.parse::<Fingerprint>().ok();
            id.and_then(|id| view.find(id))
                .is_some_and(|known| known.slot.root == root)
        };
        Ok(uses
            .iter()
            .filter(|used| used.live > 0 && below(&used.authority))
            .map(|used| used.latest_not_after)
            .max())
    }

    fn root_from(
        &self,
        source: RootSource,
        now: Timestamp,
    ) -> Result<(AuthorityCertificate, Option<Vec<u8>>), AuthorityError> {
        let taking = "take in the root";
        match source {
            RootSource::New => {
                self.refuse_online_root("")?;
                let key = new_key("root", self.settings.root.algorithm)?;
                let sealed = self.seal(&key)?;
                let (domain, life) = (&self.settings.trust_domain, self.settings.root.lifetime);
                let made = root::make_root(domain, &FileSigner::new(key), life, now)
                    .map_err(certificate_error("make the root"))?;
                Ok((made, Some(sealed)))
            }
            RootSource::WithKey { certificate, key } => {
                let read = root::read_root_with_key(&certificate, &key, self.settings.crypto, now)
                    .map_err(certificate_error(taking))?;
                self.refuse_online_root(&read.authority().to_string())?;
                let sealed = self.seal(&key)?;
                Ok((read, Some(sealed)))
            }
            RootSource::Elsewhere { certificate } => {
                let read = root::read_root(&certificate, self.settings.crypto, now)
                    .map_err(certificate_error(taking))?;
                Ok((read, None))
            }
        }
    }
}

/// The retired root that `which` names.
fn retired_root<'v>(view: &'v View, which: Option<&str>) -> Result<&'v Known, AuthorityError> {
    let text = which.unwrap_or_default();
    let retired = |known: &&Known| known.slot.role == Role::Root && known.slot.state == Step::Retired;
    let named = |known: &&Known| {
        known.slot.id.to_string().starts_with(text)
            || known.certificate.fingerprint().to_string().starts_with(text)
    };
    let mut found = view.known.iter().filter(retired).filter(named);
    match (found.next(), found.next()) {
        (Some(known), None) => Ok(known),
        (None, _) if which.is_none() => Err(SlotRefusal::NoneRetired.into()),
        _ => Err(AuthorityError::Which {
            text: text.to_owned(),
        }),
    }
}
