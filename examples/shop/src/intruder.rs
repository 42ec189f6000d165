//! An intruder in the shop: tries what it may not, and tells the page what came of it.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::call::Target;
use crate::{CallError, ShopError};

/// Calls each of `targets` again and again, `pause` apart, and tells `shop`, as long as the program runs. Prints what
/// is new, and a summary every minute.
///
/// # Errors
/// When nobody takes what it prints.
pub fn intruder(shop: &Target, targets: &[Target], pause: Duration) -> Result<(), ShopError> {
    let mut diary = Diary::new(targets.len());
    let mut summed = Instant::now();
    loop {
        for (at, target) in targets.iter().enumerate() {
            let answer = target.get();
            let (got_through, outcome) = match &answer {
                Ok(answer) => (true, answer.to_string()),
                Err(error) => (false, error.to_string()),
            };
            let outcome: String = outcome.chars().take(MOST_TOLD).collect();
            if diary.note(at, answer.as_ref().err()) {
                // A failure names its target.
                say(&if got_through {
                    format!("got through: {target}: {outcome}")
                } else {
                    format!("kept out: {outcome}")
                })?;
            }
            let told =
                json!({ "target": target.to_string(), "outcome": outcome, "got_through": got_through });
            let told = shop.at("/attempts").post(&told);
            if let (true, Err(error)) = (diary.told(told.is_ok()), &told) {
                say(&format!("cannot tell the shop: {error}"))?;
            }
        }
        if summed.elapsed() >= SUMMARY {
            summed = Instant::now();
            say(&diary.summary())?;
        }
        thread::sleep(pause);
    }
}

fn say(line: &str) -> Result<(), ShopError> {
    writeln!(std::io::stdout(), "{line}").map_err(|source| ShopError::Print { source })
}

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    GotThrough,
    /// Refused while connecting or at the first byte, which is the same refusal at a different moment.
    KeptOut,
    /// Somebody answered, and said no.
    SentAway,
}

impl Outcome {
    const fn of(error: Option<&CallError>) -> Self {
        match error {
            None => Self::GotThrough,
            Some(CallError::Reach { .. } | CallError::Cut { .. }) => Self::KeptOut,
            Some(CallError::Status { .. } | CallError::Answer { .. }) => Self::SentAway,
        }
    }
}

/// What has happened so far, so that the same is not told twice.
struct Diary {
    /// The last outcome for each target.
    last: Vec<Option<Outcome>>,
    heard: bool,
    tried: u64,
    through: u64,
}

impl Diary {
    fn new(targets: usize) -> Self {
        Self {
            last: vec![None; targets],
            heard: true,
            tried: 0,
            through: 0,
        }
    }

    /// Notes an attempt at target `at`; whether it ended otherwise than the one before.
    fn note(&mut self, at: usize, error: Option<&CallError>) -> bool {
        self.tried += 1;
        self.through += u64::from(error.is_none());
        let outcome = Outcome::of(error);
        match self.last.get_mut(at) {
            Some(last) => last.replace(outcome) != Some(outcome),
            None => false,
        }
    }

    /// Notes whether the shop listened; whether that is news.
    fn told(&mut self, heard: bool) -> bool {
        std::mem::replace(&mut self.heard, heard) != heard
    }

    fn summary(&self) -> String {
        format!(
            "tried {} times so far, got through {} times",
            self.tried, self.through
        )
    }
}

/// Characters of an outcome that are told.
const MOST_TOLD: usize = 300;

/// From one summary to the next.
const SUMMARY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn cut() -> CallError {
        CallError::Cut {
            target: "http://api:1".parse().unwrap(),
            source: std::io::ErrorKind::UnexpectedEof.into(),
        }
    }

    fn reach() -> CallError {
        CallError::Reach {
            target: "http://api:1".parse().unwrap(),
            source: std::io::ErrorKind::ConnectionReset.into(),
        }
    }

    #[test]
    fn only_what_is_new_is_told() {
        let mut diary = Diary::new(2);
        assert!(diary.note(0, Some(&cut())));
        assert!(!diary.note(0, Some(&reach())), "kept out as before");
        assert!(diary.note(1, Some(&cut())), "another target");
        assert!(diary.note(0, None), "a rule has changed");
        assert!(!diary.note(0, None));
        assert!(diary.note(0, Some(&cut())), "and back");
        assert_eq!(diary.summary(), "tried 6 times so far, got through 2 times");
        assert!(diary.told(false) && !diary.told(false) && diary.told(true));
    }
}
