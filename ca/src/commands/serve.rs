//! `ferrule-ca serve`: runs the CA until it is told to stop.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::{self, Chain, Filter, Format as LogFormat};
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::settings::environment;
use ferrule_daemon::signals::Signals;

use super::cli::{Common, Serve};
use super::init::{authority, made};
use super::{Failure, again, print_line, tell};
use crate::app::{Served, Surroundings};
use crate::config::{self, Config, Loaded};
use crate::instance::Instance;

pub(super) fn run(serve: &Serve, common: &Common) -> Result<ExitCode, Failure> {
    let Loaded { config, effective } = settings(serve, common)?;
    if serve.check {
        print_line(effective.render().trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let filter: Filter = config.log.parse().map_err(|error| Failure::Usage {
        message: format!("log: {}", Chain(&error)),
    })?;
    let metrics = Metrics::new();
    let clock = Clock::system();
    let format = if std::io::stdout().is_terminal() {
        LogFormat::Text
    } else {
        LogFormat::Json
    };
    let logs = logging::start(format, filter, clock.clone(), &metrics);
    let logs = logs.map_err(Failure::could_not("start the logs"))?;
    let surroundings = Surroundings {
        metrics,
        levels: Some(logs.levels()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::could_not("start"))?;
    runtime.block_on(serve_until_stopped(config, clock, surroundings, common))
}

/// The settings, with what `serve` alone takes laid over them.
fn settings(serve: &Serve, common: &Common) -> Result<Loaded, Failure> {
    let mut flags = common.as_settings();
    let mut set = |name: &str, value: String| flags.push((OsString::from(name), value.into()));
    if let Some(listen) = serve.listen {
        set("FERRULE_CA__LISTEN", listen.to_string());
    }
    if !serve.names.is_empty() {
        set("FERRULE_CA__SERVING__NAMES", serve.names.join(","));
    }
    config::load(common.config.as_deref(), environment().chain(flags)).map_err(|problems| Failure::Usage {
        message: format!("the settings cannot be used:\n{problems}"),
    })
}

async fn serve_until_stopped(
    config: Config,
    clock: Clock,
    surroundings: Surroundings,
    common: &Common,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::system().map_err(Failure::could_not("listen for signals"))?;
    let ca = Instance::open(config, clock, true).await?;
    if ca.authorities.view().slots().active_root().is_none() {
        let by = "operator local: serve";
        ca.authorities
            .found_new(by)
            .await
            .map_err(authority("make the CA"))?;
        tell(&made(&ca, common));
    }
    let trust_domain = ca.trust_domain.clone();
    let served = Served::start(ca, surroundings)
        .await
        .map_err(Failure::could_not("serve"))?;
    tell(&format!(
        "Serving the CA for {trust_domain} on {}. A host enters with:\n  \
         ferrule-ca token create --id 'spiffe://{trust_domain}/ns/demo/*'{}",
        served.address(),
        again(common)
    ));
    let ended = served
        .run(&mut signals)
        .await
        .map_err(Failure::could_not("stop in order"))?;
    Ok(ended.exit_code())
}
