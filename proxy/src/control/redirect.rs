//! Proves the redirect again and again, and keeps the program from being ready without.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::logging::Chain;
use ferrule_daemon::ready::Latch;
use tracing::{error, info};

use crate::config::Config;
use crate::proof::{Token, prove};

/// Proves for ever; `latch` is held whenever the last proof failed.
pub async fn watch(config: Arc<Config>, token: Token, latch: Latch) -> Infallible {
    let mut last = None;
    loop {
        let proved = prove(&config, token).await;
        match &proved {
            Ok(()) => latch.release(),
            Err(_) => latch.hold(),
        }
        let said = proved.as_ref().map_err(|error| Chain(error).to_string()).err();
        if last.as_ref() != Some(&said) {
            match &said {
                None => info!("the redirect is in place"),
                Some(error) => error!(%error, "the redirect is not in place"),
            }
        }
        last = Some(said);
        let pause = if proved.is_ok() { CALM } else { EAGER };
        tokio::time::sleep(pause).await;
    }
}

/// Between proofs while the redirect is in place.
const CALM: Duration = Duration::from_secs(10);

/// Between proofs while it is not.
const EAGER: Duration = Duration::from_millis(200);
