//! `ferrule example`: runs one of the shop's programs, so that `ferrule up` needs nothing but itself.

use std::process::ExitCode;

use crate::arguments::Example;
use crate::failure::Failure;

pub(crate) fn run(program: &Example) -> Result<ExitCode, Failure> {
    let ended = match program {
        Example::Store { listen } => ferrule_shop::store(listen.host, listen.port()),
        Example::Api { listen, store } => ferrule_shop::api(listen.host, listen.port(), store.clone()),
        Example::Web { listen, api, view } => {
            ferrule_shop::web(listen.host, listen.port(), api.clone(), view.clone())
        }
        Example::Intruder { shop, targets, pause } => ferrule_shop::intruder(shop, targets, *pause),
    };
    ended.map_err(Failure::could_not("run the program of the example"))?;
    Ok(ExitCode::SUCCESS)
}
