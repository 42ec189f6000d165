//! `ferrule join`: enrols this host in a mesh with a token that is used up by it.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use ferrule_credentials::join::{HOST_FILE, JOIN_LIMIT, join};
use ferrule_daemon::clock::Clock;
use ferrule_wire::JoinToken;
use serde_json::json;
use tokio::time::timeout;

use crate::arguments::Join;
use crate::context::Context;
use crate::failure::Failure;

pub(crate) fn run(arguments: &Join, context: &Context) -> Result<ExitCode, Failure> {
    let token = token(&arguments.token)?;
    let folder = match &arguments.host {
        Some(folder) => folder.clone(),
        None => context.host_folder(token.trust_domain.as_str())?,
    };
    let known = folder.join(HOST_FILE);
    if known.exists() {
        return Err(Failure::Usage {
            message: format!(
                "this host has joined {} already ({} is there); the token is not used. To enrol it anew, remove {}",
                token.trust_domain,
                known.display(),
                folder.display()
            ),
        });
    }
    context.in_runtime(enrol(&token, folder, context))
}

async fn enrol(token: &JoinToken, folder: PathBuf, context: &Context) -> Result<ExitCode, Failure> {
    let joining = timeout(JOIN_LIMIT, join(token, &Clock::system())).await;
    let joining = joining.map_err(Failure::could_not("join in time"))?;
    let host = joining.map_err(Failure::could_not(format!("join {}", token.trust_domain)))?;
    host.write(&folder)
        .map_err(Failure::could_not("keep who this host is"))?;
    if context.is_json() {
        context.printer.json(&json!({
            "host": host.name, "trust_domain": host.trust_domain.as_str(), "identities": host.identities,
            "ca": host.addresses, "folder": folder,
        }))?;
    } else {
        let id = host.identities.iter().find(|id| !id.ends_with("/*"));
        context.printer.line(&format!(
            "joined {} as the host {}, which may ask for {}\nits key is in {}\nnext, run a program under its identity:\n  \
             ferrule run --identity {} --host {} --serve 0.0.0.0:9443=127.0.0.1:8080 -- ./program\n\
             or workloads of a mesh file with `host`, and with the first host in `join`:\n  ferrule up mesh.yaml",
            host.trust_domain,
            host.name,
            host.identities.join(", "),
            folder.display(),
            id.map_or("SPIFFE-ID", String::as_str),
            folder.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The token that the command line has or names: itself, a file, or `-` for standard input.
fn token(given: &str) -> Result<JoinToken, Failure> {
    let read = |text: &str| {
        text.trim().parse::<JoinToken>().map_err(|error| Failure::Usage {
            message: format!("the join token cannot be used: {error}"),
        })
    };
    if given.starts_with(JoinToken::PREFIX) {
        return read(given);
    }
    let limit = JoinToken::MAX_BYTES as u64 + 1;
    let mut text = String::new();
    let done = if given == "-" {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(given).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    done.map_err(Failure::could_not(format!("read the join token in {given}")))?;
    read(&text)
}
