use super::*;

fn one_of_each() -> Vec<PrivateKey> {
    KeyAlgorithm::MADE
        .into_iter()
        .map(|algorithm| PrivateKey::generate(algorithm).unwrap())
        .collect()
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
fn every_kind_is_read_as_it_was_written() {
    for key in one_of_each() {
        let again = PrivateKey::from_pkcs8_der(&key.to_pkcs8_der()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(again.to_pkcs8_der(), key.to_pkcs8_der());
        let public = PublicKey::from_spki_der(key.public_key().spki_der()).unwrap();
        assert_eq!(&public, key.public_key());
        assert_eq!(public.algorithm(), key.algorithm());
    }
}

#[test]
fn rcgen_writes_the_same_public_key() {
    for key in one_of_each() {
        let written = rcgen::PublicKeyData::subject_public_key_info(&key);
        assert_eq!(written, key.public_key().spki_der());
    }
}

#[test]
fn debug_hides_the_key() {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey(p256 [redacted])");
}

#[test]
fn weak_rsa_is_never_made() {
    assert!(matches!(
        PrivateKey::generate(KeyAlgorithm::Rsa2048),
        Err(KeyError::Generate { .. })
    ));
}
