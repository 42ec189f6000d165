//! Redis, with its own benchmark.

use std::os::unix::fs::symlink;

use ferrule_tests::netns::{Host, Process, alone, run};
use ferrule_tests::wait::until;

/// A server that keeps nothing. Debian's server and its checker of files are one program that goes by its name;
/// the package of the tools has it under the checker's.
fn server(host: &Host) -> Process {
    let program = host.folder().join("redis-server");
    symlink("/usr/bin/redis-check-rdb", &program).unwrap();
    let mut command = host.app(&program);
    command.args([
        "--save",
        "",
        "--protected-mode",
        "no",
        "--bind",
        "*",
        "-::*",
        "--port",
        "6379",
    ]);
    let server = host.start("redis", command.current_dir(host.folder()));
    until("Redis is ready", || {
        server
            .said()
            .contains("Ready to accept connections")
            .then_some(())
    });
    server
}

#[test]
#[ignore = "needs root or user namespaces, nft and Redis: tests/run"]
fn redis_answers_its_benchmark() {
    alone(|mesh| {
        let (web, cache) = (mesh.workload("web"), mesh.workload("cache"));
        mesh.allow("web", "cache", &[6379]);
        let _server = server(&cache);
        let (out, into) = (mesh.sidecar(&web), mesh.sidecar(&cache));
        for address in cache.addresses().map(|address| address.to_string()) {
            let mut benchmark = web.app("redis-benchmark");
            benchmark.args([
                "-h",
                &address,
                "--csv",
                "-n",
                "2000",
                "-c",
                "50",
                "-t",
                "set,get,lpush,lrange_100",
            ]);
            let said = run(&mut benchmark);
            for test in ["SET", "GET", "LPUSH", "LRANGE_100"] {
                assert!(said.contains(&format!("\"{test}")), "{said}");
            }
            let mut pipelined = web.app("redis-benchmark");
            run(pipelined.args([
                "-h", &address, "--csv", "-n", "20000", "-c", "20", "-P", "100", "-t", "incr",
            ]));
            let count = run(web
                .app("redis-cli")
                .args(["-h", &address, "get", "counter:__rand_int__"]));
            assert_eq!(count.trim(), "20000");
            run(web.app("redis-cli").args(["-h", &address, "flushall"]));
        }
        for sidecar in [&out, &into] {
            sidecar.counts(
                &[
                    "ferrule_connections_total",
                    "tls=\"mutual\"",
                    "reason=\"finished\"",
                ],
                100.0,
            );
            assert_eq!(sidecar.count(&["denied_total"]), 0.0);
        }
    });
}
