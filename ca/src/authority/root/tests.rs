//! Tries what comes from elsewhere: roots with their keys, and chains that an offline root signed.

use ferrule_daemon::clock::Clock;
use ferrule_identity::{Bundles, PublicKey, Revocations, SigningRequest, verify};

use super::*;
use crate::authority::{Acknowledgements, AuthorityError, Lagging, RootSource};
use crate::lab::{Lab, START, WEB};
use crate::ledger::Ledger;
use crate::ledger::event::Step;

/// An authority that this CA is not: the offline root of an enterprise.
struct Offline {
    key: FileSigner,
    pem_key: String,
    certificate: CertificateDer<'static>,
    subject: Subject,
}

/// What is different about a certificate from how it should be.
#[derive(Clone, Copy)]
struct Odd {
    life: (i64, i64),
    path_length: Option<u8>,
    uri_constraints: bool,
    authority: bool,
}

const FINE: Odd = Odd {
    life: (-1000, 86_400 * 365),
    path_length: None,
    uri_constraints: false,
    authority: true,
};

impl Offline {
    fn new(algorithm: KeyAlgorithm, odd: Odd) -> Self {
        let key = PrivateKey::generate(algorithm).unwrap();
        let pem_key = key.to_pem().to_string();
        let key = FileSigner::new(key);
        let subject = Subject::new("Example", "Example Root").unwrap();
        let key_id = key.public_key().fingerprint();
        let by = IssuedBy {
            signer: &key,
            name: &subject,
            key_id: key_id.as_bytes(),
        };
        let certificate = made(by, subject.clone(), key.public_key(), odd);
        Self {
            pem_key,
            certificate,
            subject,
            key,
        }
    }

    fn pem(&self) -> String {
        write_chain(std::slice::from_ref(&self.certificate))
    }

    fn key(&self) -> PrivateKey {
        PrivateKey::from_pem(&self.pem_key).unwrap()
    }

    /// Signs what a CSR asks for.
    fn sign(&self, request: &str, odd: Odd) -> String {
        let request = SigningRequest::from_pem(request).unwrap();
        let subject = Subject::new("Example", "Example mesh").unwrap();
        let key_id = self.key.public_key().fingerprint();
        let by = IssuedBy {
            signer: &self.key,
            name: &self.subject,
            key_id: key_id.as_bytes(),
        };
        write_chain(&[made(by, subject, request.public_key(), odd)])
    }
}

