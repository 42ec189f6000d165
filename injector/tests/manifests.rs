//! Reads the settings that the manifests of an installation have for the injector.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use ferrule_manifests::{Values, render};
use serde_json::Value;

#[test]
fn settings_in_the_manifests_are_read_by_the_injector() {
    for capture in ["cni", "init", "none"] {
        let mut values = Values::new("ferrule-system").unwrap();
        for (name, value) in [
            ("trustDomain", "shop.local"),
            ("capture", capture),
            ("image.prefix", "registry.test/mirror"),
        ] {
            values.set(name, value).unwrap();
        }
        let text = render(&values).unwrap();
        let manifests = text.split("\n---\n").map(|document| {
            let read: Result<Value, _> = serde_saphyr::from_str(document);
            read.unwrap_or_else(|error| panic!("{error}\n{document}"))
        });
        let map = manifests
            .into_iter()
            .find(|manifest| {
                manifest["kind"] == "ConfigMap" && manifest["metadata"]["name"] == "ferrule-injector"
            })
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("injector.yaml");
        std::fs::write(&file, map["data"]["injector.yaml"].as_str().unwrap()).unwrap();
        let loaded = ferrule_injector::config::load(Some(&file), [("POD_NAMESPACE", "ferrule-system")]);
        let config = loaded.unwrap_or_else(|problems| panic!("{problems}")).config;
        assert_eq!(config.sidecar.image, "registry.test/mirror/ferrule-proxy:0.1.0");
        assert_eq!(config.names, ["ferrule-injector.ferrule-system.svc"]);
    }
}
