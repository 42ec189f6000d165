//! Looks at endpoints that are left out, so that those that have healed come back without a client's trying them.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::kit::Kit;
use crate::outbound::mesh;

/// Looks at whoever is due, for ever, beside the connections of a worker.
pub async fn watch(kit: &Rc<Kit>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looks = JoinSet::new();
    for ticks in 0_u64.. {
        tick.tick().await;
        while looks.try_join_next().is_some() {}
        let now = std::time::Instant::now();
        if ticks % FORGET_EVERY == 0 {
            kit.balancer.forget(now);
        }
        for endpoint in kit.balancer.due(now) {
            if looks.len() >= MOST_LOOKS {
                break;
            }
            let kit = Rc::clone(kit);
            looks.spawn_local(async move {
                let load = kit.balancer.begin(&endpoint);
                match mesh::look(&endpoint, &kit).await {
                    Ok(()) => load.succeeded(),
                    Err(Some((how, closed))) => load.failed(how, closed.reason.word()),
                    Err(None) => {}
                }
            });
        }
    }
}

const TICK: Duration = Duration::from_millis(250);

/// Looks at once; the others have their turn when these are over.
const MOST_LOOKS: usize = 64;

/// Every minute.
const FORGET_EVERY: u64 = 240;
