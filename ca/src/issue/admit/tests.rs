//! Tries who may have what.

use ferrule_identity::KeyAlgorithm;
use proptest::prelude::*;

use super::*;
use crate::lab::{WEB, caller, id, request_with};

const API: &str = "spiffe://shop.local/ns/shop/sa/api";

fn policy() -> LeafPolicy {
    LeafPolicy {
        trust_domain: "shop.local".parse().unwrap(),
        default_lifetime: Duration::from_secs(12 * 3600),
        min_lifetime: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(7 * 86_400),
        crypto: CryptoProfile::Standard,
    }
}

fn wanted(id_text: &str) -> Wanted {
    Wanted {
        id: Some(id(id_text)),
        lifetime: None,
    }
}

fn judge(patterns: &[&str], asked: &AskedNames, wanted: &Wanted) -> Result<Admitted, Refusal> {
    let request = request_with(KeyAlgorithm::EcdsaP256);
    admit(&caller(patterns), request.public_key(), asked, wanted, &policy())
}

fn asks(change: impl FnOnce(&mut AskedNames)) -> AskedNames {
    let mut asked = AskedNames::default();
    change(&mut asked);
    asked
}

/// A1: a caller gets what it is entitled to, and the refusal names both.
#[test]
fn another_ones_identity_is_refused_by_name() {
    let refusal = judge(&[WEB], &AskedNames::default(), &wanted(API)).unwrap_err();
    assert_eq!(refusal.word(), "not_entitled");
    let text = refusal.to_string();
    assert!(
        text.contains(API) && text.contains(WEB) && text.contains("pod web-1"),
        "{text}"
    );
}

#[test]
fn the_one_identity_need_not_be_named() {
    let admitted = judge(&[WEB], &AskedNames::default(), &Wanted::default()).unwrap();
    assert_eq!(admitted.id, id(WEB));
    let refusal = judge(&[WEB, API], &AskedNames::default(), &Wanted::default()).unwrap_err();
    assert_eq!(refusal.word(), "id_missing");
    let refusal = judge(
        &["spiffe://shop.local/*"],
        &AskedNames::default(),
        &Wanted::default(),
    )
    .unwrap_err();
    assert_eq!(refusal.word(), "id_missing");
    let refusal = judge(&[], &AskedNames::default(), &Wanted::default()).unwrap_err();
    assert_eq!(refusal.word(), "id_missing");
}

#[test]
fn a_foreign_trust_domain_is_refused_even_to_those_entitled() {
    let foreign = "spiffe://other.local/ns/shop/sa/web";
    let refusal = judge(&[foreign], &AskedNames::default(), &wanted(foreign)).unwrap_err();
    assert_eq!(refusal.word(), "foreign_trust_domain");
}

/// A1 and A2: names and powers that the certificate will not have.
#[test]
fn a_request_that_asks_for_more_is_refused_and_told_what() {
    type Change = fn(&mut AskedNames);
    let cases: [(Change, &str); 13] = [
        (|asked| asked.uris = vec![API.into()], API),
        (|asked| asked.uris = vec![WEB.into(), API.into()], API),
        (|asked| asked.uris = vec![WEB.into(), WEB.into()], WEB),
        (|asked| asked.dns = vec!["api.shop.svc".into()], "api.shop.svc"),
        (|asked| asked.ips = vec!["10.0.0.1".parse().unwrap()], "10.0.0.1"),
        (|asked| asked.emails = vec!["web@shop".into()], "web@shop"),
        (
            |asked| asked.other_names = vec!["otherName 1.2.3".into()],
            "otherName 1.2.3",
        ),
        (|asked| asked.common_names = vec![API.into()], API),
        (|asked| asked.common_names = vec![API.to_uppercase()], "SPIFFE://"),
        (|asked| asked.authority = true, "CA:TRUE"),
        (
            |asked| asked.key_usages = vec!["keyCertSign".into()],
            "keyCertSign",
        ),
        (
            |asked| asked.extended_key_usages = vec!["codeSigning".into()],
            "codeSigning",
        ),
        (|asked| asked.extensions = vec!["2.5.29.30".into()], "2.5.29.30"),
    ];
    for (change, named) in cases {
        let refusal = judge(&[WEB, API], &asks(change), &wanted(WEB)).unwrap_err();
        assert_eq!(refusal.word(), "request_asks_too_much", "{refusal}");
        assert!(refusal.to_string().contains(named), "{refusal}");
        assert!(refusal.to_string().contains(WEB), "{refusal}");
    }
}

