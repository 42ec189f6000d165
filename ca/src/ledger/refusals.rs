//! Records refusals, a bounded number of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::event::Refused;
use super::sample::{Account, SampleLimits, Sampled, Sampler};
use super::{Ledger, LedgerError, Now};

/// A caller that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who asked, when that is proven; `None` for everybody else, whatever they claim.
    pub caller: Option<String>,
    /// What was asked for.
    pub asked: String,
    /// The stable word for the reason.
    pub reason: &'static str,
    /// The reason in full.
    pub detail: String,
}

/// The way of every refusal into the ledger.
#[derive(Debug)]
pub struct Refusals {
    ledger: Arc<dyn Ledger>,
    now: Clock,
    sampler: Mutex<Sampler>,
}

impl Refusals {
    /// Records into `ledger` as many as `limits` allow.
    pub fn new(ledger: Arc<dyn Ledger>, now: Now, limits: SampleLimits) -> Self {
        Self {
            ledger,
            now: Clock(now),
            sampler: Mutex::new(Sampler::new(limits)),
        }
    }

    /// Records the refusal, or counts it; says whether it became a row.
    ///
    /// # Errors
    /// When the ledger does not take the row. The refusal stays counted, and a later row tells of it.
    pub async fn record(&self, refusal: Refusal) -> Result<bool, LedgerError> {
        let now = self.now.0();
        let judged = self
            .sampler()
            .judge(refusal.caller.as_deref(), refusal.reason, now);
        let Sampled::Record { account, left_out } = judged else {
            return Ok(false);
        };
        let row = Refused {
            caller: refusal.caller.map(|caller| cut(caller, ASKED_BYTES)),
            asked: cut(refusal.asked, ASKED_BYTES),
            reason: refusal.reason.to_owned(),
            detail: cut(refusal.detail, DETAIL_BYTES),
            left_out,
        };
        let appended = self.ledger.append(vec![row.into()]).await;
        if appended.is_err() {
            let count = left_out.saturating_add(1);
            self.sampler().put_back(account, refusal.reason, count, now);
        }
        appended.map(|_| true)
    }

    /// Records how many were left out where no later refusal has told of them: once a minute, and with `all` before
    /// the program ends. Gives the number of rows.
    ///
    /// # Errors
    /// When the ledger does not take the rows; they are counted on.
    pub async fn settle(&self, all: bool) -> Result<usize, LedgerError> {
        let now = self.now.0();
        let settled = self.sampler().settle(now, all);
        if settled.is_empty() {
            return Ok(0);
        }
        // A bounded share of the queue for each append: a transaction with thousands of rows would hold up issuing.
        let mut recorded = 0;
        for share in settled.chunks(SHARE_ROWS) {
            let rows = share.iter().map(|left| {
                let row = Refused {
                    caller: match &left.account {
                        Account::Caller(caller) => Some(cut(caller.clone(), ASKED_BYTES)),
                        Account::Anonymous(_) | Account::Others => None,
                    },
                    asked: String::new(),
                    reason: left.reason.clone(),
                    detail: "left out since the last row".to_owned(),
                    left_out: left.count,
                };
                row.into()
            });
            if let Err(error) = self.ledger.append(rows.collect()).await {
                let mut sampler = self.sampler();
                for left in settled.iter().skip(recorded) {
                    sampler.put_back(left.account.clone(), &left.reason, left.count, now);
                }
                return Err(error);
            }
            recorded += share.len();
        }
        Ok(recorded)
    }

    fn sampler(&self) -> MutexGuard<'_, Sampler> {
        // Counters stay counters, whatever happened to a task that held them.
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Clock(Now);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

/// At most the first `limit` octets of `text`, whole characters only.
fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// The most that is kept of who asked and of what was asked for.
const ASKED_BYTES: usize = 512;

/// The most that is kept of a reason.
const DETAIL_BYTES: usize = 256;

const SHARE_ROWS: usize = 100;

#[cfg(test)]
mod tests;
