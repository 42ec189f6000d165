//! Reads any text as a SPIFFE ID and as a trust domain.
#![no_main]

use ferrule_identity::{SpiffeId, TrustDomain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(id) = SpiffeId::parse(text) {
        assert_eq!(id.as_str(), text);
        assert!(text.len() <= 2048);
        let domain = id.trust_domain();
        assert!(id.is_in(&domain));
        assert_eq!(format!("spiffe://{domain}{}", id.path()), text);
        assert!(
            id.path()
                .split('/')
                .skip(1)
                .all(|part| !matches!(part, "" | "." | ".."))
        );
        if let Some((namespace, account)) = id.namespace_and_account() {
            assert_eq!(SpiffeId::workload(&domain, namespace, account).as_ref(), Ok(&id));
        }
    }
    if let Ok(domain) = TrustDomain::parse(text) {
        assert_eq!(domain.as_str(), text);
        // A domain alone is no workload; with a path it is.
        assert!(SpiffeId::parse(&domain.id()).is_err());
        assert!(SpiffeId::parse(&format!("{}/x", domain.id())).is_ok());
    }
    if let Some((domain, rest)) = text.split_once('\n')
        && let Some((namespace, account)) = rest.split_once('\n')
        && let Ok(domain) = TrustDomain::parse(domain)
        && let Ok(id) = SpiffeId::workload(&domain, namespace, account)
    {
        assert_eq!(id.namespace_and_account(), Some((namespace, account)));
    }
});
