//! Reads any bytes as a public or private key, and bends good ones.
#![no_main]

use std::sync::LazyLock;

use ferrule_fuzz::{bend, ed25519, p256};
use ferrule_identity::{Fingerprint, KeyAlgorithm, PrivateKey, PublicKey, SealCost, pem};
use libfuzzer_sys::fuzz_target;

/// RSA cannot be made from a seed, so it alone differs from run to run.
static GOOD: LazyLock<[PrivateKey; 3]> = LazyLock::new(|| {
    let rsa = PrivateKey::generate(KeyAlgorithm::Rsa3072).expect("randomness");
    [p256(1), ed25519(1), rsa]
});

/// The good keys under a passphrase, at the lowest cost.
static SEALED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let cost = SealCost::new(1, 1, 1).expect("the lowest cost");
    GOOD.iter()
        .map(|key| {
            let text = key.to_encrypted_pem_at(cost, b"x").expect("sealed");
            let block = pem::read_one(&text, pem::ENCRYPTED_PRIVATE_KEY).expect("PEM");
            block.der().to_vec()
        })
        .collect()
});

fuzz_target!(|data: &[u8]| {
    let [how, which, rest @ ..] = data else {
        return;
    };
    let which = usize::from(*which) % GOOD.len();
    match how % 9 {
        0 => public(rest),
        1 => public(&bend(GOOD[which].public_key().spki_der(), rest)),
        2 => private(PrivateKey::from_pkcs8_der(rest)),
        3 => private(PrivateKey::from_pkcs8_der(&bend(
            &GOOD[which].to_pkcs8_der(),
            rest,
        ))),
        4 => private(PrivateKey::from_sec1_der(rest)),
        5 => private(PrivateKey::from_pkcs1_der(rest)),
        6 => sealed(rest),
        7 => sealed(&bend(&SEALED[which], rest)),
        _ => {
            if let Ok(text) = std::str::from_utf8(rest) {
                private(PrivateKey::from_pem(text));
                let _ = text.parse::<KeyAlgorithm>();
                if let Ok(fingerprint) = text.parse::<Fingerprint>() {
                    assert_eq!(fingerprint.to_string(), text);
                }
            }
        }
    }
});

fn public(der: &[u8]) {
    if let Ok(key) = PublicKey::from_spki_der(der) {
        assert_eq!(key.spki_der(), der);
        assert!(key.verify(b"message", b"no signature").is_err());
        assert!(key.verify(b"message", der).is_err());
    }
}

fn private<E>(key: Result<PrivateKey, E>) {
    if let Ok(key) = key {
        let again = PrivateKey::from_pkcs8_der(&key.to_pkcs8_der()).expect("what we write");
        assert_eq!(again.public_key(), key.public_key());
        let signature = key.sign(b"message").expect("a signature");
        key.public_key()
            .verify(b"message", &signature)
            .expect("our own signature");
    }
}

fn sealed(der: &[u8]) {
    private(PrivateKey::from_encrypted_pem(
        &pem::write(pem::ENCRYPTED_PRIVATE_KEY, der),
        b"x",
    ));
}
