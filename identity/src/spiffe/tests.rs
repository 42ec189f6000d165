//! Tries the rules for SPIFFE IDs, S-1 to S-4.

use super::*;
use proptest::prelude::*;

fn refused(text: &str) -> SpiffeIdError {
    SpiffeId::parse(text).unwrap_err()
}

#[test]
fn an_id_is_taken_apart_and_printed_unchanged() {
    let id = SpiffeId::parse("spiffe://shop.local/ns/shop/sa/web").unwrap();
    assert_eq!(id.trust_domain(), TrustDomain::parse("shop.local").unwrap());
    assert!(id.is_in(&id.trust_domain()));
    assert_eq!(id.path(), "/ns/shop/sa/web");
    assert_eq!(id.namespace_and_account(), Some(("shop", "web")));
    assert_eq!(id.to_string(), "spiffe://shop.local/ns/shop/sa/web");
}

// S-1: scheme, trust domain, no query, fragment, user information or port.
#[test]
fn s_1_only_the_scheme_a_domain_and_a_path() {
    assert_eq!(refused("https://shop.local/web"), SpiffeIdError::Scheme);
    assert_eq!(refused("SPIFFE://shop.local/web"), SpiffeIdError::Scheme);
    assert_eq!(refused("spiffe:/shop.local/web"), SpiffeIdError::Scheme);
    assert_eq!(refused(""), SpiffeIdError::Scheme);
    assert_eq!(refused("spiffe:///web"), SpiffeIdError::NoTrustDomain);
    let query = SpiffeIdError::PathChar { found: '?', at: 23 };
    assert_eq!(refused("spiffe://shop.local/web?a=b"), query);
    let fragment = SpiffeIdError::PathChar { found: '#', at: 23 };
    assert_eq!(refused("spiffe://shop.local/web#a"), fragment);
    let user = SpiffeIdError::TrustDomainChar { found: '@', at: 10 };
    assert_eq!(refused("spiffe://u@shop.local/web"), user);
    let port = SpiffeIdError::TrustDomainChar { found: ':', at: 19 };
    assert_eq!(refused("spiffe://shop.local:80/web"), port);
    let bracket = SpiffeIdError::TrustDomainChar { found: '[', at: 9 };
    assert_eq!(refused("spiffe://[::1]/web"), bracket);
}

// S-2: the characters and the length of a trust domain.
#[test]
fn s_2_trust_domains_are_lower_case_and_short() {
    let upper = SpiffeIdError::TrustDomainChar { found: 'S', at: 9 };
    assert_eq!(refused("spiffe://Shop.local/web"), upper);
    let percent = SpiffeIdError::TrustDomainChar { found: '%', at: 10 };
    assert_eq!(refused("spiffe://s%68op/web"), percent);
    let nul = SpiffeIdError::TrustDomainChar { found: '\0', at: 13 };
    assert_eq!(refused("spiffe://shop\0/web"), nul);
    assert!(SpiffeId::parse("spiffe://10.0.0.1/web").is_ok());
    let longest = "d".repeat(255);
    assert!(TrustDomain::parse(&longest).is_ok());
    let longer = "d".repeat(256);
    assert_eq!(
        TrustDomain::parse(&longer),
        Err(SpiffeIdError::TrustDomainTooLong { bytes: 256 })
    );
    assert_eq!(TrustDomain::parse(""), Err(SpiffeIdError::NoTrustDomain));
}

// S-3: the segments of a path.
#[test]
fn s_3_path_segments_are_plain_and_whole() {
    assert_eq!(refused("spiffe://d"), SpiffeIdError::NoPath);
    assert_eq!(refused("spiffe://d/"), SpiffeIdError::NoPath);
    assert_eq!(refused("spiffe://d/a/"), SpiffeIdError::EmptySegment { at: 13 });
    assert_eq!(refused("spiffe://d//a"), SpiffeIdError::EmptySegment { at: 11 });
    assert_eq!(refused("spiffe://d/a/./b"), SpiffeIdError::DotSegment { at: 13 });
    assert_eq!(refused("spiffe://d/../b"), SpiffeIdError::DotSegment { at: 11 });
    let percent = SpiffeIdError::PathChar { found: '%', at: 12 };
    assert_eq!(refused("spiffe://d/w%69b"), percent);
    let colon = SpiffeIdError::PathChar { found: ':', at: 17 };
    assert_eq!(refused("spiffe://d/system:node"), colon);
    let wide = SpiffeIdError::PathChar { found: 'é', at: 12 };
    assert_eq!(refused("spiffe://d/wéb"), wide);
    assert!(SpiffeId::parse("spiffe://d/...").is_ok());
    assert_ne!(SpiffeId::parse("spiffe://d/A"), SpiffeId::parse("spiffe://d/a"));
}

// S-4: 2,048 bytes are read, one more is not.
#[test]
fn s_4_ids_have_at_most_2048_bytes() {
    let longest = format!("spiffe://d/{}", "p".repeat(2048 - 11));
    assert_eq!(SpiffeId::parse(&longest).unwrap().as_str().len(), 2048);
    let longer = format!("{longest}p");
    assert_eq!(refused(&longer), SpiffeIdError::TooLong { bytes: 2049 });
}

#[test]
fn a_name_with_a_slash_does_not_move_the_borders() {
    let domain = TrustDomain::parse("d").unwrap();
    let sneaked = SpiffeId::workload(&domain, "a/sa/admin", "b");
    assert_eq!(sneaked, Err(SpiffeIdError::PathChar { found: '/', at: 1 }));
    assert!(SpiffeId::workload(&domain, "", "b").is_err());
    assert!(SpiffeId::workload(&domain, "..", "b").is_err());
}

proptest! {
    #[test]
    fn what_is_read_is_printed_the_same(
        text in "spiffe://[a-z0-9._-]{1,20}(/[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,9}){1,4}",
    ) {
        let id = SpiffeId::parse(&text).unwrap();
        prop_assert_eq!(id.as_str(), text.as_str());
        let again = format!("{}{}", id.trust_domain().id(), id.path());
        prop_assert_eq!(again, text);
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "(spiffe://)?\\PC{0,60}") {
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert_eq!(id.as_str(), text.as_str());
        }
    }
}
