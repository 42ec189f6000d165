//! Ferrule on the way beyond the mesh: it takes what is redirected, and passes on what a rule about addresses allows.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use super::super::pki::TRUST_DOMAIN;
use super::super::place::Place;
use super::super::space::Space;
use super::super::subject::{Part, Subject};
use crate::programs::version;

/// Makes an address that is not this machine's, and leads to it nevertheless.
pub(crate) fn open(space: &Space) -> anyhow::Result<()> {
    if let Some(why) = &space.shared {
        bail!("nothing can be redirected in the machine's own network, and there is no other, because {why}");
    }
    // From loopback: a connection from an address to itself would be the workload's to itself.
    let route = ["route", "add", "local", ADDRESS, "dev", "lo", "src", "127.0.0.1"];
    let status = Command::new("ip").args(route).args(["table", "local"]).status();
    ensure!(
        status.context("cannot run ip")?.success(),
        "cannot make a route to {ADDRESS}"
    );
    Ok(())
}

pub(super) fn prepare(place: &Place, program: &Path) -> anyhow::Result<Subject> {
    let rules = place.folder.join("rules");
    std::fs::create_dir(&rules)?;
    let port = place.server.port();
    std::fs::write(
        rules.join("out.yaml"),
        format!(
            "apiVersion: ferrule.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{ namespace: bench, name: out }}\n\
             spec:\n  workloads: all\n  allow: [{{ cidrs: [{ADDRESS}/32], ports: [{port}] }}]\n"
        ),
    )?;
    let (files, captured) = (&place.certificates.client, place.near.port());
    let text = format!(
        "trust_domain: {TRUST_DOMAIN}\n\
         workload: {{ namespace: bench, name: client, service_account: client }}\n\
         credentials: {{ files: {{ chain: \"{}\", key: \"{}\", bundle: \"{}\" }} }}\n\
         capture: {{ outbound_port: {captured}, inbound_port: {}, proof_port: {}, probe_port: {}, mark: {MARK}, \
         prove: false }}\n\
         rules: {{ folder: \"{}\" }}\nadmin: {{ enabled: false }}\nworkers: 1\n",
        files.chain.display(),
        files.key.display(),
        place.certificates.bundle.display(),
        captured + 2,
        captured + 3,
        captured + 4,
        rules.display(),
    );
    let settings = place.write("client.yaml", &text)?;
    redirect(port, captured)?;
    let arguments = ["run".into(), "--config".into(), settings];
    Ok(Subject {
        name: super::PASSTHROUGH,
        title: "Ferrule, passthrough",
        about: "one ferrule-proxy that takes what nftables redirects, judges one rule, passes the bytes on by splice, \
                and logs one line"
            .to_owned(),
        version: version(program, "--version"),
        parts: vec![Part::new(program, arguments, place.near)],
        entry: SocketAddr::new(ADDRESS.parse().context("an address")?, port),
    })
}

/// Leads what goes to the address to the sidecar, but for what the sidecar itself begins.
fn redirect(port: u16, to: u16) -> anyhow::Result<()> {
    let rules = format!(
        "table ip ferrule_bench {{ chain out {{ type nat hook output priority -100;\n\
         meta mark {MARK} accept\nip daddr {ADDRESS} tcp dport {port} redirect to :{to}\n}}\n}}\n"
    );
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run nft")?;
    let mut stdin = nft.stdin.take().context("nft reads its rules")?;
    stdin.write_all(rules.as_bytes())?;
    drop(stdin);
    ensure!(nft.wait()?.success(), "nft does not take the redirect");
    Ok(())
}

/// Of a block for documentation (RFC 5737), which is nobody's.
const ADDRESS: &str = "198.51.100.1";

/// Of what the sidecar begins itself.
const MARK: u32 = 2150;
