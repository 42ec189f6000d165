//! Makes handshakes between two sessions in memory, and carries bytes through them.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ferrule_credentials::files::FileKeeper;
use ferrule_daemon::clock::Clock;
use ferrule_identity::tls::{Outcome, TrustCell};
use ferrule_measure::follower::files;
use ferrule_proxy::buffer::Buffer;
use ferrule_proxy::tls::material::Material;
use ferrule_proxy::tls::session::{Progress, Session};
use ferrule_tests::pki::Authority;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;

/// Two workloads that trust each other.
pub(super) struct Ends {
    web: Material,
    api: Material,
}

impl Ends {
    /// Makes their certificates.
    pub(super) fn make() -> anyhow::Result<Self> {
        let (authority, folder) = (Authority::new(), tempfile::tempdir()?);
        let material = |name: &str| {
            let id = format!("spiffe://bench.local/ns/bench/sa/{name}");
            let made = authority.files(folder.path(), name, &id, DAY);
            let trust = Arc::new(TrustCell::default());
            let files = files(&"bench.local".parse()?, &made.chain, &made.key, &made.bundle);
            let (_keeper, newest) = FileKeeper::open(files, Arc::clone(&trust), Clock::system())?;
            let newest = newest.borrow().clone().context("there is a certificate")?;
            anyhow::Ok(Material::new(&newest.certificate, trust, Clock::system())?)
        };
        Ok(Self {
            web: material("web")?,
            api: material("api")?,
        })
    }

    /// Nanoseconds that both sides of a handshake take together, over `count` of them.
    pub(super) fn time_handshake(&self, count: u32) -> anyhow::Result<f64> {
        let begun = Instant::now();
        for _ in 0..count {
            drop(black_box(self.open()?));
        }
        Ok(each(begun, count))
    }

    /// Nanoseconds that sealing and opening a MiB take together, over `count` of them.
    pub(super) fn time_copy(&self, count: u32) -> anyhow::Result<f64> {
        let (mut web, mut api) = self.open()?;
        let piece = vec![7; PIECE];
        let begun = Instant::now();
        for _ in 0..count {
            for _ in 0..MIB / PIECE {
                let (mut sealed, mut text) = (Buffer::lent(), Buffer::lent());
                web.seal(black_box(&piece), &mut sealed)?;
                api.receive(sealed.filled_mut(), &mut text, &mut Buffer::new())?;
                ensure!(text.filled().len() == PIECE, "not all of it arrived");
            }
        }
        Ok(each(begun, count))
    }

    /// Two sessions after their handshake.
    fn open(&self) -> anyhow::Result<(Session, Session)> {
        let (near, far) = (Outcome::new(), Outcome::new());
        let client = self.web.client(self.api.id())?;
        let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
        let mut web = Session::client(UnbufferedClientConnection::new(client, name)?);
        let mut api = Session::server(UnbufferedServerConnection::new(self.api.server())?);
        let mut text = Buffer::new();
        let mut to_web = Buffer::new();
        loop {
            let mut to_api = Buffer::new();
            near.collect(|| web.receive(to_web.filled_mut(), &mut text, &mut to_api))?;
            to_web.clear();
            if far.collect(|| api.receive(to_api.filled_mut(), &mut text, &mut to_web))? == Progress::Open {
                return Ok((web, api));
            }
        }
    }
}

fn each(begun: Instant, count: u32) -> f64 {
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

const MIB: usize = 1024 * 1024;
/// What one read of a busy connection takes.
const PIECE: usize = MIB / 8;
const DAY: Duration = Duration::from_secs(80_000);
