//! Exchanges keys with the openssl program in both directions.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

/// Runs openssl with `arguments`, `input` on its standard input; gives its standard output.
fn openssl(arguments: &str, input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(arguments.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "openssl {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn spki_pem(key: &PrivateKey) -> String {
    pem::write("PUBLIC KEY", key.public_key().spki_der()).to_string()
}

#[test]
#[ignore = "needs openssl: tests/run"]
fn openssl_reads_every_kind() {
    for key in one_of_each() {
        assert_eq!(openssl("pkey -pubout", &key.to_pem()), spki_pem(key));
    }
}

#[test]
#[ignore = "needs openssl: tests/run"]
fn openssl_opens_an_encrypted_key_at_the_standard_cost() {
    for key in one_of_each() {
        let sealed = key.to_encrypted_pem(b"correct horse").unwrap();
        let opened = Command::new("openssl")
            .args(["pkcs8", "-passin", "pass:correct horse"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .and_then(|mut child| {
                child.stdin.take().unwrap().write_all(sealed.as_bytes())?;
                child.wait_with_output()
            })
            .unwrap();
        let opened = PrivateKey::from_pem(std::str::from_utf8(&opened.stdout).unwrap()).unwrap();
        assert_eq!(opened.public_key(), key.public_key());
    }
}

#[test]
#[ignore = "needs openssl: tests/run"]
fn keys_that_openssl_makes_are_read_in_every_form() {
    let made = [
        ("ecparam -name prime256v1 -genkey", KeyAlgorithm::EcdsaP256),
        ("ecparam -name prime256v1 -genkey -noout", KeyAlgorithm::EcdsaP256),
        ("ecparam -name secp384r1 -genkey", KeyAlgorithm::EcdsaP384),
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384",
            KeyAlgorithm::EcdsaP384,
        ),
        ("genpkey -algorithm ed25519", KeyAlgorithm::Ed25519),
        ("genrsa -traditional 2048", KeyAlgorithm::Rsa2048),
        ("genrsa 3072", KeyAlgorithm::Rsa3072),
    ];
    for (command, algorithm) in made {
        let text = openssl(command, "");
        let key = PrivateKey::from_pem(&text).unwrap();
        assert_eq!(key.algorithm(), algorithm, "{command}");
        // `pkey` reads one block, so it gets the key without its parameters.
        let key_at = text.rfind("-----BEGIN").unwrap();
        assert_eq!(
            openssl("pkey -pubout", &text[key_at..]),
            spki_pem(&key),
            "{command}"
        );
    }
}

#[test]
#[ignore = "needs openssl: tests/run"]
fn weak_private_keys_of_openssl_are_refused() {
    for command in [
        "genrsa 1024",
        "genrsa -traditional 1024",
        "genrsa -3 2048",
        "ecparam -name prime192v1 -genkey -noout",
        "ecparam -name secp521r1 -genkey -noout",
        "ecparam -name secp256k1 -genkey -noout",
        "genpkey -algorithm ed448",
        "genpkey -algorithm x25519",
    ] {
        let text = openssl(command, "");
        assert!(PrivateKey::from_pem(&text).is_err(), "{command}");
        let text = openssl("pkcs8 -topk8 -nocrypt", &text);
        assert!(PrivateKey::from_pem(&text).is_err(), "{command} as PKCS#8");
    }
}

#[test]
#[ignore = "needs openssl: tests/run"]
fn keys_that_openssl_encrypts_are_opened() {
    let key = &one_of_each()[0];
    for options in [
        "-scrypt",
        "-v2 aes-256-cbc",
        "-v2 aes-128-cbc -v2prf hmacWithSHA512",
    ] {
        let command = format!("pkcs8 -topk8 {options} -passout pass:x");
        let sealed = openssl(&command, &key.to_pem());
        let opened = PrivateKey::from_encrypted_pem(&sealed, b"x").unwrap();
        assert_eq!(opened.public_key(), key.public_key(), "{options}");
    }
}

#[test]
#[ignore = "needs openssl: tests/run"]
fn weak_encryption_of_openssl_is_not_opened() {
    let key = &one_of_each()[0];
    for options in [
        "-v2 des3",
        "-v1 PBE-SHA1-3DES",
        "-v2 aes-256-cbc -v2prf hmacWithSHA1",
    ] {
        let command = format!("pkcs8 -topk8 {options} -passout pass:x");
        let sealed = openssl(&command, &key.to_pem());
        let error = PrivateKey::from_encrypted_pem(&sealed, b"x").unwrap_err();
        assert!(
            matches!(error, KeyError::Encryption | KeyError::Malformed { .. }),
            "{options}: {error}"
        );
    }
}
