//! `ferrule policy`: examines rules, and writes those that traffic needs.

use std::process::ExitCode;

use crate::context::Context;
use crate::failure::Failure;
use arguments::Policy;

pub(crate) mod arguments;
mod check;
pub(crate) mod files;
mod network;
mod report;
mod suggest;
mod watched;

pub(crate) fn run(policy: &Policy, context: &Context) -> Result<ExitCode, Failure> {
    match policy {
        Policy::Check { paths } => check::run(paths, context),
        Policy::Network(arguments) => network::run(arguments, context),
        Policy::Suggest { traffic, denied } => suggest::run(traffic, *denied, context),
        Policy::Report { traffic } => report::run(traffic, context),
    }
}
