//! Makes, reads, seals and refuses keys.

use std::sync::OnceLock;

use pkcs8::EncryptedPrivateKeyInfo;
use pkcs8::der::Encode;
use pkcs8::pkcs5::pbes2::{
    EncryptionScheme as Cipher, Kdf, Parameters, Pbkdf2Params, Pbkdf2Prf, ScryptParams,
};
use proptest::prelude::*;

use super::*;

mod openssl;

/// One key of each kind; RSA takes seconds to make, so they are made once.
fn one_of_each() -> &'static [PrivateKey] {
    static KEYS: OnceLock<Vec<PrivateKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        KeyAlgorithm::MADE
            .into_iter()
            .map(|algorithm| PrivateKey::generate(algorithm).unwrap())
            .collect()
    })
}

/// The cheapest cost, so that tests spend their time elsewhere.
fn cheap() -> SealCost {
    SealCost::new(1, 1, 1).unwrap()
}

fn public(text: &str) -> Result<PublicKey, KeyError> {
    PublicKey::from_spki_der(pem::read_one(text, "PUBLIC KEY").unwrap().der())
}

/// A public key from `foreign/`: written by OpenSSL, except for the exponents 1, even and huge, and the point off
/// its curve, which were then bent by hand.
macro_rules! foreign {
    ($name:literal) => {
        public(include_str!(concat!("foreign/", $name, ".pem")))
    };
}

#[test]
fn every_kind_signs_what_its_public_half_accepts() {
    for key in one_of_each() {
        let signature = key.sign(b"message").unwrap();
        key.public_key().verify(b"message", &signature).unwrap();
        let refused = key.public_key().verify(b"other", &signature);
        assert!(matches!(refused, Err(KeyError::Signature)), "{key:?}");
    }
}

#[test]
fn a_signature_of_another_key_is_refused() {
    let other = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let signature = other.sign(b"message").unwrap();
    for key in one_of_each() {
        assert!(
            key.public_key().verify(b"message", &signature).is_err(),
            "{key:?}"
        );
        assert!(key.public_key().verify(b"message", b"").is_err(), "{key:?}");
    }
}

#[test]
fn every_kind_is_read_as_it_was_written() {
    for key in one_of_each() {
        let again = PrivateKey::from_pkcs8_der(&key.to_pkcs8_der()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(again.to_pkcs8_der(), key.to_pkcs8_der());
        let again = PrivateKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        let public = PublicKey::from_spki_der(key.public_key().spki_der()).unwrap();
        assert_eq!(&public, key.public_key());
        assert_eq!(public.algorithm(), key.algorithm());
        assert_eq!(public.fingerprint(), Fingerprint::of(public.spki_der()));
    }
}

#[test]
fn rcgen_writes_the_same_public_key() {
    for key in one_of_each() {
        let written = rcgen::PublicKeyData::subject_public_key_info(key);
        assert_eq!(written, key.public_key().spki_der());
    }
}

#[test]
fn rustls_takes_every_kind() {
    for key in one_of_each() {
        let taken = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key.to_rustls()).unwrap();
        assert_eq!(
            taken.public_key().unwrap().as_ref(),
            key.public_key().spki_der(),
            "{key:?}"
        );
    }
}

#[test]
fn debug_hides_the_key() {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey(p256 [redacted])");
}

#[test]
fn weak_rsa_is_read_and_never_made() {
    assert!(matches!(
        PrivateKey::generate(KeyAlgorithm::Rsa2048),
        Err(KeyError::Generate { .. })
    ));
    assert_eq!(foreign!("rsa2048").unwrap().algorithm(), KeyAlgorithm::Rsa2048);
}

