//! HAProxy in TCP mode.

use std::path::Path;

use super::super::place::Place;
use super::super::subject::{Part, Subject};
use super::MUTUAL;
use crate::programs::version;

pub(super) fn prepare(place: &Place, program: &Path) -> anyhow::Result<Subject> {
    let certificates = &place.certificates;
    let bundle = certificates.bundle.display();
    let far = format!(
        "{COMMON}frontend near\n  bind {} ssl crt {} ca-file {bundle} verify required ssl-min-ver TLSv1.3 no-tls-tickets\n  \
         default_backend far\nbackend far\n  server far {}\n",
        place.far,
        certificates.server.both.display(),
        place.server,
    );
    let near = format!(
        "{COMMON}frontend near\n  bind {}\n  default_backend far\nbackend far\n  \
         server far {} ssl crt {} ca-file {bundle} verify required ssl-min-ver TLSv1.3 no-ssl-reuse\n",
        place.near,
        place.far,
        certificates.client.both.display(),
    );
    let part = |name: &str, text: &str, listens| -> anyhow::Result<Part> {
        let settings = place.write(name, text)?;
        Ok(Part::new(program, ["-db".into(), "-f".into(), settings], listens))
    };
    Ok(Subject {
        name: "haproxy",
        title: "HAProxy",
        about: format!("{MUTUAL}; the chain is verified, no name"),
        version: version(program, "-v"),
        parts: vec![
            part("far.cfg", &far, place.far)?,
            part("near.cfg", &near, place.near)?,
        ],
        entry: place.near,
    })
}

// It takes as many connections as it may have open files for.
const COMMON: &str = "global\n  nbthread 1\n  tune.ssl.cachesize 0\n\
defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10m\n  timeout server 10m\n";
