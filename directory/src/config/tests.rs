//! Reads settings, good and bad.

use std::fs;

use super::*;

const WHOLE: &str = "
trust_domain: shop.local
credentials: { files: { chain: svid.pem, key: svid_key.pem, bundle: bundle.pem } }
source: { files: [mesh.yaml, policies] }
";

fn read(text: &str) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let loaded = load::<&str, &str>(Some(file.path()), []);
    loaded
        .map(|loaded| loaded.config)
        .map_err(|problems| problems.to_string())
}

#[test]
fn little_has_to_be_said() {
    let config = read(WHOLE).unwrap();
    assert_eq!(config.id, default_id(&config.trust_domain));
    assert_eq!(
        config.readers.iter().map(SpiffeId::as_str).collect::<Vec<_>>(),
        ["spiffe://shop.local/ns/ferrule-system/sa/ferrule-ca"]
    );
    assert_eq!(config.limits, LimitsConfig::default());
    assert!(matches!(config.source, SourceConfig::Files(paths) if paths.len() == 2));
    let cluster = read(&WHOLE.replace("{ files: [mesh.yaml, policies] }", "{ kubernetes: {} }")).unwrap();
    assert_eq!(cluster.source, SourceConfig::Kubernetes { kubeconfig: None });
}

#[test]
fn faults_are_told_together() {
    let faults = read("trust_domain: shop.local\nsource: { files: [] }\nsorce: {}\n").unwrap_err();
    for part in ["credentials", "source.files", "sorce"] {
        assert!(faults.contains(part), "{part}: {faults}");
    }
    let other = format!("{WHOLE}identity: spiffe://other.local/ns/a/sa/b\n");
    assert!(read(&other).unwrap_err().contains("trust domain"));
}
