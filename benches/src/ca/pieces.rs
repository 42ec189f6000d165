//! Measures each step of an issue alone, so that the whole can be explained.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ferrule_ca::attest::certificate::Certificates;
use ferrule_ca::attest::enroll::Enroller;
use ferrule_ca::attest::host_key::{Claim, HostKeys};
use ferrule_ca::attest::statements::Statements;
use ferrule_ca::issue::Wanted;
use ferrule_ca::ledger::event::{self, Event, TokenCreated};
use ferrule_ca::ledger::{Ledger as _, Serial};
use ferrule_identity::{
    Bundles, KeyAlgorithm, PrivateKey, PublicKey, Revocations, SigningRequest, SpiffeId, TrustBundle,
};
use ferrule_wire::JoinSecret;
use ferrule_wire::ca::{IssueReply, IssueRequest, host_statement, read};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use tokio::task::JoinSet;

use super::alone::Alone;
use crate::figures::{Spread, number};
use crate::process::{own_cpu, own_thread_cpu};

/// What each step costs in CPU time, in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Pieces {
    /// Reading the message.
    pub(crate) message: Spread,
    /// Judging the client's certificate, for `/v1/renew`.
    pub(crate) certificate: Spread,
    /// Judging the host's statement, for `/v1/issue`.
    pub(crate) statement: Spread,
    /// Reading the request and its proof of possession.
    pub(crate) request: Spread,
    /// Filling in and signing the certificate.
    pub(crate) signature: Spread,
    /// Judging it as a peer would.
    pub(crate) verification: Spread,
    /// Recording it, with as many in flight as in the whole.
    pub(crate) record: Spread,
    /// Writing the answer.
    pub(crate) answer: Spread,
    /// Recording a single one, from the append until it is durable: time, not CPU.
    pub(crate) durable: Spread,
}

/// Takes each step `count` times in each of `rounds` rounds.
pub(crate) async fn measure(alone: &Alone, rounds: usize, in_flight: usize) -> anyhow::Result<Pieces> {
    let bench = Bench::prepare(alone).await?;
    let mut taken: [Vec<f64>; 9] = Default::default();
    for _ in 0..rounds {
        let round = bench.round(in_flight).await?;
        for (samples, sample) in taken.iter_mut().zip(round) {
            samples.push(sample);
        }
    }
    let [
        message,
        certificate,
        statement,
        request,
        signature,
        verification,
        record,
        answer,
        durable,
    ] = taken.map(Spread::of);
    Ok(Pieces {
        message,
        certificate,
        statement,
        request,
        signature,
        verification,
        record,
        answer,
        durable,
    })
}

/// Everything that the steps work on.
struct Bench<'a> {
    alone: &'a Alone,
    id: SpiffeId,
    certificates: Certificates,
    bundles: Bundles,
    chain: Vec<CertificateDer<'static>>,
    hosts: HostKeys,
    host: (String, PrivateKey),
    key: PublicKey,
}

impl<'a> Bench<'a> {
    async fn prepare(alone: &'a Alone) -> anyhow::Result<Self> {
        let ca = &alone.ca;
        let id = SpiffeId::parse(&format!("{}/ns/bench/sa/pieces", ca.trust_domain.id()))?;
        let request = SigningRequest::from_pem(&alone.requests[0])?;
        let wanted = Wanted {
            id: Some(id.clone()),
            lifetime: None,
        };
        let issued = ca.issuer.issue(&ca.operator(), &request, &wanted).await?;
        let view = ca.authorities.view();
        let (sequence, roots) = (view.slots().sequence(), view.trusted_roots());
        let bundle = TrustBundle::new(ca.trust_domain.clone(), sequence, None, &roots, ca.now())?;
        let ledger = ca.shared_ledger();
        let statements = Statements::new(ca.config.limits.statements);
        Ok(Self {
            alone,
            id,
            certificates: Certificates::new(ledger.clone()),
            bundles: Bundles::from_iter([bundle]),
            chain: issued.chain,
            hosts: HostKeys::new(
                ledger,
                ca.trust_domain.clone(),
                ca.config.limits.remembered,
                statements,
            ),
            host: enrol(alone).await?,
            key: request.public_key().clone(),
        })
    }

    /// Each step, in the order of [`measure`].
    async fn round(&self, in_flight: usize) -> anyhow::Result<[f64; 9]> {
        let (steps, requests) = (&self.alone.steps, &self.alone.requests);
        let signed: Vec<_> = (0..STEPS)
            .map(|_| steps.sign(&self.key))
            .collect::<Result<_, _>>()?;
        let message = serde_json::to_vec(&self.statement(&requests[0])?)?;
        let mut leaves = signed.iter().cycle();
        let mut texts = requests.iter().cycle();
        let mut text = || texts.next().context("no requests");
        Ok([
            micros(|| Ok(std::hint::black_box(read::<IssueRequest>(&message)).map(drop)?))?,
            self.certificate().await?,
            self.statements().await?,
            micros(|| Ok(std::hint::black_box(SigningRequest::from_pem(text()?)).map(drop)?))?,
            micros(|| Ok(std::hint::black_box(steps.sign(&self.key)).map(drop)?))?,
            micros(|| Ok(steps.verify(&self.key, leaves.next().context("no leaves")?)?))?,
            self.record(in_flight).await?,
            micros(|| self.answer(&signed[0]))?,
            self.durable().await?,
        ])
    }

    async fn certificate(&self) -> anyhow::Result<f64> {
        let (now, none) = (self.alone.ca.now(), Revocations::empty());
        let begun = own_cpu()?;
        for _ in 0..STEPS {
            let peer = self
                .certificates
                .identify(&self.chain, &self.bundles, &none, now)?;
            std::hint::black_box(self.certificates.attest(&peer).await?);
        }
        Ok(each(own_cpu()?.saturating_sub(begun), STEPS))
    }

