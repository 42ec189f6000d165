//! Runs one program with its sidecar in a network of their own, where the kernel redirects its connections.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use ferrule_daemon::drain::Drain;
use ferrule_daemon::signals::{Signal, Signals};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, UnixListener};
use tokio::process::Command;

use crate::arguments::Run;
use crate::context::Context;
use crate::failure::{EXIT_WRONG, Failure};
use crate::up::alone::{self, Alone};
use crate::up::parts;

/// Runs the program of `arguments` to its end; `folder` has the sidecar's settings, and is for nothing else.
pub(super) fn run(
    arguments: &Run,
    folder: &Path,
    settings: &Value,
    context: &Context,
) -> Result<ExitCode, Failure> {
    if let Some(why) = alone::refusal() {
        return Err(Failure::Missing {
            message: format!(
                "connections cannot be captured here: {why}; without --capture transparent it works"
            ),
        });
    }
    DirBuilder::new()
        .mode(0o700)
        .create(folder.join("run"))
        .map_err(Failure::could_not("make a folder"))?;
    let alone = alone::alone(arguments, folder, authorities(settings)?)?;
    let file = folder.join("alone.json");
    let text = serde_json::to_vec(&alone).map_err(Failure::could_not("write what is to be run"))?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .and_then(|mut file| file.write_all(&text))
        .map_err(Failure::could_not(format!("write {}", file.display())))?;
    context.in_runtime(carry(arguments, &alone, &file))
}

async fn carry(arguments: &Run, alone: &Alone, file: &Path) -> Result<ExitCode, Failure> {
    let mut signals = Signals::system().map_err(Failure::could_not("listen for signals"))?;
    let relays = Drain::new();
    alone::serve_outside(alone, &relays).map_err(Failure::could_not("open the way out of the network"))?;
    for text in &arguments.serves {
        let (listen, to) = super::settings::serves(text)?;
        let Some(own) = alone
            .addresses
            .iter()
            .find(|own| own.is_ipv4() == listen.is_ipv4())
        else {
            return Err(Failure::Usage {
                message: format!("--serve {text}: this machine has no address of that family"),
            });
        };
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(Failure::could_not(format!("listen at {listen}")))?;
        alone::serve_inside(listener, alone, SocketAddr::new(*own, to.port()), &relays);
    }
    let orders = UnixListener::bind(alone.orders()).map_err(Failure::could_not("make a socket"))?;
    let mut command = parts::command(true, "root", ["alone".as_ref(), file.as_os_str()]);
    // Out of the terminal's process group: Ctrl-C is for this process, which hands it on.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = Command::from(command)
        .stdin(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(Failure::could_not("start the program's network"))?;
    let mut hand = None;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(Failure::could_not("wait for the program"))?,
            Ok((stream, _)) = orders.accept(), if hand.is_none() => hand = Some(stream),
            asked = signals.next() => {
                let word = if asked == Signal::Terminate { "end\n".to_owned() } else { format!("{}\n", alone::INTERRUPT) };
                match &mut hand {
                    // Whoever does not take it has ended, which is seen above.
                    Some(stream) => drop(stream.write_all(word.as_bytes()).await),
                    None => drop(child.kill().await),
                }
            }
        }
    };
    relays.cut_now();
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(EXIT_WRONG)))
}

/// Where the CA of these settings listens, none where certificates come from files.
fn authorities(settings: &Value) -> Result<Vec<IpAddr>, Failure> {
    let mut found = Vec::new();
    for address in settings["credentials"]["ca"]["addresses"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let text = address.as_str().unwrap_or_default();
        let resolved = text.to_socket_addrs();
        let resolved = resolved.map_err(Failure::could_not(format!("find the CA at {text}")))?;
        for address in resolved {
            if address.ip().is_loopback() {
                return Err(Failure::Usage {
                    message: format!(
                        "the CA listens at {text}, which a network of its own does not reach; join by an address of this \
                         machine that is not loopback"
                    ),
                });
            }
            found.push(address.ip());
        }
    }
    Ok(found)
}
