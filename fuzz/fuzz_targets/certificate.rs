//! Reads any bytes as a certificate of every role, and bends good ones.
#![no_main]

use ferrule_fuzz::{NOW, PKI, bend};
use ferrule_identity::certificate::{read_chain, write_chain};
use ferrule_identity::leaf::{check_leaf, check_serving_leaf};
use ferrule_identity::{CertificateInfo, Revocations, verify, verify_server_name};
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::{CertificateDer, ServerName};

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    let der = match how % 5 {
        0 => rest.to_vec(),
        1 => bend(&PKI.leaf, rest),
        2 => bend(&PKI.server, rest),
        3 => bend(&PKI.root, rest),
        _ => {
            if let Ok(text) = std::str::from_utf8(rest)
                && let Ok(chain) = read_chain(text)
            {
                assert_eq!(read_chain(&write_chain(&chain)).expect("what we write"), chain);
            }
            return;
        }
    };
    let certificate = CertificateDer::from(der);
    let info = CertificateInfo::from_der(&certificate);
    if let Ok(info) = &info {
        let texts = info
            .uris
            .iter()
            .chain(&info.dns_names)
            .chain([&info.subject, &info.issuer]);
        for text in texts {
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }
    let leaf = check_leaf(&certificate);
    let serving = check_serving_leaf(&certificate);
    assert!(
        leaf.is_err() || serving.is_err(),
        "one certificate has both roles"
    );

    let chain = [certificate, PKI.root.clone()];
    for length in [1, 2] {
        let peer = verify(&chain[..length], &PKI.bundles, &Revocations::empty(), NOW);
        if let Ok(peer) = peer {
            // No bent byte goes unseen: everything in a certificate is signed, or is the signature.
            assert_eq!(chain[0], PKI.leaf, "a certificate that nobody signed");
            assert_eq!(Some(peer.id()), leaf.as_ref().ok());
            assert!(info.is_ok());
        }
    }
    let name = ServerName::try_from("ca.shop").expect("a name");
    if verify_server_name(&chain, &PKI.bundle, &Revocations::empty(), &name, NOW).is_ok() {
        assert_eq!(chain[0], PKI.server, "a serving certificate that nobody signed");
    }
});