#[test]
fn weak_and_unknown_public_keys_are_refused_by_name() {
    // A3.
    let refused = [
        (foreign!("rsa1024"), "RSA keys of 1024 bits"),
        (foreign!("rsa3332"), "RSA keys of 3332 bits"),
        (foreign!("rsae1"), "exponent"),
        (foreign!("rsae3"), "exponent"),
        (foreign!("rsaeven"), "exponent"),
        (foreign!("rsahuge"), "exponent"),
        (foreign!("rsa-pss"), "RSASSA-PSS"),
        (foreign!("p192"), "P-192"),
        (foreign!("p521"), "P-521"),
        (foreign!("secp256k1"), "secp256k1"),
        (foreign!("ed448"), "Ed448"),
        (foreign!("x25519"), "X25519"),
        (foreign!("explicit"), "without a name"),
        (foreign!("compressed"), "canonical"),
        (foreign!("offcurve"), "not valid"),
    ];
    for (result, word) in refused {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
}

/// A small coordinate plus the field's prime is the same point, spelt another way.
#[test]
fn a_point_has_one_spelling() {
    let octets = |hex: &str| -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        digits
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    };
    let points = [
        (
            KeyAlgorithm::EcdsaP256,
            "3059301306072a8648ce3d020106082a8648ce3d03010703420004",
            format!("{:064x}", 5),
            "ffffffff00000001000000000000000000000001000000000000000000000004",
            "459243b9aa581806fe913bce99817ade11ca503c64d9a3c533415c083248fbcc",
        ),
        (
            KeyAlgorithm::EcdsaP384,
            "3076301006072a8648ce3d020106052b8104002203620004",
            format!("{:096x}", 2),
            "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff000000000000000100000001",
            "8cdeadbbd04911a3c1931e26df3fa6439dca9c7eb286fbd46fc319f0e2bb780232baf57825fc0c1912ada2fefe84024c",
        ),
    ];
    for (algorithm, wrapping, x, longer, y) in points {
        let key = PublicKey::from_spki_der(&octets(&[wrapping, &x, y].concat())).unwrap();
        assert_eq!((key.algorithm(), key.raw().len()), (algorithm, 1 + x.len()));
        let again = PublicKey::from_spki_der(&octets(&[wrapping, longer, y].concat()));
        assert!(again.is_err(), "{again:?}");
    }
}

#[test]
fn nothing_may_follow_a_public_key() {
    let key = &one_of_each()[0];
    let mut der = key.public_key().spki_der().to_vec();
    der.push(0);
    assert!(matches!(
        PublicKey::from_spki_der(&der),
        Err(KeyError::Malformed {
            what: "public key",
            ..
        })
    ));
    let mut der = key.to_pkcs8_der();
    der.push(0);
    assert!(matches!(
        PrivateKey::from_pkcs8_der(&der),
        Err(KeyError::Malformed { .. })
    ));
}

#[test]
fn long_keys_are_not_even_read() {
    let long = vec![0x30; 20_000];
    assert!(matches!(
        PublicKey::from_spki_der(&long),
        Err(KeyError::TooLong { .. })
    ));
    assert!(matches!(
        PrivateKey::from_pkcs8_der(&long),
        Err(KeyError::TooLong { .. })
    ));
    assert!(matches!(
        PrivateKey::from_sec1_der(&long),
        Err(KeyError::TooLong { .. })
    ));
    assert!(matches!(
        PrivateKey::from_pkcs1_der(&long),
        Err(KeyError::TooLong { .. })
    ));
}

#[test]
fn a_key_file_holds_one_key() {
    let key = one_of_each()[0].to_pem();
    let two = format!("{}{}", *key, *key);
    assert!(matches!(PrivateKey::from_pem(&two), Err(KeyError::SeveralBlocks)));
    let certificate = pem::write(pem::CERTIFICATE, b"x");
    assert!(matches!(
        PrivateKey::from_pem(&certificate),
        Err(KeyError::Label { found }) if found == "CERTIFICATE"
    ));
    assert!(matches!(
        PrivateKey::from_pem("secret"),
        Err(KeyError::Pem(PemError::Outside { line: 1 }))
    ));
    for label in [pem::PRIVATE_KEY, SEC1, PKCS1] {
        let noise = pem::write(label, b"noise");
        assert!(PrivateKey::from_pem(&noise).is_err(), "{label}");
    }
}

#[test]
fn an_encrypted_key_opens_with_its_passphrase_only() {
    for key in one_of_each() {
        let sealed = key.to_encrypted_pem_at(cheap(), b"correct").unwrap();
        let opened = PrivateKey::from_encrypted_pem(&sealed, b"correct").unwrap();
        assert_eq!(opened.public_key(), key.public_key());
        // Often enough that good padding around noise happens, too.
        for attempt in 0..600 {
            let wrong = format!("wrong {attempt}");
            assert!(matches!(
                PrivateKey::from_encrypted_pem(&sealed, wrong.as_bytes()),
                Err(KeyError::Passphrase)
            ));
        }
        assert!(matches!(PrivateKey::from_pem(&sealed), Err(KeyError::Locked)));
    }
}

#[test]
fn the_standard_cost_opens_again() {
    let key = &one_of_each()[0];
    let sealed = key.to_encrypted_pem(b"correct").unwrap();
    let opened = PrivateKey::from_encrypted_pem(&sealed, b"correct").unwrap();
    assert_eq!(opened.public_key(), key.public_key());
    let again = key.to_encrypted_pem(b"correct").unwrap();
    assert_ne!(*again, *sealed, "salt and vector are fresh each time");
}

#[test]
fn an_empty_passphrase_is_refused() {
    assert!(matches!(
        one_of_each()[0].to_encrypted_pem(b""),
        Err(KeyError::EmptyPassphrase)
    ));
}

