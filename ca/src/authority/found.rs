//! Brings the first root into being: made here, brought along, or somebody else's.

use std::sync::Arc;

use ferrule_identity::{Fingerprint, PrivateKey, Timestamp};
use rustls_pki_types::CertificateDer;

use super::certificate::AuthorityCertificate;
use super::draft::Draft;
use super::error::AuthorityError;
use super::root::{self, RootError};
use super::signer::{FileSigner, Signer};
use super::slots::Slot;
use super::view;
use super::{Authorities, new_key};
use crate::config::Profile;
use crate::ledger::event::Role;

impl Authorities {
    /// Makes a root here, with the first signing certificate below it. The root's key is locked into the ledger.
    ///
    /// # Errors
    /// When there is a root, or the production profile is in force.
    pub async fn found_new(&self, by: &str) -> Result<(), AuthorityError> {
        self.refuse_online_root("")?;
        let key = new_key("root", self.settings.root.algorithm)?;
        let sealed = self.seal(&key)?;
        let signer = FileSigner::new(key);
        let (domain, life) = (&self.settings.trust_domain, self.settings.root.lifetime);
        let made =
            root::make_root(domain, &signer, life, self.now()).map_err(certificate_error("make the root"))?;
        self.found(&made, &signer, sealed, by).await
    }

    /// Takes a root from elsewhere with its key, with the first signing certificate below it. The root's key is
    /// locked into the ledger; the file that it came from can go.
    ///
    /// # Errors
    /// When there is a root, the production profile is in force, or the root breaks a rule.
    pub async fn found_with(
        &self,
        certificate: &str,
        key: PrivateKey,
        by: &str,
    ) -> Result<(), AuthorityError> {
        let read = root::read_root_with_key(certificate, &key, self.settings.crypto, self.now())
            .map_err(certificate_error("take in the root"))?;
        self.refuse_online_root(&read.authority().to_string())?;
        let sealed = self.seal(&key)?;
        self.found(&read, &FileSigner::new(key), sealed, by).await
    }

    /// Makes a signing key, and a request in PEM for its certificate, to be signed by an authority elsewhere. The
    /// key stays here; [`import`](Self::import) knows it again by what comes back.
    ///
    /// # Errors
    /// When the key cannot be made or kept.
    pub async fn request(&self) -> Result<String, AuthorityError> {
        let key = self.new_signing_key().await?;
        root::request_signing(&self.settings.trust_domain, &key)
            .map_err(certificate_error("make the request"))
    }

    /// Takes in what an authority elsewhere has made of a [`request`](Self::request): the signing certificate and
    /// those above it, and the root that they chain to. The signing certificate is in use at once; the one before it
    /// retires. A root is only needed, and only taken, the first time.
    ///
    /// # Errors
    /// When the chain breaks a rule, its key is not here, or its root is not the active one.
    pub async fn import(&self, chain: &str, root: Option<&str>, by: &str) -> Result<(), AuthorityError> {
        let doing = "take in the chain";
        let _turn = self.turn.lock().await;
        let (now, view) = (self.now(), self.view());
        let crypto = self.settings.crypto;
        let mut draft = Draft::new(&view, by);
        let active = view.slots.active_root().and_then(|slot| view.find(slot.id));
        let trusted = match (active, root) {
            (Some(known), None) => known.certificate.clone(),
            (Some(known), Some(text)) => {
                let given = root::read_root(text, crypto, now).map_err(certificate_error(doing))?;
                if given != known.certificate {
                    return Err(super::slots::SlotRefusal::NotActiveRoot {
                        root: given.authority(),
                    }
                    .into());
                }
                given
            }
            (None, Some(text)) => {
                let given = root::read_root(text, crypto, now).map_err(certificate_error(doing))?;
                draft.add(Role::Root, &given, std::slice::from_ref(&given.der), None);
                let slot = Slot::root(given.authority(), given.lifetime, now);
                draft.step(|slots| slots.found(slot, now))?;
                given
            }
            (None, None) => return Err(AuthorityError::NoRoot),
        };
        let imported =
            root::read_signing_chain(chain, &trusted, crypto, now).map_err(certificate_error(doing))?;
        let key = self.load_key(imported.signing.authority()).await?;
        let signer: Arc<dyn Signer> = Arc::new(FileSigner::new(key));
        self.add_signing(
            &mut draft,
            &imported.signing,
            &imported.chain,
            &trusted,
            signer,
            now,
        )?;
        self.commit(draft, doing).await
    }

