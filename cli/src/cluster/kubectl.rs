//! Asks a cluster through `kubectl`.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::sidecar::{Socket, first_words};

/// `kubectl`, for one cluster.
#[derive(Debug)]
pub(crate) struct Kubectl {
    program: PathBuf,
    context: Option<String>,
}

impl Kubectl {
    /// The program, with a context of the kubeconfig; without one, the current one.
    pub(crate) const fn new(program: PathBuf, context: Option<String>) -> Self {
        Self { program, context }
    }

    /// The objects that `kubectl get` lists.
    ///
    /// # Errors
    /// When it fails, or says something else.
    pub(crate) fn items(&self, words: &[&str]) -> Result<Vec<Value>, KubectlError> {
        let text = self.run(&[&["get"][..], words, &["--output=json"]].concat())?;
        let not_json = |source| KubectlError::Json {
            asked: asked(words),
            source,
        };
        let mut list: Value = serde_json::from_str(&text).map_err(not_json)?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// What `kubectl` prints.
    ///
    /// # Errors
    /// When it cannot be run, or fails.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String, KubectlError> {
        let mut command = Command::new(&self.program);
        // An answer that does not come is a fault to be told, not to be waited for.
        command.arg("--request-timeout=20s");
        let done = command.args(self.of_context()).args(words).output();
        let done = done.map_err(|source| KubectlError::Run {
            program: self.program.clone(),
            source,
        })?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
        }
        Err(KubectlError::Failed {
            asked: asked(words),
            said: match first_words(&String::from_utf8_lossy(&done.stderr)) {
                "" => done.status.to_string(),
                said => said.to_owned(),
            },
        })
    }

    /// The debug socket at `path` in a pod, reached by its sidecar's own program.
    pub(crate) fn socket(&self, namespace: &str, pod: &str, path: &str) -> Socket {
        let words = [
            "exec",
            "--stdin",
            "--namespace",
            namespace,
            pod,
            "--container",
            super::SIDECAR,
            "--",
            super::SIDECAR,
            "control",
            path,
        ];
        let arguments = self.of_context().chain(words.map(OsString::from));
        Socket::through(&self.program, arguments.collect(), format!("{pod}.{namespace}"))
    }

    fn of_context(&self) -> impl Iterator<Item = OsString> + use<> {
        let context = self.context.clone();
        context
            .into_iter()
            .flat_map(|context| ["--context".into(), context.into()])
    }
}

fn asked(words: &[&str]) -> String {
    words.join(" ")
}

/// Why a cluster has not been asked.
#[derive(Debug, thiserror::Error)]
pub enum KubectlError {
    /// The program does not start.
    #[error("cannot run {program}", program = program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It has failed.
    #[error("kubectl {asked}: {said}")]
    Failed {
        /// What it was asked.
        asked: String,
        /// What it said.
        said: String,
    },
    /// It says something else.
    #[error("kubectl says something else than JSON when asked for {asked}")]
    Json {
        /// What it was asked.
        asked: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}
