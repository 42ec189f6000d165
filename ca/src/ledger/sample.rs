//! Decides which refusals are worth a row, so that nobody can fill the disk by being refused.

use std::collections::HashMap;

use ferrule_identity::Timestamp;

/// How many refusals become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleLimits {
    /// Rows for each reason within a second, when nobody knows who asked.
    pub anonymous_per_second: u32,
    /// Rows for each caller within a minute, when it is known.
    pub caller_per_minute: u32,
    /// Callers and reasons that are told apart. Those beyond share one account.
    pub accounts: usize,
}

impl Default for SampleLimits {
    /// One row a second for a reason, ten a minute for a caller, 4,096 accounts.
    fn default() -> Self {
        Self {
            anonymous_per_second: 1,
            caller_per_minute: 10,
            accounts: 4096,
        }
    }
}

/// Who or what is being counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// Callers that nobody knows, refused for this reason.
    Anonymous(String),
    /// A caller that is known.
    Caller(String),
    /// All that came when the accounts had run out.
    Others,
}

/// What becomes of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sampled {
    /// It becomes a row.
    Record {
        /// Where it was counted, for [`Sampler::put_back`].
        account: Account,
        /// How many of the account were left out since its last row.
        left_out: u64,
    },
    /// It is only counted.
    LeaveOut,
}

/// Refusals that were left out and that no later row has told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Whose they are.
    pub account: Account,
    /// The reason of the last of them.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// Counts refusals and picks those that become rows.
#[derive(Debug, Default)]
pub struct Sampler {
    limits: SampleLimits,
    windows: HashMap<Account, Window>,
}

/// One account's present second or minute.
#[derive(Debug)]
struct Window {
    began: Timestamp,
    recorded: u32,
    left_out: u64,
    reason: String,
}

impl Sampler {
    /// A sampler that has seen nothing.
    pub fn new(limits: SampleLimits) -> Self {
        Self {
            limits,
            windows: HashMap::new(),
        }
    }

    /// Counts a refusal of `caller`, or of somebody unknown, for `reason`.
    pub fn judge(&mut self, caller: Option<&str>, reason: &str, now: Timestamp) -> Sampled {
        let account = self.account(caller, reason, now);
        let (rows, seconds) = self.allowance(&account);
        let window = self.windows.entry(account.clone()).or_insert_with(|| Window {
            began: now,
            recorded: 0,
            left_out: 0,
            reason: String::new(),
        });
        if window.is_over(now, seconds) {
            window.began = now;
            window.recorded = 0;
        }
        if window.recorded < rows {
            window.recorded += 1;
            Sampled::Record {
                account,
                left_out: std::mem::take(&mut window.left_out),
            }
        } else {
            window.left_out = window.left_out.saturating_add(1);
            reason.clone_into(&mut window.reason);
            Sampled::LeaveOut
        }
    }

    /// Counts as left out what could not be recorded after all.
    pub fn put_back(&mut self, account: Account, reason: &str, count: u64, now: Timestamp) {
        let window = self.windows.entry(account).or_insert_with(|| Window {
            began: now,
            recorded: 0,
            left_out: 0,
            reason: String::new(),
        });
        window.left_out = window.left_out.saturating_add(count);
        reason.clone_into(&mut window.reason);
    }

    /// Takes out what was left out in windows that are over by `now` (in any, when `all`), and forgets the accounts
    /// that have nothing to tell any more. Sorted by account.
    pub fn settle(&mut self, now: Timestamp, all: bool) -> Vec<LeftOut> {
        let limits = self.limits;
        let mut settled = Vec::new();
        self.windows.retain(|account, window| {
            let over = window.is_over(now, allowance(&limits, account).1);
            if (over || all) && window.left_out > 0 {
                settled.push(LeftOut {
                    account: account.clone(),
                    reason: window.reason.clone(),
                    count: std::mem::take(&mut window.left_out),
                });
            }
            !over
        });
        settled.sort_by(|a, b| a.account.cmp(&b.account));
        settled
    }

    /// The account of a refusal; makes room first where that is needed and possible.
    fn account(&mut self, caller: Option<&str>, reason: &str, now: Timestamp) -> Account {
        let account = match caller {
            Some(caller) => Account::Caller(caller.to_owned()),
            None => Account::Anonymous(reason.to_owned()),
        };
        if self.windows.contains_key(&account) || self.windows.len() < self.limits.accounts {
            return account;
        }
        let limits = self.limits;
        self.windows.retain(|account, window| {
            window.left_out > 0 || !window.is_over(now, allowance(&limits, account).1)
        });
        if self.windows.len() < self.limits.accounts {
            account
        } else {
            Account::Others
        }
    }

    fn allowance(&self, account: &Account) -> (u32, u64) {
        allowance(&self.limits, account)
    }
}

impl Window {
    /// Whether the window is over; a clock that was set back ends it too.
    fn is_over(&self, now: Timestamp, seconds: u64) -> bool {
        now < self.began || now.since(self.began).as_secs() >= seconds
    }
}

/// How many rows an account may have within how many seconds.
fn allowance(limits: &SampleLimits, account: &Account) -> (u32, u64) {
    match account {
        Account::Anonymous(_) | Account::Others => (limits.anonymous_per_second, 1),
        Account::Caller(_) => (limits.caller_per_minute, 60),
    }
}

#[cfg(test)]
mod tests;
