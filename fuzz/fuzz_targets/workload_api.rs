//! Reads any bytes as what a server of the Workload API sends, and bends a good answer.
#![no_main]

use std::sync::LazyLock;

use ferrule_credentials::workload_api::take;
use ferrule_daemon::grpc::frame::{Messages, frame};
use ferrule_fuzz::{NOW, PKI, bend, ed25519};
use ferrule_identity::SpiffeId;
use ferrule_wire::workload_api::{X509svid, X509svidResponse, certificates, row};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

static WEB: LazyLock<SpiffeId> =
    LazyLock::new(|| SpiffeId::parse("spiffe://shop.local/ns/shop/sa/web").expect("an ID"));

/// What a server says when all is well.
static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let root = row([&PKI.root]);
    let svid = X509svid {
        spiffe_id: WEB.to_string(),
        x509_svid: row([&PKI.leaf]).into(),
        x509_svid_key: ed25519(2).to_pkcs8_der().to_vec().into(),
        bundle: root.clone().into(),
        hint: String::new(),
    };
    let response = X509svidResponse {
        svids: vec![svid],
        crl: vec![PKI.crl.clone().into()],
        federated_bundles: [("spiffe://other.local".to_owned(), root.into())].into(),
    };
    take(&response, &WEB, NOW).expect("a good answer");
    response.encode_to_vec()
});

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    let sent = match how % 3 {
        0 => rest.to_vec(),
        1 => frame(&bend(&GOOD, rest)).expect("short").to_vec(),
        _ => bend(&frame(&GOOD).expect("short"), rest),
    };
    // However the bytes arrive, the same messages are read.
    let (mut whole, mut pieces) = (Messages::new(16 * 1024), Messages::new(16 * 1024));
    whole.add(&sent);
    let mut messages = Vec::new();
    while let Ok(Some(message)) = whole.take() {
        messages.push(message);
    }
    let mut again = Vec::new();
    for piece in sent.chunks(usize::from(*how) + 1) {
        pieces.add(piece);
        while let Ok(Some(message)) = pieces.take() {
            again.push(message);
        }
    }
    assert_eq!(messages, again);
    for message in messages {
        if let Ok(read) = certificates(&message) {
            assert_eq!(row(&read), message);
        }
        let Ok(response) = X509svidResponse::decode(message) else {
            continue;
        };
        match take(&response, &WEB, NOW) {
            Ok(taken) => {
                // Only what the authority has signed, with its own key, for whom it was asked.
                assert_eq!(taken.certificate.id(), &*WEB);
                assert_eq!(taken.certificate.chain_der().first(), Some(&PKI.leaf));
                assert!(
                    taken
                        .bundles
                        .iter()
                        .any(|bundle| *bundle.trust_domain() == WEB.trust_domain())
                );
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});
