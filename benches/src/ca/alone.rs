//! Measures the yardstick: what a core could issue that only checked requests and signed.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use ferrule_ca::config;
use ferrule_ca::instance::Instance;
use ferrule_ca::issue::measure::Steps;
use ferrule_daemon::clock::Clock;
use ferrule_identity::{KeyAlgorithm, PrivateKey, SigningRequest, SpiffeId};

use super::server::TRUST_DOMAIN;
use crate::figures::number;
use crate::process::own_thread_cpu;

/// A CA inside this process, whose steps can be taken one by one.
pub(crate) struct Alone {
    /// The CA.
    pub(crate) ca: Instance,
    /// The steps of its issuing.
    pub(crate) steps: Steps,
    /// Requests over different keys.
    pub(crate) requests: Vec<String>,
}

impl Alone {
    /// Makes one with its data in `folder`.
    pub(crate) async fn make(folder: &Path) -> anyhow::Result<Self> {
        let data = folder.display().to_string();
        let settings = [
            ("FERRULE_CA__TRUST_DOMAIN", TRUST_DOMAIN),
            ("FERRULE_CA__DATA", &data),
        ];
        let config = config::load(None, settings)
            .map_err(|problems| anyhow::anyhow!("{problems}"))?
            .config;
        let ca = Instance::open(config, Clock::system(), true)
            .await
            .context("cannot make a CA")?;
        ca.authorities
            .found_new("benches")
            .await
            .context("cannot make a root")?;
        let id = SpiffeId::parse(&format!("spiffe://{TRUST_DOMAIN}/ns/bench/sa/alone"))?;
        let steps = Steps::new(&ca.authorities, id, 12, ca.now()).context("the CA cannot sign")?;
        let requests = (0..64).map(|_| {
            let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
            anyhow::Ok(SigningRequest::build_pem(&key)?)
        });
        Ok(Self {
            ca,
            steps,
            requests: requests.collect::<Result<_, _>>()?,
        })
    }

    /// Checks `count` requests and signs a certificate for each, on this thread.
    pub(crate) fn take(&self, count: usize) -> anyhow::Result<Yardstick> {
        let (begun, used) = (Instant::now(), own_thread_cpu()?);
        for text in self.requests.iter().cycle().take(count) {
            let request = SigningRequest::from_pem(text)?;
            std::hint::black_box(self.steps.sign(request.public_key())?);
        }
        let used = own_thread_cpu()?.saturating_sub(used);
        Ok(Yardstick {
            rate: number(count) / begun.elapsed().as_secs_f64(),
            cpu_us: used.as_secs_f64() * 1e6 / number(count),
        })
    }
}

/// What checking and signing alone reach on one core.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Yardstick {
    /// Certificates a second.
    pub(crate) rate: f64,
    /// CPU time of each, in microseconds: what another process takes of the core is not in it.
    pub(crate) cpu_us: f64,
}