fn made(by: IssuedBy<'_>, subject: Subject, key: &PublicKey, odd: Odd) -> CertificateDer<'static> {
    let used_for = match odd.authority {
        true => Use::Authority {
            path_length: odd.path_length,
        },
        false => Use::Peer,
    };
    let mut extensions = x509::use_extensions(used_for, key).unwrap();
    if odd.uri_constraints {
        extensions.push(uri_constraints());
    }
    let at = |seconds| Timestamp::from_unix(START + seconds);
    let fields = Fields {
        serial: random_serial().unwrap(),
        subject,
        key,
        lifetime: Lifetime::new(at(odd.life.0), at(odd.life.1)).unwrap(),
        extensions,
    };
    x509::certificate(fields, by).unwrap()
}

/// permittedSubtrees with the URI host `shop.local`.
fn uri_constraints() -> x509_cert::ext::Extension {
    use x509_cert::der::Encode;
    use x509_cert::der::asn1::{Ia5String, OctetString};
    use x509_cert::ext::pkix::NameConstraints;
    use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
    use x509_cert::ext::pkix::name::GeneralName;
    let base = GeneralName::UniformResourceIdentifier(Ia5String::new("shop.local").unwrap());
    let subtree = GeneralSubtree {
        base,
        minimum: 0,
        maximum: None,
    };
    let value = NameConstraints {
        permitted_subtrees: Some(vec![subtree]),
        excluded_subtrees: None,
    };
    x509_cert::ext::Extension {
        extn_id: x509_cert::der::oid::ObjectIdentifier::new_unwrap("2.5.29.30"),
        critical: true,
        extn_value: OctetString::new(value.to_der().unwrap()).unwrap(),
    }
}

fn told(error: &AuthorityError) -> String {
    ferrule_daemon::logging::Chain(error).to_string()
}

#[tokio::test]
async fn a_root_of_every_kind_is_taken_in_with_its_key() {
    for algorithm in KeyAlgorithm::MADE {
        let offline = Offline::new(algorithm, FINE);
        let lab = Lab::rootless(|_| {}).await;
        lab.ca
            .authorities
            .found_with(&offline.pem(), offline.key(), "test")
            .await
            .unwrap();
        let issued = lab.issue(WEB).await.unwrap();
        let bundles = Bundles::from_iter([lab.bundle()]);
        verify(&issued.chain, &bundles, &Revocations::empty(), lab.now()).unwrap();
        assert_eq!(lab.bundle().anchors()[0].der(), &offline.certificate);
    }
}

#[tokio::test]
async fn a_root_that_breaks_a_rule_is_refused_with_the_rule() {
    let other = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let lab = Lab::rootless(|_| {}).await;
    let authorities = &lab.ca.authorities;
    let fine = Offline::new(KeyAlgorithm::EcdsaP256, FINE);
    let error = authorities
        .found_with(&fine.pem(), other, "test")
        .await
        .unwrap_err();
    assert!(
        told(&error).contains("not the one of the root"),
        "{}",
        told(&error)
    );
    for (odd, expected) in [
        (
            Odd {
                life: (-1000, -1),
                ..FINE
            },
            "is valid from",
        ),
        (
            Odd {
                life: (1, 1000),
                ..FINE
            },
            "is valid from",
        ),
        (
            Odd {
                path_length: Some(0),
                ..FINE
            },
            "pathLen must be 1",
        ),
        (
            Odd {
                uri_constraints: true,
                ..FINE
            },
            "rustls refuses every SPIFFE ID",
        ),
        (
            Odd {
                authority: false,
                ..FINE
            },
            "cannot be used",
        ),
    ] {
        let offline = Offline::new(KeyAlgorithm::EcdsaP256, odd);
        let error = authorities
            .found_with(&offline.pem(), offline.key(), "test")
            .await
            .unwrap_err();
        assert!(told(&error).contains(expected), "{}", told(&error));
    }
    let two = format!("{}{}", fine.pem(), fine.pem());
    let error = authorities
        .found_with(&two, fine.key(), "test")
        .await
        .unwrap_err();
    assert!(told(&error).contains("exactly one root"), "{}", told(&error));
    assert!(
        lab.ca.ledger.authorities().await.unwrap().is_empty(),
        "nothing was taken in"
    );
}

#[tokio::test]
async fn the_crypto_profile_judges_roots_from_elsewhere_too() {
    let lab = Lab::rootless(|config| {
        config.crypto = CryptoProfile::Cnsa1;
        config.root.algorithm = KeyAlgorithm::EcdsaP384;
        config.signing.algorithm = KeyAlgorithm::EcdsaP384;
    })
    .await;
    let offline = Offline::new(KeyAlgorithm::EcdsaP256, FINE);
    let error = lab
        .ca
        .authorities
        .found_with(&offline.pem(), offline.key(), "test")
        .await
        .unwrap_err();
    assert!(
        told(&error).contains("p256") && told(&error).contains("p384"),
        "{}",
        told(&error)
    );
}

/// N-1: the root's key is never here.
#[tokio::test]
async fn a_ca_below_somebody_elses_root_issues_and_goes_on() {
    let offline = Offline::new(KeyAlgorithm::Rsa3072, FINE);
    let lab = Lab::rootless(|_| {}).await;
    let request = lab.ca.authorities.request().await.unwrap();
    let lab = lab.restarted().await;
    let signing = Odd {
        path_length: Some(0),
        life: (-300, 86_400 * 30),
        ..FINE
    };
    let chain = offline.sign(&request, signing);
    lab.ca
        .authorities
        .import(&chain, Some(&offline.pem()), "test")
        .await
        .unwrap();
    let issued = lab.issue(WEB).await.unwrap();
    let bundles = Bundles::from_iter([lab.bundle()]);
    verify(&issued.chain, &bundles, &Revocations::empty(), lab.now()).unwrap();
    assert!(lab.ca.authorities.view().all().all(|listed| !listed.key_here));

    // Nothing rotates by itself without the root's holder; the next request and answer do.
    lab.advance(86_400 * 29);
    lab.ca.authorities.tend().await.unwrap();
    assert_eq!(lab.issue(WEB).await.unwrap().issuer, issued.issuer);
    let request = lab.ca.authorities.request().await.unwrap();
    let chain = offline.sign(
        &request,
        Odd {
            life: (86_400 * 29, 86_400 * 60),
            ..signing
        },
    );
    lab.ca.authorities.import(&chain, None, "test").await.unwrap();
    assert_ne!(lab.issue(WEB).await.unwrap().issuer, issued.issuer);
    let states: Vec<Step> = lab
        .ca
        .authorities
        .view()
        .all()
        .map(|listed| listed.slot.state)
        .collect();
    assert_eq!(states, [Step::Active, Step::Retired, Step::Active]);
}

#[tokio::test]
async fn a_chain_that_breaks_a_rule_is_refused_with_the_rule() {
    let offline = Offline::new(KeyAlgorithm::EcdsaP256, FINE);
    let stranger = Offline::new(KeyAlgorithm::EcdsaP256, FINE);
    let lab = Lab::rootless(|_| {}).await;
    let authorities = &lab.ca.authorities;
    let request = authorities.request().await.unwrap();
    let elsewhere = Lab::rootless(|_| {})
        .await
        .ca
        .authorities
        .request()
        .await
        .unwrap();
    let root = offline.pem();
    for (chain, expected) in [
        (
            offline.sign(
                &request,
                Odd {
                    uri_constraints: true,
                    ..FINE
                },
            ),
            "rustls refuses every SPIFFE ID",
        ),
        (
            offline.sign(
                &request,
                Odd {
                    life: (-1000, -1),
                    ..FINE
                },
            ),
            "is valid from",
        ),
        (
            offline.sign(
                &request,
                Odd {
                    authority: false,
                    ..FINE
                },
            ),
            "cannot be used",
        ),
        (offline.sign(&elsewhere, FINE), "is not in"),
        (stranger.sign(&request, FINE), "was not issued by"),
        (root.clone(), "no signing certificate"),
        ("nonsense".to_owned(), "cannot read the certificates"),
    ] {
        let error = authorities.import(&chain, Some(&root), "test").await.unwrap_err();
        assert!(told(&error).contains(expected), "{}", told(&error));
    }
    let error = authorities
        .import(&offline.sign(&request, FINE), None, "test")
        .await
        .unwrap_err();
    assert!(matches!(error, AuthorityError::NoRoot));
    assert!(
        lab.ca.ledger.authorities().await.unwrap().is_empty(),
        "nothing was taken in"
    );
}

/// A forged certificate that names the right issuer: names are not enough.
#[tokio::test]
async fn a_chain_with_a_forged_signature_fails_its_rehearsal() {
    let offline = Offline::new(KeyAlgorithm::EcdsaP256, FINE);
    let lab = Lab::rootless(|_| {}).await;
    let request = SigningRequest::from_pem(&lab.ca.authorities.request().await.unwrap()).unwrap();
    let forger = FileSigner::new(PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap());
    let key_id = offline.key.public_key().fingerprint();
    let by = IssuedBy {
        signer: &forger,
        name: &offline.subject,
        key_id: key_id.as_bytes(),
    };
    let forged = made(
        by,
        Subject::new("Example", "Example mesh").unwrap(),
        request.public_key(),
        FINE,
    );
    let chain = write_chain(&[forged]);
    let error = lab
        .ca
        .authorities
        .import(&chain, Some(&offline.pem()), "test")
        .await
        .unwrap_err();
    assert!(told(&error).contains("peers would refuse"), "{}", told(&error));
    assert!(lab.ca.ledger.authorities().await.unwrap().is_empty());
}

/// The root of the enterprise is replaced: published here first, then signed below by its holder.
#[tokio::test]
async fn a_ca_below_somebody_elses_root_follows_to_the_next_one() {
    let (old, new) = (
        Offline::new(KeyAlgorithm::EcdsaP256, FINE),
        Offline::new(KeyAlgorithm::EcdsaP384, FINE),
    );
    let lab = Lab::rootless(|_| {}).await;
    let authorities = &lab.ca.authorities;
    let chain = old.sign(&authorities.request().await.unwrap(), FINE);
    authorities
        .import(&chain, Some(&old.pem()), "test")
        .await
        .unwrap();
    let by_old = lab.issue(WEB).await.unwrap();
    let next = RootSource::Elsewhere {
        certificate: new.pem(),
    };
    authorities.prepare_root(next, "test").await.unwrap();
    let chain = new.sign(&authorities.request().await.unwrap(), FINE);
    let early = authorities
        .import(&chain, Some(&new.pem()), "test")
        .await
        .unwrap_err();
    assert!(told(&early).contains("is not the active one"), "{}", told(&early));
    lab.advance(1500);
    authorities.activate_root(Some(&Nobody), "test").await.unwrap();
    assert_eq!(
        lab.issue(WEB).await.unwrap().issuer,
        by_old.issuer,
        "the old one goes on until then"
    );
    authorities.import(&chain, None, "test").await.unwrap();
    let by_new = lab.issue(WEB).await.unwrap();
    let bundles = Bundles::from_iter([lab.bundle()]);
    for issued in [&by_old, &by_new] {
        verify(&issued.chain, &bundles, &Revocations::empty(), lab.now()).unwrap();
    }
    assert_ne!(by_new.issuer, by_old.issuer);
}

/// Nobody lags.
struct Nobody;

impl Acknowledgements for Nobody {
    fn lagging(&self, _sequence: u64) -> Lagging<'_> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// What an operator types where the offline root is kept.
#[tokio::test]
#[ignore = "needs openssl: tests/run"]
async fn openssl_signs_the_request_of_a_ca() {
    let long = Odd {
        life: (-86_400 * 3650, 86_400 * 7300),
        ..FINE
    };
    let offline = Offline::new(KeyAlgorithm::Rsa4096, long);
    let lab = Lab::rootless(|_| {}).await;
    // OpenSSL's certificate begins when it is made.
    lab.hand.set(Clock::system().unix() + 60);
    let request = lab.ca.authorities.request().await.unwrap();
    let file = |name: &str, text: &str| {
        let path = lab.folder().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let (request, root, key) = (
        file("ca.csr", &request),
        file("root.pem", &offline.pem()),
        file("root.key", &offline.pem_key),
    );
    openssl(&["req", "-in", &request, "-verify", "-noout"]);
    let signed = [
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        &root,
        "-CAkey",
        &key,
        "-copy_extensions",
        "copy",
        "-days",
        "90",
    ];
    let chain = openssl(&signed);
    lab.ca
        .authorities
        .import(&chain, Some(&offline.pem()), "test")
        .await
        .unwrap();
    let issued = lab.issue(WEB).await.unwrap();
    let bundles = Bundles::from_iter([lab.bundle()]);
    verify(&issued.chain, &bundles, &Revocations::empty(), lab.now()).unwrap();
}

fn openssl(arguments: &[&str]) -> String {
    let output = std::process::Command::new("openssl")
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
