//! What every command is given: how to print, and which mesh is meant.

use std::path::PathBuf;

use ferrule_daemon::settings::environment;

use crate::arguments::Common;
use crate::cluster::Cluster;
use crate::cluster::arguments::OfCluster;
use crate::failure::Failure;
use crate::meant::Meant;
use crate::picture::Picture;
use crate::policy::arguments::RuleFiles;
use crate::print::{Format, Printer};
use crate::state::{Running, StateError, States};

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

    /// Where this host keeps who it is in the mesh of that trust domain.
    pub(crate) fn host_folder(&self, trust_domain: &str) -> Result<PathBuf, Failure> {
        let folder = self.states.folder(trust_domain).ok_or_else(|| Failure::Usage {
            message:
                "neither FERRULE_STATE nor HOME says where to keep the host's key; name a folder with --host"
                    .to_owned(),
        })?;
        Ok(folder.join("host"))
    }

    /// Does something that is over soon on this thread.
    pub(crate) fn in_runtime<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(Failure::could_not("start"))?.block_on(work)
    }

    /// The mesh that is meant: that of a cluster, the one that was named, or the only one that runs.
    pub(crate) fn meant(&self, cluster: &OfCluster) -> Result<Meant, Failure> {
        if let Some(cluster) = Cluster::of(cluster) {
            return Ok(Meant::Cluster(cluster));
        }
        match self.running() {
            Err(Failure::State(StateError::None)) => Err(Failure::Missing {
                message: format!(
                    "{}, or look at the cluster that kubectl means with: --cluster",
                    StateError::None
                ),
            }),
            running => running.map(Meant::Here),
        }
    }

    /// Who is in the mesh that is meant, and under which rules: of files where some are named.
    pub(crate) fn picture(&self, files: &RuleFiles, cluster: &OfCluster) -> Result<Picture, Failure> {
        match &files.trust_domain {
            Some(trust_domain) => Picture::of_files(trust_domain, &files.rules),
            None => self.meant(cluster)?.picture(),
        }
    }

    /// Where the state of this user's meshes lies.
    pub(crate) const fn states(&self) -> &States {
        &self.states
    }
}
