//! Replaces signing certificates well before their end, without anybody's help, and clears away what is over.

use std::time::Duration;

use ferrule_identity::{Fingerprint, Timestamp};

use super::draft::Draft;
use super::error::AuthorityError;
use super::slots::{Slot, Slots};
use super::{Authorities, ledger_error};
use crate::ledger::event::{Role, Step};
use crate::ledger::{IssuerUse, LedgerError};

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Nothing before then.
    Nothing {
        /// When to look again at the latest.
        until: Timestamp,
    },
    /// A new signing certificate takes over.
    Replace {
        /// Why, for the ledger.
        reason: &'static str,
    },
    /// A signing certificate with nothing live below it goes, and its key with it.
    Remove {
        /// The authority.
        id: Fingerprint,
    },
}

/// What decides about a rotation beside the certificates' turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The replica whose signing certificate it is.
    pub replica: &'a str,
    /// Whether the active signing certificate has its key here and passed its rehearsal.
    pub usable: bool,
    /// What still hangs on each authority.
    pub uses: &'a [IssuerUse],
    /// The share of its life, in per cent, after which a signing certificate is replaced.
    pub rotate_at_percent: u8,
    /// The longest life of a leaf; a signing certificate that would shorten one is replaced.
    pub longest_leaf: Duration,
}

/// Says what is due now. The root that signs is taken to be at hand; where it is not, nobody asks.
pub fn due(slots: &Slots, facts: &Facts<'_>, now: Timestamp) -> Due {
    let Some(root) = slots.active_root() else {
        return Due::Nothing {
            until: now.plus(LOOK_AGAIN),
        };
    };
    let Some(active) = slots.active_signer(facts.replica) else {
        return Due::Replace {
            reason: "none is active",
        };
    };
    let at = replace_at(active, facts);
    if !facts.usable {
        return Due::Replace {
            reason: "its key is not here, or peers would refuse it",
        };
    }
    if active.root != root.id {
        return Due::Replace {
            reason: "another root is active",
        };
    }
    // A root that is about to end gives no better one; then what is left of it is used up.
    if now >= at && active.lifetime.not_after() < root.lifetime.not_after() {
        return Due::Replace {
            reason: "its time has come",
        };
    }
    match over(slots, facts.uses, now) {
        Some(id) => Due::Remove { id },
        None => Due::Nothing {
            until: if at > now {
                at.min(now.plus(LOOK_AGAIN))
            } else {
                now.plus(LOOK_AGAIN)
            },
        },
    }
}

/// When a signing certificate is replaced: at its share of its life, or earlier where a leaf would be cut short.
fn replace_at(active: &Slot, facts: &Facts<'_>) -> Timestamp {
    let life = active.lifetime;
    let share = life.length().as_secs() / 100 * u64::from(facts.rotate_at_percent.min(100));
    let by_share = life.not_before().plus(Duration::from_secs(share));
    let by_leaf = life.not_after().minus(facts.longest_leaf);
    // One that is shorter than the longest leaf can only shorten it, however early it is replaced.
    if by_leaf <= life.not_before() {
        by_share
    } else {
        by_share.min(by_leaf)
    }
}

/// A signing certificate that has nothing more to do.
fn over(slots: &Slots, uses: &[IssuerUse], now: Timestamp) -> Option<Fingerprint> {
    let candidates = slots.all().iter().filter(|slot| slot.role == Role::Signing);
    let root = slots.active_root().map(|root| root.id);
    candidates
        .filter(|slot| match slot.state {
            // What was signed a moment ago may still be on its way into the ledger.
            Step::Retired => slot.since.plus(SETTLE) < now,
            Step::Prepared => Some(slot.root) != root,
            Step::Active | Step::Removed => false,
        })
        .map(|slot| slot.id)
        .find(|id| slots.remove_signer(*id, last_leaf(uses, *id), now).is_ok())
}

fn last_leaf(uses: &[IssuerUse], id: Fingerprint) -> Option<Timestamp> {
    let name = id.to_string();
    let used = uses.iter().find(|used| used.live > 0 && used.authority == name)?;
    Some(used.latest_not_after)
}

impl Authorities {
    /// Does what is due, until nothing is; says when to look again.
    ///
    /// # Errors
    /// When something that is due cannot be done; the CA goes on with what it has.
    pub async fn tend(&self) -> Result<Timestamp, AuthorityError> {
        let _turn = self.turn.lock().await;
        for _ in 0..MAX_STEPS {
            self.read_again().await?;
            let (now, view) = (self.now(), self.view());
            let uses = self
                .ledger
                .issuers()
                .await
                .map_err(ledger_error("count the live certificates"))?;
            let facts = Facts {
                replica: &self.replica,
                usable: view.active.is_ok(),
                uses: &uses,
                rotate_at_percent: self.settings.signing.rotate_at_percent,
                longest_leaf: self.settings.longest_leaf,
            };
            match due(&view.slots, &facts, now) {
                Due::Nothing { until } => return Ok(until),
                Due::Replace { reason } => {
                    let root = view.slots.active_root().and_then(|slot| view.find(slot.id));
                    // Its holder elsewhere has to act; the status warns in time.
                    let Some(root) = root.filter(|root| root.sealed) else {
                        return Ok(now.plus(LOOK_AGAIN));
                    };
                    let key = self.root_key(root.slot.id).await?;
                    let mut draft = Draft::new(&view, "rotation");
                    let new = self
                        .add_new_signing(&mut draft, &root.certificate, &key, now)
                        .await?;
                    let committed = self.commit(draft, "replace the signing certificate").await;
                    if let Err(error) = committed {
                        // Another process was faster. Only then is the new key certain to be of no use.
                        if is_conflict(&error) {
                            self.with_keys("delete the unused signing key", move |keys| keys.forget(new))
                                .await?;
                        }
                        return Err(error);
                    }
                    tracing::info!(authority = %new, reason, "signing certificate replaced");
                }
                Due::Remove { id } => {
                    let mut draft = Draft::new(&view, "rotation");
                    draft.step(|slots| slots.remove_signer(id, last_leaf(&uses, id), now))?;
                    self.commit(draft, "remove the signing certificate").await?;
                    // Only after the ledger has let go of it: a key too many is no harm.
                    self.with_keys("delete the signing key", move |keys| keys.forget(id))
                        .await?;
                    tracing::info!(authority = %id, "signing certificate removed");
                }
            }
        }
        Ok(self.now().plus(LOOK_AGAIN))
    }

    /// Tends to the certificates for as long as it is polled: when something is due, when the ledger changes, and
    /// once a minute. A failure is logged, and tried again a minute later.
    pub async fn keep(&self) {
        let mut changes = self.ledger.watch();
        loop {
            changes.borrow_and_update();
            let until = self.tend().await.unwrap_or_else(|error| {
                tracing::error!(error = %ferrule_daemon::logging::Chain(&error), "rotation cannot go on");
                self.now().plus(LOOK_AGAIN)
            });
            tokio::select! {
                () = self.clock.sleep_until(until.unix()) => {}
                changed = changes.changed() => {
                    // The ledger is closed: the program ends.
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn is_conflict(error: &AuthorityError) -> bool {
    matches!(error, AuthorityError::Ledger { source, .. } if matches!(**source, LedgerError::Conflict(_)))
}

/// How long nothing is looked at by itself.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Longer than a certificate can be on its way into the ledger after it was signed.
const SETTLE: Duration = Duration::from_secs(120);

/// More than are ever due at once; a fault must not become a busy loop.
const MAX_STEPS: usize = 64;

#[cfg(test)]
mod tests;
