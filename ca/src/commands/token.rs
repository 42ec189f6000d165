//! `ferrule-ca token`: makes, lists and revokes join tokens.

use std::process::ExitCode;
use std::time::Duration;

use ferrule_identity::{Fingerprint, Timestamp};
use ferrule_wire::{JoinSecret, JoinToken};
use serde_json::json;

use super::cli::{Common, Token};
use super::print::{Format, distance, table};
use super::{Failure, open, print_json, print_line, tell};
use crate::attest::IdPattern;
use crate::config::ServingName;
use crate::instance::Instance;
use crate::ledger::event::{TokenCreated, TokenRevoked};
use crate::ledger::{Ledger as _, LedgerError, TokenState};
use crate::revoking::is_name;

pub(super) async fn run(token: &Token, common: &Common) -> Result<ExitCode, Failure> {
    let ca = open(common).await?;
    match token {
        Token::Create {
            name,
            ids,
            lifetime,
            addresses,
        } => {
            create(&ca, common, name.as_deref(), ids, *lifetime, addresses).await?;
        }
        Token::List => list(&ca, common).await?,
        Token::Revoke { name } => {
            let event = TokenRevoked {
                token: name.clone(),
                by: BY.to_owned(),
            };
            ca.ledger
                .append(vec![event.into()])
                .await
                .map_err(ledger("revoke the token"))?;
            tell(&format!("The token {name} can be used no more."));
        }
    }
    ca.close().await.map_err(Failure::could_not("close the ledger"))?;
    Ok(ExitCode::SUCCESS)
}

async fn create(
    ca: &Instance,
    common: &Common,
    name: Option<&str>,
    ids: &[IdPattern],
    lifetime: Duration,
    addresses: &[String],
) -> Result<(), Failure> {
    let usage = |message: String| Failure::Usage { message };
    if let Some(foreign) = ids.iter().find(|id| !id.is_in(&ca.trust_domain)) {
        return Err(usage(format!(
            "{foreign} is not in the trust domain {}",
            ca.trust_domain
        )));
    }
    if lifetime.is_zero() || lifetime > MAX_LIFETIME {
        return Err(usage("--lifetime: a join token lasts 1 s to 30 d".to_owned()));
    }
    let name = name.map_or_else(random_name, str::to_owned);
    if !is_name(&name) {
        return Err(usage(format!(
            "{name:?} has more than letters, digits, dots, hyphens and underscores"
        )));
    }
    let roots = roots(ca)?;
    if roots.is_empty() {
        return Err(Failure::Refused {
            message: "this CA has no root yet (ferrule-ca init --help)".to_owned(),
        });
    }
    let token = JoinToken {
        addresses: if addresses.is_empty() {
            own_addresses(ca)
        } else {
            addresses.to_vec()
        },
        trust_domain: ca.trust_domain.clone(),
        roots,
        name: name.clone(),
        secret: JoinSecret::from_bytes(rand::random()),
        identities: ids.iter().map(IdPattern::to_string).collect(),
        expires: ca.now().plus(lifetime),
    };
    // The text is read back, so that nothing is handed out that no host can read.
    let text = token.to_text();
    text.parse::<JoinToken>()
        .map_err(|error| usage(format!("--address: {error}; give HOST:PORT")))?;
    let event = TokenCreated {
        token: name.clone(),
        secret: token.secret.hash(),
        identities: token.identities.clone(),
        expires: token.expires,
        by: BY.to_owned(),
    };
    ca.ledger
        .append(vec![event.into()])
        .await
        .map_err(ledger("make the token"))?;
    match common.output {
        Format::Json => print_json(&json!({
            "token": text,
            "name": name,
            "identities": token.identities,
            "addresses": token.addresses,
            "expires": token.expires.unix(),
        })),
        Format::Table => {
            print_line(&text)?;
            tell(&format!(
                "The token {name} enrols one host, once, until {} ({}), for {}.\n\
                 It is a secret, and is not shown again. On the host, with the line above in the file token:\n  \
                 ferrule-ca fetch --token-file token --out FOLDER --watch",
                token.expires,
                distance(token.expires, ca.now()),
                token.identities.join(", "),
            ));
            Ok(())
        }
    }
}

