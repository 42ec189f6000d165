//! What every command is given: how to print, and which mesh is meant.

use std::path::PathBuf;

use ferrule_daemon::settings::environment;

use crate::arguments::Common;
use crate::failure::Failure;
use crate::print::{Format, Printer};
use crate::state::{Running, States};

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) printer: Printer,
    mesh: Option<PathBuf>,
    states: States,
}

impl Context {
    pub(crate) fn new(common: &Common) -> Self {
        let plain = environment().any(|(name, value)| name == "NO_COLOR" && !value.is_empty());
        Self {
            printer: Printer::new(common.output, plain),
            mesh: common.mesh.clone(),
            states: States::of_user(environment()),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.printer.format() == Format::Json
    }

    /// The mesh that is meant: the one that was named, or the only one that runs.
    pub(crate) fn running(&self) -> Result<Running, Failure> {
        Ok(self.states.find(self.mesh.as_deref())?)
    }
}
