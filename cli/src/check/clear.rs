//! Looks for what is spoken in clear: workloads whose mode allows it, and ports that answer other workloads so.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use ferrule_daemon::logging::Chain;
use ferrule_policy::{Mode, Workload, judge_port};
use serde_json::json;

use super::finding::{Finding, Kind, Looked};
use crate::picture::Picture;
use crate::sidecar::Socket;
use crate::state::{Capture, Running, RunningWorkload};
use crate::up::listener as listens_at;

/// Finds workloads whose rules allow clear, in or out.
pub(super) fn permissive(running: &Running, picture: &Picture, looked: &mut Looked) {
    for workload in running
        .mesh
        .workloads
        .iter()
        .filter(|workload| workload.replica == 0)
    {
        let selected = selected(workload);
        let is_open = |port: &&u16| picture.policy.inbound_mode(&selected, **port) == Mode::Permissive;
        let ports: Vec<String> = workload
            .ports
            .iter()
            .filter(is_open)
            .map(ToString::to_string)
            .collect();
        let mut what = Vec::new();
        if !ports.is_empty() {
            what.push(format!("takes connections in clear at {}", ports.join(", ")));
        }
        if picture.policy.outbound_mode(&selected) == Mode::Permissive {
            what.push("sends in clear to whoever is not in the mesh".to_owned());
        }
        looked.check((!what.is_empty()).then(|| Finding {
            kind: Kind::Permissive,
            place: workload.title(),
            what: format!("its mode is permissive: it {}", what.join(", and ")),
            next: "when everybody who calls is in the mesh, set mode: strict in its MeshPolicy".to_owned(),
        }));
    }
}

/// Finds ports that answer another workload in clear, by calling them from its sidecar.
pub(super) async fn reachable(running: &Running, picture: &Picture, looked: &mut Looked) {
    let workloads = &running.mesh.workloads;
    for called in workloads {
        let other = |caller: &&RunningWorkload| caller.identity != called.identity;
        let Some(caller) = workloads.iter().find(other) else {
            looked.unseen(&called.title(), "there is no other workload that could call it");
            continue;
        };
        let mut ports: BTreeSet<u16> = called.ports.iter().copied().collect();
        if running.mesh.capture == Capture::Transparent {
            ports.extend(called.pid.map(listening).unwrap_or_default());
        }
        // Where nothing is captured, what the application listens at and what its sidecar listens at are two things.
        let doors = called.doors.values();
        let doors = doors.filter(|_| running.mesh.capture == Capture::Explicit);
        ports.extend(doors);
        for port in ports {
            for address in &called.addresses {
                let at = SocketAddr::new(*address, port);
                match answer(caller, called, at, picture).await {
                    Ok(None) => looked.check(None),
                    // A sidecar that nothing leads to by force is all that is to be had here.
                    Ok(Some(how)) if is_uncaptured(called, port) => {
                        looked.warn(listener(called, port, at, how, picture));
                    }
                    Ok(Some(how)) => looked.check(Some(listener(called, port, at, how, picture))),
                    Err(error) => {
                        looked.unseen(&format!("{} from {}", called.title(), caller.title()), &error);
                        return;
                    }
                }
            }
        }
    }
}

/// How `at` answers another workload where it should not; nothing when it is as it should be, or nobody is there.
async fn answer(
    caller: &RunningWorkload,
    called: &RunningWorkload,
    at: SocketAddr,
    picture: &Picture,
) -> Result<Option<&'static str>, String> {
    let order = json!({ "address": at, "expected": called.identity, "brief": true });
    let told = Socket::new(&caller.control).post("/probe", &order, LIMIT).await;
    let told = told.map_err(|error| Chain(&error).to_string())?;
    if let Some(error) = told["error"].as_str() {
        return Err(error.to_owned());
    }
    let (mutual, clear) = (&told["mutual"], &told["plaintext"]["outcome"]);
    Ok(if clear == "answered" {
        Some("it answers in clear")
    } else if clear == "open" {
        Some("a connection in clear stays open")
    } else if is_closed(called, at.port(), picture) {
        // Its sidecar hangs up before any TLS, because the rules let in nobody, whoever it is.
        None
    } else if mutual["established"] != true && mutual["reason"] != "unreachable" {
        // Whoever hangs up on a stranger may do so in clear: what counts is that no sidecar is there.
        Some("it takes connections, and no sidecar answers there")
    } else {
        None
    })
}

/// Whether the rules let nobody reach that port, or the one that it is the door of.
fn is_closed(called: &RunningWorkload, port: u16, picture: &Picture) -> bool {
    let mut doors = called.doors.iter();
    let port = doors
        .find(|(_, door)| **door == port)
        .map_or(port, |(port, _)| *port);
    judge_port(&picture.policy, &selected(called), port).is_some_and(|verdict| !verdict.is_allowed())
}

/// Whether the application itself listens at that port, beside its sidecar, because nothing is captured.
fn is_uncaptured(called: &RunningWorkload, port: u16) -> bool {
    called.doors.contains_key(&port)
}

fn selected(workload: &RunningWorkload) -> Workload<'_> {
    Workload {
        namespace: &workload.namespace,
        name: &workload.name,
        labels: &workload.labels,
    }
}

fn listener(
    called: &RunningWorkload,
    port: u16,
    at: SocketAddr,
    how: &'static str,
    picture: &Picture,
) -> Finding {
    let next = if is_uncaptured(called, port) {
        "nothing is captured here, so programs of this machine pass the sidecar by; ferrule up --capture transparent \
         says what capture lacks"
    } else if picture.policy.inbound_mode(&selected(called), port) == Mode::Permissive {
        "its MeshPolicy allows that; set mode: strict when everybody who calls is in the mesh"
    } else {
        "its rules forbid that, so the port is not behind the sidecar: is it excluded from the redirect, or does the \
         program listen where the redirect does not reach?"
    };
    Finding {
        kind: Kind::PlaintextListener,
        place: called.title(),
        what: format!("another workload reaches {at}, and {how}"),
        next: next.to_owned(),
    }
}

/// The ports at which somebody listens in the network namespace of `pid`, not counting loopback and the sidecar's own.
fn listening(pid: u32) -> BTreeSet<u16> {
    let table = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    ports(&table("tcp"), &table("tcp6"))
}

fn ports(tcp: &str, tcp6: &str) -> BTreeSet<u16> {
    let listeners = tcp.lines().chain(tcp6.lines()).filter_map(listens_at);
    listeners
        .filter(|at| !at.ip().is_loopback() && !SIDECAR.contains(&at.port()))
        .map(|at| at.port())
        .collect()
}

/// The sidecar's own ports.
const SIDECAR: std::ops::RangeInclusive<u16> = 15_000..=15_029;

/// Longer than a connect and the wait for an answer.
const LIMIT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_the_kernels_table() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
        let tcp = format!(
            "{head}   0: 0100007F:1F40 00000000:0000 0A 0\n   1: 00000000:1F90 00000000:0000 0A 0\n   \
             2: 0200D50A:2328 00000000:0000 0A 0\n   3: 00000000:3A9E 00000000:0000 0A 0\n   \
             4: 0200D50A:2329 0300D50A:0050 01 0\n"
        );
        let tcp6 = format!(
            "{head}   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 0\n   \
             1: 00000000000000000000000001000000:01BC 00000000000000000000000000000000:0000 0A 0\n"
        );
        let found: Vec<u16> = ports(&tcp, &tcp6).into_iter().collect();
        assert_eq!(found, [443, 8080, 9000]);
    }
}
