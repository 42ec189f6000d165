//! `ferrule-ca fetch`: gets a workload's certificate from a CA elsewhere, once or for as long as it runs.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ferrule_credentials::join::{HOST_FILE, Host, join};
use ferrule_credentials::keeper::{Health, Keeper, Kept, Wanted};
use ferrule_credentials::remember::remember;
use ferrule_credentials::{Credentials, store};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::signals::Signals;
use ferrule_identity::{KeyAlgorithm, Timestamp};
use ferrule_wire::JoinToken;
use serde_json::json;

use super::cli::{Common, Fetch};
use super::print::{Format, distance};
use super::{Failure, print_json, print_line, tell};

pub(super) async fn run(fetch: &Fetch, common: &Common) -> Result<ExitCode, Failure> {
    let clock = Clock::system();
    let host = host(fetch, &clock).await?;
    let id = match (&fetch.id, host.identities.as_slice()) {
        (Some(id), _) => id.clone(),
        (None, [one]) if !one.ends_with("/*") => one.parse().map_err(|_| ask_for_id(&host))?,
        (None, _) => return Err(ask_for_id(&host)),
    };
    let wanted = Wanted {
        id,
        algorithm: KeyAlgorithm::EcdsaP256,
        lifetime: fetch.lifetime,
        evidence: host.evidence(),
    };
    let trust = Arc::new(host.trust());
    let (keeper, kept) = Keeper::new(wanted, host.addresses.clone(), trust, clock.clone());
    let mut signals = Signals::system().map_err(Failure::could_not("listen for signals"))?;
    tokio::select! {
        never = keeper.run() => match never {},
        done = follow(fetch, common, kept, &clock) => done,
        _ = signals.next() => Ok(ExitCode::SUCCESS),
    }
}

/// The host that this is: known already, or enrolled with the token now.
async fn host(fetch: &Fetch, clock: &Clock) -> Result<Host, Failure> {
    if fetch.host.join(HOST_FILE).exists() {
        let now = Timestamp::from_unix(clock.unix());
        return Host::read(&fetch.host, now).map_err(Failure::could_not("read who this host is"));
    }
    let Some(file) = &fetch.token_file else {
        return Err(Failure::Usage {
            message: format!(
                "this host has not joined yet ({} is not there); on the CA's machine type\n  \
                 ferrule-ca token create --id SPIFFE-ID > token\nand here\n  ferrule-ca fetch --token-file token …",
                fetch.host.join(HOST_FILE).display()
            ),
        });
    };
    let token: JoinToken = token(file)?;
    let host = join(&token, clock)
        .await
        .map_err(|error| Failure::refused(&error))?;
    host.write(&fetch.host)
        .map_err(Failure::could_not("keep who this host is"))?;
    tell(&format!(
        "Joined {} as the host {}.",
        host.trust_domain, host.name
    ));
    Ok(host)
}

fn token(file: &Path) -> Result<JoinToken, Failure> {
    let failed = Failure::could_not("read the join token");
    let mut text = String::new();
    let limit = JoinToken::MAX_BYTES as u64 + 1;
    let read = if file == Path::new("-") {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    match read {
        Err(error) => Err(failed(error)),
        Ok(_) => text.trim().parse().map_err(|error| Failure::Usage {
            message: format!("{}: {error}", file.display()),
        }),
    }
}

/// Writes what comes; ends after the first unless it is to watch.
async fn follow(fetch: &Fetch, common: &Common, kept: Kept, clock: &Clock) -> Result<ExitCode, Failure> {
    let Kept {
        mut credentials,
        mut health,
    } = kept;
    let mut told = Health::default();
    let deadline = clock.sleep(FIRST_LIMIT);
    tokio::pin!(deadline);
    let mut first = true;
    loop {
        tokio::select! {
            changed = credentials.changed() => {
                changed.map_err(Failure::could_not("follow the CA"))?;
                let held = credentials.borrow_and_update().clone();
                if let Some(held) = held {
                    write(fetch, common, &held, clock)?;
                    if !fetch.watch {
                        return Ok(ExitCode::SUCCESS);
                    }
                    first = false;
                }
            }
            changed = health.changed() => {
                changed.map_err(Failure::could_not("follow the CA"))?;
                let now = health.borrow_and_update().clone();
                if let Some(problem) = now.problem.as_ref().filter(|problem| Some(*problem) != told.problem.as_ref()) {
                    tell(&format!("no certificate yet, trying again: {problem}"));
                }
                told = now;
            }
            () = &mut deadline, if first && !fetch.watch => {
                let problem = told.problem.unwrap_or_else(|| "the CA does not answer".to_owned());
                return Err(Failure::Refused { message: format!("no certificate within {FIRST_LIMIT:?}: {problem}") });
            }
        }
    }
}

fn write(fetch: &Fetch, common: &Common, held: &Credentials, clock: &Clock) -> Result<(), Failure> {
    let certificate = &held.certificate;
    let bundle = held.trust.bundles.of(&certificate.id().trust_domain());
    let bundle = bundle
        .ok_or(ExpectedBundle)
        .map_err(Failure::could_not("write the trust bundle"))?;
    store::write(&fetch.out, certificate, bundle).map_err(Failure::could_not("write what came"))?;
    let now = Timestamp::from_unix(clock.unix());
    // Without it, a later start of this host could not believe the CA once its root was replaced.
    if let Err(error) = remember(&fetch.host, bundle, now) {
        tell(&format!("note: {}", ferrule_daemon::logging::Chain(&error)));
    }
    let life = certificate.lifetime();
    match common.output {
        Format::Json => print_json(&json!({
            "id": certificate.id().as_str(),
            "serial": certificate.serial().to_string(),
            "not_before": life.not_before().unix(),
            "not_after": life.not_after().unix(),
            "bundle_sequence": bundle.sequence(),
        })),
        Format::Table => print_line(&format!(
            "{}\n  serial {}, until {} ({})\n  in {}",
            certificate.id(),
            certificate.serial(),
            life.not_after(),
            distance(life.not_after(), Timestamp::from_unix(clock.unix())),
            fetch.out.display()
        )),
    }
}

fn ask_for_id(host: &Host) -> Failure {
    Failure::Usage {
        message: format!(
            "say which identity with --id; this host may ask for {}",
            host.identities.join(", ")
        ),
    }
}

/// A keeper publishes nothing without the bundle that it judged the certificate by.
#[derive(Debug, thiserror::Error)]
#[error("there is none for the certificate's trust domain")]
struct ExpectedBundle;

/// How long a fetch without `--watch` goes on trying.
const FIRST_LIMIT: Duration = Duration::from_secs(60);
