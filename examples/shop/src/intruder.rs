//! An intruder in the shop: tries what it may not, and tells the page what came of it.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::ShopError;
use crate::call::Target;

/// Calls each of `targets` again and again, `pause` apart, and tells `shop`, as long as the program runs.
///
/// # Errors
/// When nobody takes what it prints.
pub fn intruder(shop: &Target, targets: &[Target], pause: Duration) -> Result<(), ShopError> {
    loop {
        for target in targets {
            let (got_through, outcome) = match target.get() {
                Ok(answer) => (true, answer.to_string()),
                Err(error) => (false, error.to_string()),
            };
            let outcome: String = outcome.chars().take(MOST_TOLD).collect();
            say(&format!("{target}: {outcome}"))?;
            let told =
                json!({ "target": target.to_string(), "outcome": outcome, "got_through": got_through });
            if let Err(error) = shop.at("/attempts").post(&told) {
                say(&format!("cannot tell the shop: {error}"))?;
            }
        }
        thread::sleep(pause);
    }
}

fn say(line: &str) -> Result<(), ShopError> {
    writeln!(std::io::stdout(), "{line}").map_err(|source| ShopError::Print { source })
}

/// Characters of an outcome that are told.
const MOST_TOLD: usize = 300;
