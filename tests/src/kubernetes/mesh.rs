//! Installs the mesh on the cluster, and takes it away.

use super::build::{prefix, program};
use super::cluster::{Cluster, finish, said};

impl Cluster {
    /// The manifests of the mesh, with further values of the chart.
    pub fn manifests(&self, values: &[&str]) -> String {
        let mut command = std::process::Command::new(program("ferrule"));
        command.args(["install", "--trust-domain", "test.local", "--image-tag", "test"]);
        command.args(["--image-prefix", &prefix()]);
        for value in values {
            command.args(["--set", value]);
        }
        said(&["install"], &finish(&mut command, ""))
    }

    /// Installs the mesh, and waits until all of it is ready.
    pub fn install(&self, values: &[&str]) {
        self.apply(&self.manifests(values));
        self.installed();
    }

    /// Waits until all of the mesh is ready.
    pub fn installed(&self) {
        for (namespace, what) in [
            ("ferrule-system", "statefulset/ferrule-ca"),
            ("ferrule-system", "deployment/ferrule-directory"),
            ("ferrule-system", "deployment/ferrule-injector"),
            ("ferrule-cni", "daemonset/ferrule-cni"),
        ] {
            let done = self.try_kubectl(&[
                "rollout",
                "status",
                what,
                "--namespace",
                namespace,
                "--timeout",
                "120s",
            ]);
            if !done.status.success() {
                let pods = self.kubectl(&["describe", "pods", "--namespace", namespace]);
                panic!("{what} is not ready\n{pods}");
            }
        }
    }
}
