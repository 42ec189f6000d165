//! Tests of settings: precedence, faults, names of variables.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::*;

#[derive(Debug, PartialEq)]
struct Config {
    listen: SocketAddr,
    pod: Option<String>,
    deadline: Duration,
    names: Vec<String>,
    token: Option<String>,
}

fn config(fields: &mut Fields<'_>) -> Option<Config> {
    let listen = fields.required("listen", |item| item.parsed());
    let pod = fields.optional("pod", |item| item.text());
    let drain = fields.default("drain", "{}", |item| {
        item.fields(|fields| fields.default("deadline", "30s", |item| item.duration()))
    });
    let names = fields.default("dns_names", "[]", |item| item.list(|item| item.text()));
    let token = fields.optional("token", |item| item.secret());
    Some(Config {
        listen: listen?,
        pod: pod?,
        deadline: drain?,
        names: names?,
        token: token?,
    })
}

fn settings() -> Settings {
    Settings::of("ferrule-ca").named("POD_NAME", &["pod"])
}

/// What the settings become with this text as the file and these variables; the file's name is left out of
/// complaints.
fn load(text: Option<&str>, variables: &[(&str, &str)]) -> Result<Loaded<Config>, String> {
    let file = text.map(|text| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    });
    let path = file.as_ref().map(|file| file.path().to_owned());
    let loaded = settings().load(path.as_deref(), variables.iter().copied(), config);
    loaded.map_err(|problems| match path {
        Some(path) => problems
            .to_string()
            .replace(&path.display().to_string(), "ca.yaml"),
        None => problems.to_string(),
    })
}

#[test]
fn the_environment_is_laid_over_the_file() {
    let file = "listen: 127.0.0.1:1\npod: from-file\ndns_names: [a]\n";
    let variables = [
        ("POD_NAME", "from-kubernetes"),
        ("FERRULE_CA__LISTEN", "[::1]:15010"),
        ("FERRULE_CA__DRAIN__DEADLINE", "10s"),
        ("FERRULE_CA__DNS_NAMES", "ca.mesh, ca"),
    ];
    let loaded = load(Some(file), &variables).unwrap();
    assert_eq!(
        loaded.config,
        Config {
            listen: "[::1]:15010".parse().unwrap(),
            pod: Some("from-kubernetes".to_owned()),
            deadline: Duration::from_secs(10),
            names: vec!["ca.mesh".to_owned(), "ca".to_owned()],
            token: None,
        }
    );
    let prefixed = [("FERRULE_CA__POD", "by-path"), ("POD_NAME", "from-kubernetes")];
    assert_eq!(
        load(Some(file), &prefixed).unwrap().config.pod.unwrap(),
        "by-path"
    );
}

#[test]
fn no_file_is_needed() {
    let loaded = load(None, &[("FERRULE_CA__LISTEN", "127.0.0.1:1")]).unwrap();
    assert_eq!(loaded.config.deadline, Duration::from_secs(30));
    assert_eq!(
        load(None, &[]).unwrap_err(),
        "settings: the field `listen` is missing"
    );
    let comments = load(Some("# nothing yet\n"), &[("FERRULE_CA__LISTEN", "127.0.0.1:1")]);
    assert!(comments.is_ok());
}

#[test]
fn all_faults_of_file_and_environment_come_together() {
    let faults = load(
        Some("listn: x\ndrain: {deadline: 30}\n"),
        &[
            ("FERRULE_CA__DRAIN__DEADLIN", "5s"),
            ("FERRULE_CA__listen", "127.0.0.1:1"),
            ("FERRULE_CA____X", "1"),
            ("FERRULE_CA__TOKEN__X", "1"),
            ("FERRULE_CA__TOKEN", "1"),
        ],
    );
    assert_eq!(
        faults.unwrap_err(),
        "ca.yaml:1:1: the field `listen` is missing\n\
         ca.yaml:1:1: listn: unknown field `listn`; did you mean `listen`?\n\
         ca.yaml:2:19: drain.deadline: `30` has no unit; a duration is written with one, such as `30s`\n\
         environment variable FERRULE_CA__DRAIN__DEADLIN: drain.deadlin: unknown field `deadlin`; known are deadline\n\
         environment variable FERRULE_CA__TOKEN__X: token.x: cannot be set, because `token` is not a map\n\
         environment variable FERRULE_CA____X: the name of the variable names no field; `__` goes one level down\n\
         environment variable FERRULE_CA__listen: the name of the variable may have only A-Z, 0-9 and `_` after the prefix"
    );
}

#[test]
fn the_variables_that_kubernetes_makes_for_a_service_are_left_alone() {
    let made = [
        ("FERRULE_CA__LISTEN", "127.0.0.1:1"),
        ("FERRULE_CA_SERVICE_HOST", "10.0.0.1"),
        ("FERRULE_CA_PORT_15010_TCP_ADDR", "10.0.0.1"),
        ("FERRULE_PROXY__LISTEN", "another program's"),
    ];
    assert!(load(None, &made).is_ok());
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault_and_no_default() {
    let none: [(&str, &str); 0] = [];
    let faults = settings()
        .load(Some(Path::new("no/such/file.yaml")), none, config)
        .unwrap_err();
    assert!(
        faults
            .to_string()
            .starts_with("no/such/file.yaml: cannot be read: "),
        "{faults}"
    );
    assert_eq!(faults.count(), 1);
    let long = " ".repeat((1 << 20) + 1);
    assert!(load(Some(&long), &[]).unwrap_err().contains("more than 1048576"));
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_utf_8_is_a_fault() {
    use std::os::unix::ffi::OsStringExt;

    let pair = (
        OsString::from("FERRULE_CA__LISTEN"),
        OsString::from_vec(vec![0xff]),
    );
    let faults = settings().load(None, [pair], config).unwrap_err();
    assert!(
        faults
            .to_string()
            .contains("FERRULE_CA__LISTEN: the value is not UTF-8"),
        "{faults}"
    );
}

#[test]
fn what_is_in_force_is_shown_with_its_origin_and_without_secrets() {
    let loaded = load(
        None,
        &[
            ("FERRULE_CA__LISTEN", "127.0.0.1:1"),
            ("FERRULE_CA__TOKEN", "hunter2"),
        ],
    );
    let shown = loaded.unwrap().effective.render();
    assert_eq!(
        shown,
        "listen: 127.0.0.1:1  # environment variable FERRULE_CA__LISTEN\n\
         token: \"[redacted]\"  # environment variable FERRULE_CA__TOKEN\n\
         drain:\n  deadline: 30s  # default\n\
         dns_names: []  # default\n"
    );
}
