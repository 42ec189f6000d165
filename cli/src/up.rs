//! `ferrule up`: runs a whole mesh on this machine.
//!
//! Reading order: [`document`] and [`plan`] (what is to run), [`supervisor`] (the process that the user sees),
//! [`control`] (what it tells the process inside), [`inside`] (which runs everything else), [`parts`] (the processes that
//! this program becomes), [`space`] with [`netlink`] and [`listening`] (their networks), [`watch`] (what is shown).

pub(crate) mod alone;
mod announcer;
pub(crate) mod arguments;
pub(crate) mod control;
mod document;
mod doors;
mod edges;
mod explicit;
mod inside;
mod listening;
mod neighbours;
mod netlink;
mod outside;
pub(crate) mod parts;
mod plan;
mod probe;
mod relay;
mod render;
mod rules;
mod running;
mod screen;
mod space;
mod supervisor;
mod tail;
mod view;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::context::Context;
use crate::failure::Failure;
use crate::state::Capture;
use arguments::{Up, Way};
pub(crate) use listening::listener;
use rules::Sources;
use supervisor::Supervisor;

/// Runs the mesh that `up` names until it is told to stop.
pub(crate) fn run(up: &Up, context: &Context) -> Result<ExitCode, Failure> {
    let file = match &up.file {
        Some(file) => file.clone(),
        None => example(context)?,
    };
    let mesh_file = std::path::absolute(&file).map_err(Failure::could_not("find the mesh file"))?;
    let capture = match up.capture {
        Way::Auto => None,
        Way::Transparent => Some(Capture::Transparent),
        Way::Explicit => Some(Capture::Explicit),
    };
    let supervisor = Supervisor {
        context,
        sources: Sources::new(file),
        mesh_file,
        capture,
    };
    supervisor.run()
}

/// The example that comes with the program: the file in the source's folder, otherwise a copy in the state folder, which
/// can be edited while it runs.
fn example(context: &Context) -> Result<PathBuf, Failure> {
    let beside = Path::new("examples/shop/mesh.yaml");
    if beside.is_file() {
        return Ok(beside.to_owned());
    }
    let Some(folder) = context.states().folder("example") else {
        return Err(Failure::Usage {
            message: "there is no place for the example: name a mesh file, or set HOME or FERRULE_STATE"
                .to_owned(),
        });
    };
    let file = folder.join("mesh.yaml");
    let written = std::fs::create_dir_all(&folder).and_then(|()| rules::replace(&file, EXAMPLE.as_bytes()));
    written.map_err(Failure::could_not(format!("write {}", file.display())))?;
    Ok(file)
}

const EXAMPLE: &str = include_str!("../../examples/shop/mesh.yaml");