#[test]
fn a_cost_that_could_not_be_opened_is_refused() {
    for (log_n, r, p) in [
        (0, 8, 1),
        (17, 8, 1),
        (63, 8, 1),
        (200, 8, 1),
        (14, 8, 100),
        (14, 0, 1),
        (14, 8, 0),
    ] {
        assert!(
            matches!(SealCost::new(log_n, r, p), Err(KeyError::SealCost)),
            "{log_n} {r} {p}"
        );
    }
    assert_eq!(SealCost::new(14, 8, 5).unwrap(), SealCost::STANDARD);
}

/// A locked key as another program would write it, of any cost; what it locks is noise.
fn foreign_sealed(kdf: Kdf<'_>) -> String {
    let encryption = Cipher::Aes256Cbc { iv: &[0; 16] };
    let sealed = EncryptedPrivateKeyInfo {
        encryption_algorithm: Parameters { kdf, encryption }.into(),
        encrypted_data: &[0; 48],
    };
    pem::write(pem::ENCRYPTED_PRIVATE_KEY, &sealed.to_der().unwrap()).to_string()
}

#[test]
fn a_foreign_file_cannot_ask_for_impossible_work() {
    let scrypt = |cost_parameter, block_size, parallelization| {
        Kdf::Scrypt(ScryptParams {
            salt: &[0; 8],
            cost_parameter,
            block_size,
            parallelization,
            key_length: None,
        })
    };
    let pbkdf2 = |iteration_count| {
        Kdf::Pbkdf2(Pbkdf2Params {
            salt: &[0; 8],
            iteration_count,
            key_length: None,
            prf: Pbkdf2Prf::HmacWithSha256,
        })
    };
    for kdf in [
        scrypt(0, 1, 1),
        scrypt(1, 1, 1),
        scrypt(3, 1, 1),
        scrypt(2, 0, 1),
        scrypt(2, 1, 0),
        scrypt(1 << 20, 8, 1),
        scrypt(1 << 63, 65_535, 65_535),
        scrypt(1 << 14, 8, 1000),
        pbkdf2(50_000_000),
        pbkdf2(0),
    ] {
        let error = PrivateKey::from_encrypted_pem(&foreign_sealed(kdf.clone()), b"x").unwrap_err();
        assert!(matches!(error, KeyError::SealCost), "{kdf:?}: {error}");
    }
    // The same file at a bearable cost fails for what it holds.
    for kdf in [scrypt(2, 1, 1), pbkdf2(1)] {
        let error = PrivateKey::from_encrypted_pem(&foreign_sealed(kdf.clone()), b"x").unwrap_err();
        assert!(matches!(error, KeyError::Passphrase), "{kdf:?}: {error}");
    }
}

#[test]
fn sha_1_does_not_derive_a_key() {
    let error = PrivateKey::from_encrypted_pem(
        &foreign_sealed(Kdf::Pbkdf2(Pbkdf2Params {
            salt: &[0; 8],
            iteration_count: 2048,
            key_length: None,
            prf: Pbkdf2Prf::HmacWithSha1,
        })),
        b"x",
    )
    .unwrap_err();
    assert!(matches!(error, KeyError::Encryption), "{error}");
}

proptest! {
    #[test]
    fn bytes_that_are_no_key_are_refused_without_a_panic(der in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(PublicKey::from_spki_der(&der).is_err());
        prop_assert!(PrivateKey::from_pkcs8_der(&der).is_err());
        prop_assert!(PrivateKey::from_sec1_der(&der).is_err());
        prop_assert!(PrivateKey::from_pkcs1_der(&der).is_err());
    }

    #[test]
    fn a_changed_public_key_is_refused_or_another_key(at: prop::sample::Index, with: u8, which: prop::sample::Index) {
        let key = &one_of_each()[which.index(3)];
        let mut der = key.public_key().spki_der().to_vec();
        let at = at.index(der.len());
        der[at] = with;
        if let Ok(read) = PublicKey::from_spki_der(&der) {
            prop_assert_eq!(read.spki_der(), &der[..]);
            prop_assert_eq!(&read == key.public_key(), der == key.public_key().spki_der());
        }
    }

    #[test]
    fn any_passphrase_opens_what_it_closed(passphrase in prop::collection::vec(any::<u8>(), 1..80)) {
        let key = &one_of_each()[0];
        let sealed = key.to_encrypted_pem_at(cheap(), &passphrase).unwrap();
        let opened = PrivateKey::from_encrypted_pem(&sealed, &passphrase).unwrap();
        prop_assert_eq!(opened.public_key(), key.public_key());
    }
}
