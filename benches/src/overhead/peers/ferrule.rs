//! Ferrule, from certificate files, with explicit listeners.

use std::net::SocketAddr;
use std::path::Path;

use super::super::pki::{Files, TRUST_DOMAIN};
use super::super::place::Place;
use super::super::subject::{Part, Subject};
use super::MUTUAL;
use crate::programs::version;

pub(super) fn prepare(place: &Place, program: &Path) -> anyhow::Result<Subject> {
    let rules = place.folder.join("rules");
    std::fs::create_dir(&rules)?;
    let certificates = &place.certificates;
    std::fs::write(rules.join("server.yaml"), policy(certificates.client.id))?;
    let far = format!(
        "serves: [{{ listen: \"{}\", to: \"{}\" }}]\nrules: {{ folder: \"{}\" }}\n",
        place.far,
        place.server,
        rules.display(),
    );
    let near = format!(
        "upstreams: [{{ listen: \"{}\", address: \"{}\", identity: \"{}\" }}]\n",
        place.near, place.far, certificates.server.id,
    );
    let part = |name: &str, files: &Files, ways: &str, listens: SocketAddr| -> anyhow::Result<Part> {
        let text = settings(name, files, &certificates.bundle) + ways;
        let settings = place.write(&format!("{name}.yaml"), &text)?;
        Ok(Part::new(
            program,
            ["run".into(), "--config".into(), settings],
            listens,
        ))
    };
    Ok(Subject {
        name: super::FERRULE,
        title: "Ferrule",
        about: format!(
            "{MUTUAL}; both identities are verified by name, one rule is judged, one line is logged"
        ),
        version: version(program, "--version"),
        parts: vec![
            part("server", &certificates.server, &far, place.far)?,
            part("client", &certificates.client, &near, place.near)?,
        ],
        entry: place.near,
    })
}

fn settings(name: &str, files: &Files, bundle: &Path) -> String {
    format!(
        "trust_domain: {TRUST_DOMAIN}\n\
         workload: {{ namespace: bench, name: {name}, service_account: {name} }}\n\
         credentials: {{ files: {{ chain: \"{}\", key: \"{}\", bundle: \"{}\" }} }}\n\
         admin: {{ enabled: false }}\n\
         workers: 1\n",
        files.chain.display(),
        files.key.display(),
        bundle.display(),
    )
}

fn policy(client: &str) -> String {
    format!(
        "apiVersion: ferrule.dev/v1alpha1\n\
         kind: AccessPolicy\n\
         metadata: {{ namespace: bench, name: server }}\n\
         spec:\n  workloads: all\n  action: allow\n  rules: [{{ from: [{{ identities: [\"{client}\"] }}] }}]\n"
    )
}
