//! `ferrule-proxy run`: carries connections until it is told to stop.

use std::process::ExitCode;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging;
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::settings::{Written, environment};
use ferrule_daemon::signals::Signals;

use super::cli::Run;
use super::{Failure, print_line};
use crate::app::{Proxy, Surroundings};
use crate::config::{self, Config, Loaded};

pub(super) fn run(run: &Run) -> Result<ExitCode, Failure> {
    let Loaded { config, effective } =
        config::load(written(run), environment()).map_err(|problems| Failure::Usage {
            message: format!("the settings cannot be used:\n{problems}"),
        })?;
    let effective = effective.render();
    if run.check {
        print_line(effective.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let metrics = Metrics::new();
    let clock = Clock::system();
    let logs = logging::start(
        config.log.format,
        config.log.filter.clone(),
        clock.clone(),
        &metrics,
    );
    let logs = logs.map_err(Failure::could_not("start the logs"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::could_not("start"))?;
    let levels = Some(logs.levels());
    runtime.block_on(carry_until_stopped(config, effective, metrics, clock, levels))
}

fn written(run: &Run) -> Written<'_> {
    match &run.settings {
        Some(text) => Written::Text(text),
        None => run.config.as_deref().into(),
    }
}

async fn carry_until_stopped(
    config: Config,
    effective: String,
    metrics: Metrics,
    clock: Clock,
    levels: Option<logging::Levels>,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::system().map_err(Failure::could_not("listen for signals"))?;
    let surroundings = Surroundings {
        metrics,
        levels,
        clock,
        effective,
        asking: signals.asking(),
    };
    let proxy = Proxy::start(config, surroundings).map_err(Failure::could_not("start"))?;
    if let Some(address) = proxy.admin_address() {
        tracing::info!(%address, "metrics and readiness");
    }
    for door in proxy.doors() {
        tracing::info!(address = %door.address(), "listening");
    }
    Ok(proxy.run(&mut signals).await.exit_code())
}
