//! Makes ledgers for tests, in folders that go away by themselves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ferrule_identity::{Fingerprint, KeyAlgorithm, PrivateKey, Timestamp, TrustDomain};

use super::event::{
    AuthorityPrepared, AuthorityStepped, HostEnrolled, Issued, Revoked, Role, Step, Subject, TokenCreated,
    TokenUsed,
};
use super::sqlite::{Options, SqliteLedger};
use super::{Appended, Entry, Event, Ledger, LedgerError, Now, Serial};

/// A folder for one ledger, with a key and a clock that stands still until it is moved.
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
    key: Arc<PrivateKey>,
    seconds: Arc<AtomicI64>,
}

/// The authority that issues in tests.
pub(crate) const ISSUER: &str = "0a1b2c";

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            key: Arc::new(PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()),
            seconds: Arc::new(AtomicI64::new(1_800_000_000)),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder().join("ledger.db")
    }

    pub(crate) fn key(&self) -> Arc<PrivateKey> {
        Arc::clone(&self.key)
    }

    pub(crate) fn now(&self) -> Now {
        let seconds = Arc::clone(&self.seconds);
        Arc::new(move || Timestamp::from_unix(seconds.load(Ordering::Relaxed)))
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) fn options(&self) -> Options {
        let trust_domain = TrustDomain::parse("shop.local").unwrap();
        Options {
            create: true,
            ..Options::new(trust_domain, Some(self.key()), self.now())
        }
    }

    pub(crate) fn open(&self) -> SqliteLedger {
        SqliteLedger::open(&self.folder(), self.options()).unwrap()
    }

    /// A ledger with an active authority.
    pub(crate) async fn open_issuing(&self) -> SqliteLedger {
        let ledger = self.open();
        append(&ledger, prepared(ISSUER, Role::Signing)).await.unwrap();
        append(&ledger, stepped(ISSUER, Step::Active)).await.unwrap();
        ledger
    }

    /// A certificate that is good for an hour from now.
    pub(crate) fn issued(&self, number: u64) -> Issued {
        issued(number, self.now()())
    }
}

/// A certificate that is good for an hour from `now`.
pub(crate) fn issued(number: u64, now: Timestamp) -> Issued {
    Issued {
        serial: serial(number),
        id: format!("spiffe://shop.local/ns/shop/sa/w{number}"),
        profile: "workload".into(),
        issuer: ISSUER.into(),
        not_before: now,
        not_after: now.plus(std::time::Duration::from_secs(3600)),
        key: Fingerprint::of(&number.to_be_bytes()),
        caller: "host:a".into(),
        evidence: "host_key".into(),
        host: None,
    }
}

pub(crate) async fn append(ledger: &dyn Ledger, event: impl Into<Event>) -> Result<Appended, LedgerError> {
    ledger.append(vec![Entry::from(event.into())]).await
}

/// A serial number as random as real ones, and always the same for the same number.
pub(crate) fn serial(number: u64) -> Serial {
    Serial::from_be_bytes(&Fingerprint::of(&number.to_be_bytes()).as_bytes()[..16]).unwrap()
}

pub(crate) fn prepared(authority: &str, role: Role) -> AuthorityPrepared {
    AuthorityPrepared {
        authority: authority.into(),
        role,
        fingerprint: Fingerprint::of(authority.as_bytes()),
        certificate: "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".into(),
        not_before: Timestamp::from_unix(1_700_000_000),
        not_after: Timestamp::from_unix(2_000_000_000),
        by: "test".into(),
    }
}

pub(crate) fn stepped(authority: &str, step: Step) -> AuthorityStepped {
    AuthorityStepped {
        authority: authority.into(),
        step,
        by: "test".into(),
    }
}

pub(crate) fn token(name: &str, expires: Timestamp) -> TokenCreated {
    TokenCreated {
        token: name.into(),
        secret: Fingerprint::of(name.as_bytes()),
        identities: vec!["spiffe://shop.local/ns/shop/*".into()],
        expires,
        by: "test".into(),
    }
}

pub(crate) fn used(token: &str, host: &str) -> TokenUsed {
    TokenUsed {
        token: token.into(),
        host: host.into(),
    }
}

pub(crate) fn enrolled(host: &str, token: &str) -> HostEnrolled {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    HostEnrolled {
        host: host.into(),
        key: key.public_key().clone(),
        identities: vec!["spiffe://shop.local/ns/shop/*".into()],
        token: token.into(),
    }
}

pub(crate) fn revoked(subject: Subject) -> Revoked {
    Revoked {
        subject,
        reason: "stolen".into(),
        by: "test".into(),
    }
}
