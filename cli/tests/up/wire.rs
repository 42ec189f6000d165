//! What `ferrule verify` and `ferrule explain` say, held against the wire and against what happens.

use std::fs;

use super::hand::{Hand, Wire, run};
use super::mesh::{Mesh, free_port, shop, wait};

/// The wire's numbers of what a sidecar agrees on, beside Ferrule's words for them (RFC 8446, B.4; IANA's TLS groups).
const AGREED: [(&str, &str, &str); 3] = [
    ("tls_version", "TLSv1.3", "0x0304"),
    ("tls_group", "X25519MLKEM768", "4588"),
    ("tls_cipher", "AES_256_GCM_SHA384", "0x1302"),
];

#[test]
#[ignore = "needs nft, namespaces, dumpcap and tshark: tests/run"]
fn verify_and_a_record_of_the_wire_agree_with_the_redirect_and_without() {
    let mut mesh = Mesh::start(&shop(free_port()), "transparent");
    mesh.wait_for("all 5 are up");
    let hand = Hand::new(&mesh, "shop.local");
    let api = hand.address("api");
    // What the application of web would do; in its network, and not as its sidecar.
    let call = || {
        let script = format!(
            "exec 3<>/dev/tcp/{api}/8080; printf 'GET /items HTTP/1.1\\r\\nhost: marker\\r\\n\\r\\n' >&3; cat <&3"
        );
        run(hand.within("web", "timeout").args(["30", "bash", "-c", &script])).out
    };

    let wire = Wire::record(&hand, "api", "sealed.pcap");
    let (code, told) = hand.json(&["verify", "web", "api"]);
    assert!(call().contains("walking-stick"));
    let sealed = wire.stop();
    assert_eq!(code, 0, "{told:#}");
    assert!(!sealed.contains("walking-stick") && !sealed.contains("host: marker"));
    let hello = "tls.handshake.type == 2 && tcp.srcport == 8080";
    let seen = |field: &str| {
        let mut all = sealed.field(hello, field, "tcp.port==8080,tls");
        all.dedup();
        all
    };
    let on_the_wire = [
        seen("tls.handshake.extensions.supported_version"),
        seen("tls.handshake.extensions_key_share_group"),
        seen("tls.handshake.ciphersuite"),
    ];
    for ((name, word, number), seen) in AGREED.iter().zip(on_the_wire) {
        assert_eq!(seen, [*number], "{name}");
        for probe in told.as_array().unwrap() {
            assert_eq!(probe["mutual"][*name], *word, "{probe:#}");
        }
    }

    hand.without_redirect("web");
    hand.without_redirect("api");
    let wire = Wire::record(&hand, "api", "clear.pcap");
    let (code, told) = hand.json(&["verify", "web", "api"]);
    // The api itself finds the store no more.
    assert!(call().starts_with("HTTP/1.1 502"));
    let clear = wire.stop();
    assert!(
        clear.contains("host: marker"),
        "the same record finds it in clear"
    );
    assert_eq!(code, 1);
    let probe = told
        .as_array()
        .unwrap()
        .iter()
        .find(|probe| probe["target"] == format!("{api}:8080"));
    let faults = probe.unwrap()["faults"].to_string();
    assert!(faults.contains("there is no mutual TLS"), "{told:#}");
    assert!(
        faults.contains("a connection in clear is not refused"),
        "{told:#}"
    );
    assert_eq!(mesh.stop().code(), Some(0));
}

/// Everybody who calls, and everybody who is called with the port.
const CALLERS: [&str; 4] = ["store", "api", "web", "intruder"];
const CALLED: [(&str, &str); 3] = [("store", "9000"), ("api", "8080"), ("web", "8000")];

#[test]
fn explain_and_what_happens_agree_for_every_pair_through_a_change_of_the_rules() {
    let text = shop(free_port());
    let mut mesh = Mesh::start(&text, "explicit");
    mesh.wait_for("all 5 are up");
    let hand = Hand::new(&mesh, "shop.local");
    let admitted = |from: &str, to: &str, port: &str| {
        let (_, told) = hand.json(&["verify", from, to, "--port", port]);
        let mut all: Vec<bool> = told
            .as_array()
            .unwrap()
            .iter()
            .map(|probe| {
                assert!(
                    !probe["faults"].to_string().contains("not what the rules say"),
                    "{probe:#}"
                );
                probe["mutual"]["admitted"].as_bool().unwrap()
            })
            .collect();
        all.dedup();
        assert_eq!(all.len(), 1, "every copy alike: {told:#}");
        all[0]
    };
    let all_agree = || {
        let mut allowed = Vec::new();
        for from in CALLERS {
            for (to, port) in CALLED {
                if from == to {
                    continue;
                }
                let (code, told) = hand.json(&["explain", "--from", from, "--to", to, "--port", port]);
                let explained = told["allowed"].as_bool().unwrap();
                assert_eq!(code, i32::from(!explained), "{told:#}");
                assert_eq!(explained, admitted(from, to, port), "{from} to {to}: {told:#}");
                if explained {
                    allowed.push((from, to));
                }
            }
        }
        allowed
    };
    assert_eq!(
        all_agree(),
        [("api", "store"), ("web", "api"), ("intruder", "web")]
    );

    let changed = text.replace(
        "identities: [spiffe://shop.local/ns/shop/sa/api]",
        "identities: [spiffe://shop.local/ns/shop/sa/intruder]",
    );
    assert_ne!(changed, text);
    let seen = mesh.count();
    fs::write(mesh.folder.path().join("mesh.yaml"), changed).unwrap();
    mesh.wait_for_after(seen, "rules taken: 3");
    wait(
        || {
            let (_, told) = hand.json(&["verify", "intruder", "store"]);
            told[0]["mutual"]["admitted"] == true
        },
        || mesh.text(),
    );
    assert_eq!(
        all_agree(),
        [("web", "api"), ("intruder", "store"), ("intruder", "web")]
    );
    assert_eq!(mesh.stop().code(), Some(0));
}
