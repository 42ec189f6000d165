//! `ferrule install`, `upgrade` and `uninstall` print manifests.

use std::fs;

use super::ferrule::{ferrule, run};

const INSTALL: [&str; 3] = ["install", "--trust-domain", "shop.local"];

fn install(more: &[&str]) -> super::ferrule::Ended {
    run(ferrule(&INSTALL).args(more))
}

#[test]
fn an_installation_needs_no_more_than_the_meshs_name() {
    let ended = install(&[]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let first_namespace = ended.out.find("kind: Namespace").unwrap();
    let first_pod = ended.out.find("kind: StatefulSet").unwrap();
    assert!(first_namespace < first_pod);
    assert!(ended.out.contains("trust_domain: shop.local"));
    assert!(!ended.out.contains("{{"), "every value is put in");
    assert_eq!(run(&mut ferrule(&["install"])).code, 64);
}

#[test]
fn one_prefix_and_digests_name_every_image() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("digests");
    let digest = format!("sha256:{}", "0a".repeat(32));
    fs::write(
        &file,
        format!("# of a release\nferrule-ca {digest}\nferrule-proxy {digest}\n"),
    )
    .unwrap();
    let ended = install(&[
        "--image-prefix",
        "registry.test/mirror",
        "--digests",
        file.to_str().unwrap(),
    ]);
    let images: Vec<&str> = ended
        .out
        .lines()
        .filter(|line| line.contains("image: "))
        .collect();
    assert!(images.len() >= 4, "{images:?}");
    for image in &images {
        assert!(image.contains("image: registry.test/mirror/ferrule-"), "{image}");
    }
    let pinned = images.iter().filter(|image| image.ends_with(&digest)).count();
    assert_eq!(pinned, 2, "{images:?}");
    fs::write(&file, "ferrule-ca sha256:short\n").unwrap();
    assert_eq!(install(&["--digests", file.to_str().unwrap()]).code, 64);
}

#[test]
fn what_the_chart_does_not_know_is_refused() {
    for bad in ["no.such=1", "capture", "capture=magic", "ca.storage=1Gi\nx: y"] {
        let ended = install(&["--set", bad]);
        assert_eq!((ended.code, ended.out.as_str()), (64, ""), "{bad}: {}", ended.err);
    }
}

#[test]
fn an_upgrade_over_two_minor_versions_is_refused() {
    let upgrade = |from| {
        run(&mut ferrule(&[
            "upgrade",
            "--from",
            from,
            "--trust-domain",
            "shop.local",
        ]))
    };
    assert_eq!(upgrade(env!("CARGO_PKG_VERSION")).out, install(&[]).out);
    let refused = upgrade("99.0.0");
    assert_eq!(refused.code, 64);
    assert!(refused.err.contains("99.0.0"), "{}", refused.err);
}

#[test]
fn uninstalling_names_all_that_is_outside_of_the_namespaces_and_these() {
    let ended = run(&mut ferrule(&["uninstall"]));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let of = |text: &str, word: &str| {
        text.lines()
            .filter(|line| line.strip_prefix("kind: ") == Some(word))
            .count()
    };
    let installed = install(&[]).out;
    for kind in [
        "Namespace",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ] {
        assert!(of(&installed, kind) > 0, "{kind}");
        assert_eq!(of(&installed, kind), of(&ended.out, kind), "{kind}");
    }
    assert!(!ended.out.contains("kind: Service"));
    let first = ended.out.lines().find(|line| line.starts_with("kind: "));
    assert_eq!(first, Some("kind: MutatingWebhookConfiguration"));
}
