//! Claims about how events are written.

use ferrule_identity::{KeyAlgorithm, PrivateKey};

use super::*;

fn key() -> PublicKey {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    key.public_key().clone()
}

/// One event of each kind.
fn all() -> Vec<Event> {
    let text = |text: &str| text.to_owned();
    let time = Timestamp::from_unix(1_800_000_000);
    let hash = Fingerprint::of(b"x");
    vec![
        Opened {
            trust_domain: TrustDomain::parse("shop.local").unwrap(),
            replica: text("r1"),
            key: key(),
            release: text("0.1.0"),
        }
        .into(),
        issued().into(),
        Refused {
            caller: None,
            asked: text("spiffe://shop.local/ns/shop/sa/web"),
            reason: text("bad_token"),
            detail: text("\"quoted\" and\nbroken"),
            left_out: 7,
        }
        .into(),
        Revoked {
            subject: Subject::Serial("0a".parse().unwrap()),
            reason: text("stolen"),
            by: text("admin"),
        }
        .into(),
        Lifted {
            subject: Subject::Host(text("h1")),
            reason: text("found"),
            by: text("admin"),
        }
        .into(),
        TokenCreated {
            token: text("t1"),
            secret: hash,
            identities: vec![text("spiffe://shop.local/ns/shop/*")],
            expires: time,
            by: text("admin"),
        }
        .into(),
        TokenUsed {
            token: text("t1"),
            host: text("h1"),
        }
        .into(),
        TokenRevoked {
            token: text("t1"),
            by: text("admin"),
        }
        .into(),
        HostEnrolled {
            host: text("h1"),
            key: key(),
            identities: vec![],
            token: text("t1"),
        }
        .into(),
        AuthorityPrepared {
            authority: text("0a"),
            role: Role::Root,
            fingerprint: hash,
            certificate: text("-----BEGIN CERTIFICATE-----\n"),
            not_before: time,
            not_after: time,
            by: text("rotation"),
        }
        .into(),
        AuthorityStepped {
            authority: text("0a"),
            step: Step::Active,
            by: text("rotation"),
        }
        .into(),
        AuthoritySealed {
            authority: text("0a"),
            by: text("admin"),
        }
        .into(),
        BundlePublished {
            sequence: 2,
            anchors: vec![hash],
        }
        .into(),
        Acknowledged {
            generation: 2,
            who: text("proxy"),
        }
        .into(),
        BackedUp { by: text("admin") }.into(),
        Restored {
            from_epoch: 1,
            last_sequence: 9,
            last_hash: RowHash::new([7; 32]),
            accept_loss: true,
            key: key(),
            by: text("admin"),
        }
        .into(),
    ]
}

fn issued() -> Issued {
    Issued {
        serial: "0123456789abcdef0123456789abcdef".parse().unwrap(),
        id: "spiffe://shop.local/ns/shop/sa/web".into(),
        profile: "workload".into(),
        issuer: "0a1b2c".into(),
        not_before: Timestamp::from_unix(1_800_000_000),
        not_after: Timestamp::from_unix(1_800_043_200),
        key: Fingerprint::of(b"key"),
        caller: "host:a".into(),
        evidence: "host_key".into(),
        host: None,
    }
}

#[test]
fn every_kind_reads_what_it_wrote() {
    let events = all();
    let kinds: Vec<_> = events.iter().map(Event::kind).collect();
    assert_eq!(kinds, Event::KINDS, "one event of each kind is tried");
    for event in events {
        let body = event.body().unwrap();
        assert_eq!(Event::read(event.kind(), &body).unwrap(), event, "{body}");
        assert!(!body.contains('\n'), "{body}");
    }
}

#[test]
fn the_form_on_disk_does_not_drift() {
    let body = Event::from(issued()).body().unwrap();
    let key = Fingerprint::of(b"key");
    assert_eq!(
        body,
        format!(
            "{{\"serial\":\"0123456789abcdef0123456789abcdef\",\"id\":\"spiffe://shop.local/ns/shop/sa/web\",\
             \"profile\":\"workload\",\"issuer\":\"0a1b2c\",\"not_before\":1800000000,\"not_after\":1800043200,\
             \"key\":\"{key}\",\"caller\":\"host:a\",\"evidence\":\"host_key\"}}"
        )
    );
    let revoked = Event::from(Revoked {
        subject: Subject::Identity("spiffe://shop.local/ns/shop/sa/web".into()),
        reason: "stolen".into(),
        by: "admin".into(),
    });
    assert_eq!(
        revoked.body().unwrap(),
        "{\"subject\":{\"identity\":\"spiffe://shop.local/ns/shop/sa/web\"},\"reason\":\"stolen\",\"by\":\"admin\"}"
    );
}

#[test]
fn a_body_of_another_kind_or_of_none_is_refused() {
    let body = Event::from(issued()).body().unwrap();
    assert!(Event::read("revoked", &body).is_err());
    assert!(Event::read("invented", &body).is_err());
    assert!(Event::read("issued", &body.replace("1800043200", "\"soon\"")).is_err());
}

#[test]
fn a_key_whose_fingerprint_is_anothers_is_refused() {
    let enrolled = Event::from(HostEnrolled {
        host: "h1".into(),
        key: key(),
        identities: vec![],
        token: "t1".into(),
    });
    let Event::HostEnrolled(fields) = &enrolled else {
        unreachable!()
    };
    let fingerprint = fields.key.fingerprint().to_string();
    let body = enrolled.body().unwrap();
    let other = body.replace(&fingerprint, &Fingerprint::of(b"other").to_string());
    assert_ne!(body, other);
    assert!(Event::read("host_enrolled", &other).is_err());
}

#[test]
fn rotations_go_forwards_or_are_rolled_back() {
    use Step::{Active, Prepared, Removed, Retired};
    let allowed = [
        (Prepared, Active),
        (Prepared, Removed),
        (Active, Retired),
        (Retired, Active),
        (Retired, Removed),
    ];
    for from in [Prepared, Active, Retired, Removed] {
        for to in [Prepared, Active, Retired, Removed] {
            assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from} {to}");
        }
    }
}
