//! Installs the mesh on the cluster, and takes it away.

use super::build::{prefix, program};
use super::cluster::{Cluster, finish, said};

impl Cluster {
    /// The manifests of the mesh, with further values of the chart.
    pub fn manifests(&self, values: &[&str]) -> String {
        let mut command = std::process::Command::new(program("ferrule"));
        command.args(["install", "--trust-domain", "test.local", "--image-tag", "test"]);
        command.args(["--image-prefix", &prefix()]);
        // Both families of addresses, as the tests' own nodes have them.
        command.args(["--set", r#"cluster.ranges=["10.0.0.0/8","fd00::/8"]"#]);
        for value in values {
            command.args(["--set", value]);
        }
        said(&["install"], &finish(&mut command, ""))
    }

    /// Installs the mesh, and waits until all of it is ready.
    pub fn install(&self, values: &[&str]) {
        self.apply(&self.manifests(values));
        let other = values
            .iter()
            .any(|value| value.starts_with("capture=") && *value != "capture=cni");
        self.wait_for(if other { &PARTS[..3] } else { &PARTS });
    }

    /// Waits until all of the mesh, with the CNI plugin, is ready.
    pub fn installed(&self) {
        self.wait_for(&PARTS);
    }

    fn wait_for(&self, parts: &[(&str, &str)]) {
        for (namespace, what) in parts {
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

const PARTS: [(&str, &str); 4] = [
    ("ferrule-system", "statefulset/ferrule-ca"),
    ("ferrule-system", "deployment/ferrule-directory"),
    ("ferrule-system", "deployment/ferrule-injector"),
    ("ferrule-cni", "daemonset/ferrule-cni"),
];