    async fn statements(&self) -> anyhow::Result<f64> {
        let csr = &self.alone.requests[0];
        let made: Vec<_> = (0..STEPS)
            .map(|_| self.statement(csr))
            .collect::<Result<_, _>>()?;
        let now = self.alone.ca.now();
        let begun = own_thread_cpu()?;
        for request in &made {
            let Some(ferrule_wire::ca::Evidence::HostKey {
                host,
                time,
                nonce,
                signature,
            }) = &request.evidence
            else {
                anyhow::bail!("the statement is none");
            };
            let id = self.id.as_str();
            let claim = Claim {
                host,
                time: *time,
                nonce,
                signature,
                id,
                csr,
            };
            std::hint::black_box(self.hosts.attest(&claim, now).await?);
        }
        Ok(each(own_thread_cpu()?.saturating_sub(begun), STEPS))
    }

    fn statement(&self, csr: &str) -> anyhow::Result<IssueRequest> {
        let (host, key) = &self.host;
        let (now, id) = (self.alone.ca.now(), &self.id);
        let nonce = super::base64url(&rand::random::<[u8; 16]>());
        let domain = self.alone.ca.trust_domain.as_str();
        let statement = host_statement(domain, host, now.unix(), &nonce, id.as_str(), csr);
        let signature = key.sign(&statement.context("no statement")?)?;
        let evidence = ferrule_wire::ca::Evidence::HostKey {
            host: host.clone(),
            time: now.unix(),
            nonce,
            signature: super::base64(&signature),
        };
        let (csr, id) = (csr.to_owned(), Some(id.to_string()));
        Ok(IssueRequest {
            csr,
            id,
            lifetime_seconds: None,
            serving: false,
            evidence: Some(evidence),
        })
    }

    /// CPU time of an append among many.
    async fn record(&self, in_flight: usize) -> anyhow::Result<f64> {
        let begun = own_cpu()?;
        let mut lanes = JoinSet::new();
        let share = APPENDS / in_flight;
        for _ in 0..in_flight {
            let events: Vec<_> = (0..share).map(|_| self.event()).collect::<Result<_, _>>()?;
            let ledger = self.alone.ca.shared_ledger();
            lanes.spawn(async move {
                for event in events {
                    ledger.append(vec![event.into()]).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = lanes.join_next().await {
            done.context("a lane has panicked")??;
        }
        Ok(each(own_cpu()?.saturating_sub(begun), share * in_flight))
    }

    async fn durable(&self) -> anyhow::Result<f64> {
        let begun = Instant::now();
        for _ in 0..SINGLE_APPENDS {
            self.alone.ca.ledger.append(vec![self.event()?.into()]).await?;
        }
        Ok(each(begun.elapsed(), SINGLE_APPENDS))
    }

    fn event(&self) -> anyhow::Result<Event> {
        let lifetime = self.alone.steps.lifetime();
        let mut serial = rand::random::<[u8; 16]>();
        serial[0] |= 1;
        Ok(Event::from(event::Issued {
            serial: Serial::from_be_bytes(&serial)?,
            id: self.id.to_string(),
            profile: "workload".to_owned(),
            issuer: self.alone.steps.issuer().to_owned(),
            not_before: lifetime.not_before(),
            not_after: lifetime.not_after(),
            key: self.key.fingerprint(),
            caller: format!("certificate {}", self.id),
            evidence: "certificate".to_owned(),
            host: None,
        }))
    }

    fn answer(&self, leaf: &CertificateDer<'static>) -> anyhow::Result<()> {
        let lifetime = self.alone.steps.lifetime();
        let reply = IssueReply {
            id: self.id.to_string(),
            certificates: self.alone.steps.chain_pem(leaf),
            serial: "00112233445566778899aabbccddeeff".to_owned(),
            not_before: lifetime.not_before().unix(),
            not_after: lifetime.not_after().unix(),
            renew_at: lifetime.not_after().unix(),
            server_time: lifetime.not_before().unix(),
            bundle_sequence: 1,
        };
        std::hint::black_box(serde_json::to_vec(&reply)?);
        Ok(())
    }
}

/// A host that is on record, by its name and key.
async fn enrol(alone: &Alone) -> anyhow::Result<(String, PrivateKey)> {
    let ca = &alone.ca;
    let secret = JoinSecret::from_bytes(rand::random());
    let token = TokenCreated {
        token: "pieces".to_owned(),
        secret: secret.hash(),
        identities: vec![format!("{}/*", ca.trust_domain.id())],
        expires: ca.now().plus(Duration::from_secs(3600)),
        by: "benches".to_owned(),
    };
    ca.ledger.append(vec![token.into()]).await?;
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
    let csr = SigningRequest::build_pem(&key)?;
    let enrolled = Enroller::new(ca.shared_ledger())
        .enroll(&secret.to_text(), &csr, ca.now())
        .await?;
    Ok((enrolled.host, key))
}

/// What one of many calls of `step` takes of this thread, in microseconds.
fn micros(mut step: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let begun = own_thread_cpu()?;
    for _ in 0..STEPS {
        step()?;
    }
    Ok(each(own_thread_cpu()?.saturating_sub(begun), STEPS))
}

fn each(took: Duration, count: usize) -> f64 {
    took.as_secs_f64() * 1e6 / number(count)
}

/// Calls of each step in a round: long enough for a clock that counts in hundredths of a second.
const STEPS: usize = 4_000;

const APPENDS: usize = 16_000;

const SINGLE_APPENDS: usize = 100;
