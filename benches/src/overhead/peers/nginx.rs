//! nginx with its stream module, with TLS and without.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::super::place::Place;
use super::super::subject::{Part, Subject};
use super::MUTUAL;
use crate::programs::version;

pub(super) fn sealed(place: &Place, program: &Path) -> anyhow::Result<Subject> {
    let certificates = &place.certificates;
    let bundle = certificates.bundle.display();
    let far = format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3; ssl_client_certificate {bundle}; \
         ssl_verify_client on; ssl_session_tickets off; ssl_session_cache off;",
        certificates.server.chain.display(),
        certificates.server.key.display(),
    );
    // It knows no SPIFFE ID; a certificate without a host name is compared by its common name.
    let near = format!(
        "proxy_ssl on; proxy_ssl_certificate {}; proxy_ssl_certificate_key {}; proxy_ssl_protocols TLSv1.3; \
         proxy_ssl_trusted_certificate {bundle}; proxy_ssl_verify on; proxy_ssl_name server; \
         proxy_ssl_session_reuse off;",
        certificates.client.chain.display(),
        certificates.client.key.display(),
    );
    Ok(Subject {
        name: "nginx",
        title: "nginx",
        about: format!("{MUTUAL}, no master beside them; chains are verified, and the server's common name"),
        version: version(program, "-v"),
        parts: vec![
            part(place, program, ("far", " ssl", &far), place.far, place.server)?,
            part(place, program, ("near", "", &near), place.near, place.far)?,
        ],
        entry: place.near,
    })
}

pub(super) fn plain(place: &Place, program: &Path) -> anyhow::Result<Subject> {
    Ok(Subject {
        name: "nginx-plain",
        title: "nginx without TLS",
        about: "nothing is encrypted; two processes, no master beside them".to_owned(),
        version: version(program, "-v"),
        parts: vec![
            part(place, program, ("far", "", ""), place.far, place.server)?,
            part(place, program, ("near", "", ""), place.near, place.far)?,
        ],
        entry: place.near,
    })
}

fn part(
    place: &Place,
    program: &Path,
    (name, sealed, more): (&str, &str, &str),
    listen: SocketAddr,
    to: SocketAddr,
) -> anyhow::Result<Part> {
    let folder = place.folder.display();
    let mut text = String::new();
    // Debian's has the module in a file of its own, others have it built in.
    if Path::new(MODULE).exists() {
        writeln!(text, "load_module {MODULE};")?;
    }
    // One process, which ends with this program however that ends; a worker would outlive a master that is killed.
    // Each direction ends by itself, as with all others: left alone, nginx takes the end of one for the end of both.
    write!(
        text,
        "daemon off; master_process off; user root; pid {folder}/{name}.pid;\n\
         error_log stderr warn;\n\
         events {{ worker_connections 50000; }}\n\
         stream {{ proxy_timeout 10m; proxy_half_close on; {more} server {{ listen {listen}{sealed} backlog=4096; proxy_pass {to}; }} }}\n"
    )?;
    let settings = place.write(&format!("{name}.conf"), &text)?;
    let arguments = ["-e".into(), "stderr".into(), "-c".into(), settings];
    Ok(Part::new(program, arguments, listen))
}

const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