    async fn found(
        &self,
        root: &AuthorityCertificate,
        root_key: &FileSigner,
        sealed: Vec<u8>,
        by: &str,
    ) -> Result<(), AuthorityError> {
        let _turn = self.turn.lock().await;
        let (now, view) = (self.now(), self.view());
        let mut draft = Draft::new(&view, by);
        draft.add(Role::Root, root, std::slice::from_ref(&root.der), Some(sealed));
        let slot = Slot::root(root.authority(), root.lifetime, now);
        draft.step(|slots| slots.found(slot, now))?;
        self.add_new_signing(&mut draft, root, root_key, now).await?;
        self.commit(draft, "found the authority").await
    }

    /// Makes the next signing certificate below `root`, and lets it take over.
    pub(super) async fn add_new_signing(
        &self,
        draft: &mut Draft<'_>,
        root: &AuthorityCertificate,
        root_key: &FileSigner,
        now: Timestamp,
    ) -> Result<Fingerprint, AuthorityError> {
        let key = self.new_signing_key().await?;
        let life = self.settings.signing.lifetime;
        let made = root::make_signing(&self.settings.trust_domain, &key, root, root_key, life, now)
            .map_err(certificate_error("make a signing certificate"))?;
        let chain = vec![made.der.clone()];
        self.add_signing(draft, &made, &chain, root, Arc::new(key), now)?;
        Ok(made.authority())
    }

    /// Lets a signing certificate take over, once it has passed its rehearsal.
    fn add_signing(
        &self,
        draft: &mut Draft<'_>,
        signing: &AuthorityCertificate,
        chain: &[CertificateDer<'static>],
        root: &AuthorityCertificate,
        signer: Arc<dyn Signer>,
        now: Timestamp,
    ) -> Result<(), AuthorityError> {
        view::rehearse(
            &self.settings.trust_domain,
            signing,
            chain,
            root,
            signer.as_ref(),
            now,
        )?;
        let id = signing.authority();
        let slot = Slot::signing(id, signing.lifetime, root.authority(), &self.replica, now);
        draft.add(Role::Signing, signing, chain, None);
        // One that was prepared and never took over makes room.
        if let Some(old) = self
            .view()
            .slots
            .prepared_signer(&self.replica)
            .map(|slot| slot.id)
        {
            draft.step(|slots| slots.remove_signer(old, None, now))?;
        }
        draft.step(|slots| slots.prepare_signer(slot, now))?;
        draft.step(|slots| slots.activate_signer(&self.replica, now))?;
        Ok(())
    }

    pub(super) fn seal(&self, key: &PrivateKey) -> Result<Vec<u8>, AuthorityError> {
        let sealed = self.keys.seal(key).map_err(|source| AuthorityError::Keys {
            doing: "lock the root's key",
            source: Box::new(source),
        })?;
        Ok(sealed.as_bytes().to_vec())
    }

    pub(super) fn refuse_online_root(&self, root: &str) -> Result<(), AuthorityError> {
        if self.settings.profile == Profile::Standard {
            return Ok(());
        }
        Err(AuthorityError::OnlineRoot {
            root: root.to_owned(),
        })
    }
}

pub(super) fn certificate_error(doing: &'static str) -> impl FnOnce(RootError) -> AuthorityError {
    move |source| AuthorityError::Certificate {
        doing,
        source: Box::new(source),
    }
}