#[test]
fn what_tools_ask_for_by_habit_does_no_harm() {
    let asked = asks(|asked| {
        asked.uris = vec![WEB.into()];
        asked.common_names = vec!["web".into()];
        asked.subject_fields = vec!["2.5.4.10=Example".into()];
        asked.key_usages = vec!["digitalSignature".into(), "keyEncipherment".into()];
        asked.extended_key_usages = vec!["serverAuth".into(), "clientAuth".into()];
        asked.extensions = vec!["2.5.29.14".into()];
        asked.attributes = vec!["1.2.840.113549.1.9.7".into()];
    });
    assert!(judge(&[WEB], &asked, &wanted(WEB)).is_ok());
}

#[test]
fn a_foreign_text_cannot_break_the_log_or_fill_it() {
    let asked = asks(|asked| asked.dns = vec![format!("a\n\u{1b}[31m{}", "x".repeat(10_000))]);
    let text = judge(&[WEB], &asked, &wanted(WEB)).unwrap_err().to_string();
    assert!(!text.contains(['\n', '\u{1b}']));
    assert!(text.len() < 500, "{}", text.len());
}

/// A4: nothing outside the limits, however it is written.
#[test]
fn a_life_outside_the_limits_is_refused_with_the_limits() {
    for asked in [i64::MIN, -1, 0, 59, 7 * 86_400 + 1, i64::MAX] {
        let wanted = Wanted {
            lifetime: Some(asked),
            ..wanted(WEB)
        };
        let refusal = judge(&[WEB], &AskedNames::default(), &wanted).unwrap_err();
        assert_eq!(refusal.word(), "lifetime_out_of_range", "{asked}");
        assert!(refusal.to_string().contains("60 to 604800"), "{refusal}");
    }
    for asked in [60, 7 * 86_400] {
        let wanted = Wanted {
            lifetime: Some(asked),
            ..wanted(WEB)
        };
        let admitted = judge(&[WEB], &AskedNames::default(), &wanted).unwrap();
        assert_eq!(i64::try_from(admitted.lifetime.as_secs()), Ok(asked));
    }
}

#[test]
fn keys_that_the_profile_does_not_take_are_refused_by_name() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::Rsa3072] {
        let request = request_with(algorithm);
        let judged = admit(
            &caller(&[WEB]),
            request.public_key(),
            request.asked(),
            &wanted(WEB),
            &policy(),
        );
        let text = judged.unwrap_err().to_string();
        assert!(
            text.contains(algorithm.as_str()) && text.contains("p256, p384"),
            "{text}"
        );
    }
    let strict = LeafPolicy {
        crypto: CryptoProfile::Cnsa1,
        ..policy()
    };
    let request = request_with(KeyAlgorithm::EcdsaP256);
    let judged = admit(
        &caller(&[WEB]),
        request.public_key(),
        request.asked(),
        &wanted(WEB),
        &strict,
    );
    assert_eq!(judged.unwrap_err().word(), "key_not_accepted");
}

proptest! {
    /// Whatever is asked for, what is admitted is entitled, of the trust domain, and within the limits.
    #[test]
    fn nothing_is_admitted_that_is_not_entitled(
        wanted_id in "spiffe://(shop|other)\\.local/ns/[ab]/sa/[ab]",
        entitled in proptest::collection::vec("spiffe://(shop|other)\\.local/ns/[ab]/(sa/[ab]|\\*)", 0..3),
        lifetime in proptest::option::of(any::<i64>()),
    ) {
        let patterns: Vec<&str> = entitled.iter().map(String::as_str).collect();
        let wanted = Wanted { id: Some(id(&wanted_id)), lifetime };
        if let Ok(admitted) = judge(&patterns, &AskedNames::default(), &wanted) {
            prop_assert_eq!(admitted.id.as_str(), wanted_id.as_str());
            prop_assert!(wanted_id.starts_with("spiffe://shop.local/"));
            let fits = |pattern: &String| {
                *pattern == wanted_id || pattern.strip_suffix('*').is_some_and(|start| wanted_id.starts_with(start))
            };
            prop_assert!(entitled.iter().any(fits));
            prop_assert!((policy().min_lifetime..=policy().max_lifetime).contains(&admitted.lifetime));
        }
    }
}