/// The SHA-256 of each root that the CA's certificate may chain to, that of the active one first.
fn roots(ca: &Instance) -> Result<Vec<Fingerprint>, Failure> {
    let view = ca.authorities.view();
    let active = view.slots().active_root().map(|slot| slot.id);
    let roots = view.trusted_roots();
    let mut named: Vec<(bool, Fingerprint)> = Vec::new();
    for (slot, der) in view.slots().trusted_roots().zip(&roots) {
        named.push((Some(slot.id) != active, Fingerprint::of(der)));
    }
    named.sort_by_key(|(other, _)| *other);
    Ok(named.into_iter().map(|(_, fingerprint)| fingerprint).collect())
}

/// Where the CA is reached by its names. What only this machine reaches comes last.
fn own_addresses(ca: &Instance) -> Vec<String> {
    let port = ca.config.listen.map_or(15010, |listen| listen.port());
    let local = |name: &ServingName| match name {
        ServingName::Dns(name) => name == "localhost",
        ServingName::Ip(address) => address.is_loopback(),
    };
    let mut names: Vec<&ServingName> = ca.config.serving.iter().collect();
    names.sort_by_key(|name| local(name));
    names
        .into_iter()
        .map(|name| match name {
            ServingName::Ip(address) => std::net::SocketAddr::new(*address, port).to_string(),
            ServingName::Dns(name) => format!("{name}:{port}"),
        })
        .collect()
}

async fn list(ca: &Instance, common: &Common) -> Result<(), Failure> {
    let tokens = ca.ledger.tokens().await.map_err(ledger("list the tokens"))?;
    let hosts = ca.ledger.hosts().await.map_err(ledger("list the hosts"))?;
    let now = ca.now();
    if common.output == Format::Json {
        let tokens: Vec<_> = tokens
            .iter()
            .map(|token| {
                json!({
                    "name": token.token, "state": state(&token.state, token.expires, now),
                    "identities": token.identities, "created": token.created.unix(),
                    "expires": token.expires.unix(), "by": token.by,
                })
            })
            .collect();
        let hosts: Vec<_> = hosts
            .iter()
            .map(|host| {
                json!({
                    "name": host.host, "key": host.key.fingerprint().to_string(), "identities": host.identities,
                    "token": host.token, "enrolled": host.enrolled.unix(), "revoked": host.revoked,
                })
            })
            .collect();
        return print_json(&json!({ "tokens": tokens, "hosts": hosts }));
    }
    let rows: Vec<_> = tokens
        .iter()
        .map(|token| {
            let state = state(&token.state, token.expires, now);
            [
                token.token.clone(),
                state.to_owned(),
                distance(token.expires, now),
                token.identities.join(", "),
            ]
        })
        .collect();
    print_line(&table(["TOKEN", "STATE", "EXPIRES", "IDENTITIES"], &rows))?;
    let rows: Vec<_> = hosts
        .iter()
        .map(|host| {
            let state = if host.revoked { "revoked" } else { "enrolled" };
            [
                host.host.clone(),
                state.to_owned(),
                distance(host.enrolled, now),
                host.identities.join(", "),
            ]
        })
        .collect();
    print_line(&format!(
        "\n{}",
        table(["HOST", "STATE", "ENROLLED", "IDENTITIES"], &rows)
    ))
}

fn state(state: &TokenState, expires: Timestamp, now: Timestamp) -> &'static str {
    match state {
        TokenState::Outstanding if expires < now => "expired",
        TokenState::Outstanding => "outstanding",
        TokenState::Used { .. } => "used",
        TokenState::Revoked => "revoked",
        TokenState::Void => "void",
    }
}

fn random_name() -> String {
    format!("host-{:08x}", rand::random::<u32>())
}

/// A contradiction is a refusal, everything else trouble.
pub(super) fn ledger(doing: &'static str) -> impl FnOnce(LedgerError) -> Failure {
    move |error| match error {
        LedgerError::Conflict(conflict) => Failure::refused(&conflict),
        error => Failure::CouldNot {
            doing,
            source: error.into(),
        },
    }
}

const BY: &str = "operator local: token";

const MAX_LIFETIME: Duration = Duration::from_secs(30 * 86_400);
