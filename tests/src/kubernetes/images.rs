//! Makes the images that the nodes of the tests' own are given.

use std::path::Path;
use std::process::Command;

use super::build;
use crate::netns::run;

/// Makes them all in `folder`, as `deploy/images/build` makes those of a release.
pub(super) fn make(folder: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/images/build");
    let command = |tag: &str| {
        let mut command = Command::new(&script);
        command.args(["--prefix", "localhost", "--tag", tag]);
        command.arg("--programs").arg(build::folder());
        command.arg("--out").arg(folder);
        command
    };
    run(&mut command(TAG));
    // An application's user is neither root nor one of ours.
    run(command("1").args(["--only", "ferrule-test-app:65532:65532"]));
}

/// The tag of Ferrule's images.
const TAG: &str = "test";
