//! The units in deploy/systemd are what systemd takes.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
#[ignore = "needs systemd-analyze: tests/run"]
fn systemd_finds_no_fault_in_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd");
    let mut count = 0;
    for entry in fs::read_dir(units).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().replace('@', "@web");
        // The programs are installed elsewhere than here; all else is looked at as it is.
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace("/usr/local/bin/ferrule-ca", "/bin/true");
        let text = text.replace("/usr/local/bin/ferrule", "/bin/true");
        let unit = folder.path().join(name);
        fs::write(&unit, text).unwrap();
        let checked = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&unit)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(
            checked.status.success() && said.is_empty(),
            "{}: {said}",
            path.display()
        );
        count += 1;
    }
    assert_eq!(count, 3);
}
