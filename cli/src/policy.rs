//! `ferrule policy`: examines rules, and writes those that traffic needs.

use std::process::ExitCode;

use crate::arguments::Policy;
use crate::context::Context;
use crate::failure::Failure;

mod check;
mod files;

pub(crate) fn run(policy: &Policy, context: &Context) -> Result<ExitCode, Failure> {
    match policy {
        Policy::Check { paths } => check::run(paths, context),
    }
}
