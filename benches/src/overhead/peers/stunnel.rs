//! stunnel, one process in client mode and one in server mode.

use std::path::Path;

use super::super::pki::Files;
use super::super::place::Place;
use super::super::subject::{Part, Subject};
use crate::programs::version;

pub(super) fn prepare(place: &Place, program: &Path) -> anyhow::Result<Subject> {
    let part = |name: &str, client: &str, files: &Files, listen, to| -> anyhow::Result<Part> {
        let text = format!(
            "foreground = yes\npid =\nsyslog = no\ndebug = err\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n\
             [bench]\nclient = {client}\naccept = {listen}\nconnect = {to}\ncert = {}\nkey = {}\nCAfile = {}\n\
             verifyChain = yes\nsslVersionMin = TLSv1.3\nsessionResume = no\nTIMEOUTidle = 600\n",
            files.chain.display(),
            files.key.display(),
            place.certificates.bundle.display(),
        );
        let settings = place.write(&format!("{name}.conf"), &text)?;
        Ok(Part::new(program, [settings], listen))
    };
    let certificates = &place.certificates;
    Ok(Subject {
        name: "stunnel",
        title: "stunnel",
        about: "mutual TLS 1.3 with P-256 certificates, no resumption, a thread for each connection in each of two \
                processes; the chain is verified, no name"
            .to_owned(),
        version: version(program, "-version"),
        parts: vec![
            part("far", "no", &certificates.server, place.far, place.server)?,
            part("near", "yes", &certificates.client, place.near, place.far)?,
        ],
        entry: place.near,
    })
}
