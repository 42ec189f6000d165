//! Proves the redirect again and again, and keeps the program from being ready without.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::logging::Chain;
use ferrule_daemon::ready::Latch;
use tracing::{error, info};

use crate::config::Config;
use crate::proof::{ProofError, Token, prove};

/// Proves for ever; `latch` is held whenever the last proof failed, or the last ones had no answer.
pub async fn watch(config: Arc<Config>, token: Token, latch: Latch) -> Infallible {
    let mut last = None;
    let mut proofs = Proofs::new();
    loop {
        let proved = prove(&config, token).await;
        if !proofs.tell(&proved) {
            tokio::time::sleep(EAGER).await;
            continue;
        }
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

/// How many proofs in a row had no answer.
struct Proofs(u8);

impl Proofs {
    /// Nothing is proved yet, so there is nothing to go on with.
    const fn new() -> Self {
        Self(PATIENCE)
    }

    /// Whether this proof tells anything: of an answer that is missing, only after as many in a row as are waited for.
    const fn tell(&mut self, proved: &Result<(), ProofError>) -> bool {
        match proved {
            Err(error) if error.is_silence() => {
                self.0 = self.0.saturating_add(1);
                self.0 >= PATIENCE
            }
            Ok(()) => {
                self.0 = 0;
                true
            }
            Err(_) => true,
        }
    }
}

/// How many proofs in a row without an answer count as one that failed.
const PATIENCE: u8 = 3;

/// Between proofs while the redirect is in place.
const CALM: Duration = Duration::from_secs(10);

/// Between proofs while it is not.
const EAGER: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::net::address::UpstreamAddr;
    use crate::net::dial::DialError;

    fn silent() -> Result<(), ProofError> {
        Err(ProofError::Silent { target: place() })
    }

    fn place() -> UpstreamAddr {
        UpstreamAddr::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 15_002)))
    }

    #[test]
    fn what_was_proved_stays_so_until_three_in_a_row_have_no_answer() {
        let mut proofs = Proofs::new();
        assert!(
            proofs.tell(&silent()),
            "nothing is proved before the first answer"
        );
        assert!(proofs.tell(&Ok(())));
        for _ in 0..3 {
            let told = [silent(), silent(), Ok(())].map(|proved| proofs.tell(&proved));
            assert_eq!(told, [false, false, true], "one that comes ends the row");
        }
        let told = [silent(), silent(), silent(), silent()].map(|proved| proofs.tell(&proved));
        assert_eq!(told, [false, false, true, true]);
    }

    #[test]
    fn a_wrong_answer_and_a_refusal_count_at_once_and_a_shortage_does_not() {
        let dialled = |source| {
            Err(ProofError::Dial {
                target: place(),
                source,
            })
        };
        let (target, error) = (place(), || std::io::Error::other("an error"));
        let cases = [
            (Err(ProofError::Other { target }), true),
            (
                dialled(DialError::Refused {
                    target,
                    source: error(),
                }),
                true,
            ),
            (
                dialled(DialError::Shortage {
                    target,
                    source: error(),
                }),
                false,
            ),
            (dialled(DialError::Timeout { target, limit: CALM }), false),
        ];
        for (proved, tells) in cases {
            let mut proofs = Proofs::new();
            assert!(proofs.tell(&Ok(())));
            assert_eq!(proofs.tell(&proved), tells, "{proved:?}");
        }
    }
}
