//! Exchanges requests with the openssl program in both directions.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

/// Runs openssl with `arguments`, `input` on its standard input; gives everything it writes.
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
    String::from_utf8(output.stdout).unwrap() + &errors
}

#[test]
#[ignore = "needs openssl: tests/run"]
fn openssl_accepts_our_requests() {
    for algorithm in KeyAlgorithm::MADE {
        let key = PrivateKey::generate(algorithm).unwrap();
        let text = SigningRequest::build_pem(&key).unwrap();
        let said = openssl("req -verify -noout -pubkey", &text);
        assert!(said.contains("verify OK"), "{algorithm}: {said}");
        let public = pem::write("PUBLIC KEY", key.public_key().spki_der());
        assert!(said.contains(public.as_str()), "{algorithm}: {said}");
    }
}

#[test]
#[ignore = "needs openssl: tests/run"]
fn requests_of_openssl_are_read() {
    for algorithm in KeyAlgorithm::MADE {
        let key = PrivateKey::generate(algorithm).unwrap();
        let text = openssl(
            "req -new -key /dev/stdin -subj /CN=web -addext subjectAltName=URI:spiffe://a/b",
            &key.to_pem(),
        );
        let request = SigningRequest::from_pem(&text).unwrap();
        assert_eq!(request.public_key(), key.public_key());
        assert_eq!(request.asked().uris, ["spiffe://a/b"]);
        assert_eq!(request.asked().common_names, ["web"]);
    }
}
