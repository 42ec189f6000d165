//! Says what changes in a pod so that it has a sidecar; applied twice, it changes nothing more.

use std::time::Duration;

use serde_json::{Value, json};

use crate::decide::{Decision, Leave, Refusal, decide, is_ours};
use crate::draft::Draft;
use crate::names::{PROBES, REDIRECT, SIDECAR, STATUS, TRUST_VOLUME};
use crate::options::Options;
use crate::plan::{Capture, Plan};
use crate::pod::{List, Pod};
use crate::{probes, sidecar};

/// What is answered about a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It may start, with these changes (a JSON Patch, RFC 6902), and whoever creates it is told these things.
    Change {
        /// The changes; none when the pod is as it should be.
        patch: Vec<Value>,
        /// What to tell.
        warnings: Vec<String>,
    },
    /// It may start as it is.
    Leave(Leave),
    /// It must not start.
    Refuse(Refusal),
}

/// Answers about the pod of `document`.
pub fn answer(document: &Value, plan: &Plan) -> Answer {
    let options = match decide(Pod::new(document), plan) {
        Decision::Inject(options) => options,
        Decision::Leave(leave) => return Answer::Leave(leave),
        Decision::Refuse(refusal) => return Answer::Refuse(refusal),
    };
    match patch(document, plan, &options) {
        Ok(patch) => Answer::Change {
            patch,
            warnings: warnings(plan),
        },
        Err(refusal) => Answer::Refuse(refusal),
    }
}

fn patch(document: &Value, plan: &Plan, options: &Options) -> Result<Vec<Value>, Refusal> {
    let mut draft = Draft::of(document);
    let pod = Pod::new(document);
    let probes = if plan.capture == Capture::None {
        Vec::new()
    } else {
        probes::declared(pod).map_err(|source| Refusal::Probes { source })?
    };
    let proxy = sidecar::proxy(plan, options, &probes, grace(pod));
    // Probes first: their places are those of the pod as it came.
    for probe in &probes {
        let (pointer, field) = probe.pointer.rsplit_once('/').unwrap_or_default();
        draft.set(pointer, field, probe.rewritten.clone());
    }
    for volume in sidecar::volumes() {
        let name = volume["name"].as_str().unwrap_or_default().to_owned();
        draft.place("/spec", "volumes", &name, volume, None);
    }
    if options.mount_trust {
        mount_trust(&mut draft, pod);
    }
    containers(&mut draft, plan, proxy);
    let status = json!({ "capture": plan.capture.as_str(), "version": VERSION }).to_string();
    draft.set("/metadata/annotations", STATUS, json!(status));
    match probes::annotation(&probes) {
        Some(kept) => draft.set("/metadata/annotations", PROBES, json!(kept)),
        None => draft.unset("/metadata/annotations", PROBES),
    }
    Ok(draft.into_operations())
}

/// Puts our containers where they belong: first of all, so that whatever starts after them is in the mesh.
fn containers(draft: &mut Draft, plan: &Plan, proxy: Value) {
    let (init, main) = ("/spec/initContainers", "/spec/containers");
    let mut place = 0;
    if plan.capture == Capture::Init {
        draft.place(
            "/spec",
            "initContainers",
            REDIRECT,
            sidecar::redirect(plan),
            Some(0),
        );
        place = 1;
    } else {
        draft.remove_named(init, REDIRECT);
    }
    if plan.native_sidecars {
        draft.remove_named(main, SIDECAR);
        draft.place("/spec", "initContainers", SIDECAR, proxy, Some(place));
    } else {
        draft.remove_named(init, SIDECAR);
        draft.place("/spec", "containers", SIDECAR, proxy, Some(0));
    }
}

/// Shows the trust bundle to the application's containers, where nothing else is mounted at its place.
fn mount_trust(draft: &mut Draft, pod: Pod<'_>) {
    let mount = sidecar::trust_mount();
    for list in [List::Init, List::Main] {
        for container in pod.list(list).filter(|container| !is_ours(*container)) {
            let pointer = container.pointer();
            let taken = container.value()["volumeMounts"]
                .as_array()
                .is_some_and(|mounts| {
                    let there = |other: &Value| {
                        other["mountPath"] == mount["mountPath"] && other["name"] != TRUST_VOLUME
                    };
                    mounts.iter().any(there)
                });
            if taken {
                continue;
            }
            draft.place(&pointer, "volumeMounts", TRUST_VOLUME, mount.clone(), None);
            for variable in sidecar::trust_variables() {
                let name = variable["name"].as_str().unwrap_or_default().to_owned();
                let own = container.value()["env"].as_array();
                if !own.into_iter().flatten().any(|own| own["name"] == name.as_str()) {
                    draft.place(&pointer, "env", &name, variable, None);
                }
            }
        }
    }
}

fn grace(pod: Pod<'_>) -> Duration {
    let seconds = pod.spec("terminationGracePeriodSeconds").as_u64();
    Duration::from_secs(seconds.unwrap_or(KUBERNETES_GRACE))
}

fn warnings(plan: &Plan) -> Vec<String> {
    if plan.native_sidecars {
        return Vec::new();
    }
    vec![
        "this cluster is older than Kubernetes 1.29: the sidecar is an ordinary container, so init containers run \
         outside the mesh, and a Job does not end by itself"
            .to_owned(),
    ]
}

/// What Kubernetes gives a pod that names no other.
const KUBERNETES_GRACE: u64 = 30;

/// Our version, as pods carry it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests;
