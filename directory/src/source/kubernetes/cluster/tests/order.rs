//! Shows the same objects in any order, and looks that nobody is taken for somebody else meanwhile.

use std::collections::BTreeMap;

use ferrule_policy::Joined;
use proptest::prelude::*;

use super::*;
use crate::model::Model;
use crate::source::News;

/// One object as it may be.
#[derive(Debug, Clone)]
struct Shown {
    name: u8,
    /// `None`: it is gone.
    state: Option<State>,
}

#[derive(Debug, Clone)]
struct State {
    address: Option<u8>,
    account: u8,
    is_meshed: bool,
    phase: &'static str,
    is_leaving: bool,
    age: u8,
    incarnation: u8,
}

fn states() -> impl Strategy<Value = State> {
    let phases =
        prop_oneof![3 => Just("Running"), 1 => Just("Pending"), 1 => Just("Succeeded"), 1 => Just("Failed")];
    let fields = (
        proptest::option::of(0..3_u8),
        0..3_u8,
        any::<bool>(),
        phases,
        any::<bool>(),
        0..4_u8,
        0..2_u8,
    );
    fields.prop_map(
        |(address, account, is_meshed, phase, is_leaving, age, incarnation)| State {
            address,
            account,
            is_meshed,
            phase,
            is_leaving,
            age,
            incarnation,
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Shown>> {
    let step = (0..4_u8, proptest::option::weighted(0.85, states()));
    let step = step.prop_map(|(name, state)| Shown { name, state });
    proptest::collection::vec(step, 1..24)
}

fn object(name: u8, state: &State) -> Value {
    let ip = state.address.map(|address| format!("10.0.0.{address}"));
    let mut object = if state.is_meshed {
        pod(&format!("p{name}"), ip.as_deref().unwrap_or(""))
    } else {
        plain(&format!("p{name}"), ip.as_deref().unwrap_or(""))
    };
    object["metadata"]["uid"] = json!(format!("uid-p{name}-{}", state.incarnation));
    object["metadata"]["creationTimestamp"] = json!(format!("2026-01-0{}T00:00:00Z", state.age + 1));
    object["spec"]["serviceAccountName"] = json!(format!("account{}", state.account));
    object["status"]["phase"] = json!(state.phase);
    if ip.is_none() {
        object["status"]["podIPs"] = json!([]);
    }
    if state.is_leaving {
        object["metadata"]["deletionTimestamp"] = json!("2026-02-01T00:00:00Z");
    }
    object
}

/// Who is expected at an address, as a proxy is told.
fn expected(model: &Model, address: u8) -> Vec<(String, String)> {
    let ip: IpAddr = format!("10.0.0.{address}").parse().unwrap();
    let joined = model
        .addresses()
        .values()
        .filter_map(|address| match &*address.joined {
            Joined::Workload(joined) => Some(joined),
            Joined::Service(_) => None,
        });
    joined
        .filter(|joined| joined.own_addresses().any(|own| own == ip))
        .map(|joined| (joined.workload.name.clone(), joined.workload.id.to_string()))
        .collect()
}

/// Who may be expected there: by the objects alone, said in another way.
fn may_be_expected(objects: &BTreeMap<u8, State>, address: u8) -> Vec<(String, String)> {
    let there: Vec<(&u8, &State)> = objects
        .iter()
        .filter(|(_, state)| {
            state.address == Some(address) && !["Succeeded", "Failed"].contains(&state.phase)
        })
        .collect();
    let who = |(name, state): &(&u8, &State)| {
        (
            format!("p{name}"),
            format!("spiffe://shop.local/ns/shop/sa/account{}", state.account),
        )
    };
    let staying: Vec<_> = there.iter().filter(|(_, state)| !state.is_leaving).collect();
    let meshed: Vec<_> = staying.iter().filter(|(_, state)| state.is_meshed).collect();
    match (staying.len(), meshed.as_slice()) {
        (0, _) => {
            let newest = there.iter().map(|(_, state)| state.age).max();
            let newest: Vec<_> = there
                .iter()
                .filter(|(_, state)| Some(state.age) == newest)
                .collect();
            let meshed: Vec<_> = newest.iter().filter(|(_, state)| state.is_meshed).collect();
            match meshed.as_slice() {
                [one] => vec![who(one)],
                _ => Vec::new(),
            }
        }
        (_, [one]) => vec![who(one)],
        _ => Vec::new(),
    }
}

proptest! {
    // Whatever is seen in whatever order: whoever is expected at an address is the one pod that may live there, under
    // the identity of the newest object of it; what changes told step by step is what everything at once tells.
    #[test]
    fn an_address_is_never_taken_for_somebody_elses(steps in steps()) {
        let mut cluster = cluster(&[], service(), &[]);
        let ends: Vec<Value> = (0..4).map(|name| json!({
            "addresses": [format!("10.0.0.{}", name % 3)], "conditions": { "ready": true },
            "targetRef": { "kind": "Pod", "namespace": "shop", "name": format!("p{name}"), "uid": format!("uid-p{name}-0") },
        })).collect();
        see_slice(&mut cluster, slice(&ends));
        let mut model = Model::new(domain(), &[]);
        model.apply(News::Everything(cluster.everything()));
        let mut objects = BTreeMap::new();
        for step in steps {
            match &step.state {
                Some(state) => {
                    see_pod(&mut cluster, object(step.name, state));
                    objects.insert(step.name, state.clone());
                }
                None => {
                    lose_pod(&mut cluster, &format!("p{}", step.name));
                    objects.remove(&step.name);
                }
            }
            let changes = cluster.changes();
            model.apply(News::Changes(changes));
            for address in 0..3 {
                prop_assert_eq!(expected(&model, address), may_be_expected(&objects, address), "10.0.0.{}", address);
            }
            for name in 0..4_u8 {
                let key = ("shop".to_owned(), format!("p{name}"));
                let told = model.workload(&key).map(|told| told.id.to_string());
                let is = objects.get(&name).filter(|state| state.is_meshed && !["Succeeded", "Failed"].contains(&state.phase));
                prop_assert_eq!(told, is.map(|state| format!("spiffe://shop.local/ns/shop/sa/account{}", state.account)));
            }
            // Whoever is behind the service is the very pod that the slice means, and lives there alone.
            if let Behind::Named(named) = told(&cluster).behind {
                for name in named.keys() {
                    let number: u8 = name[1..].parse().unwrap();
                    let state = &objects[&number];
                    prop_assert!(state.incarnation == 0 && state.is_meshed, "{}", name);
                    prop_assert_eq!(state.address, Some(number % 3));
                }
            }
        }
        let mut fresh = Model::new(domain(), &[]);
        fresh.apply(News::Everything(cluster.everything()));
        let versions = |model: &Model| -> Vec<_> {
            model.addresses().iter().map(|(name, address)| (name.clone(), address.resource.version())).collect()
        };
        prop_assert_eq!(versions(&model), versions(&fresh));
    }
}
