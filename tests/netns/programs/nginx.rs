//! nginx under h2load: HTTP/1.1 on connections that stay, and HTTP/2.

use std::fs;

use ferrule_tests::netns::{Host, Process, alone, run};
use ferrule_tests::wait::until;

const SETTINGS: &str = "
daemon off;
pid nginx.pid;
error_log stderr;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  root pages;
  server { listen 8080; listen [::]:8080; }
  server { listen 8082 http2; listen [::]:8082 http2; }
}
";

/// A server of one page of 10,000 bytes.
fn server(host: &Host) -> Process {
    let folder = host.folder();
    fs::write(folder.join("nginx.conf"), SETTINGS).unwrap();
    fs::create_dir(folder.join("pages")).unwrap();
    fs::write(folder.join("pages/page"), "0123456789".repeat(1000)).unwrap();
    let mut command = host.app("nginx");
    command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]);
    let mut server = host.start("nginx", command.arg(folder));
    until("nginx is ready", || {
        assert!(server.runs(), "{}", server.said());
        folder.join("nginx.pid").exists().then_some(())
    });
    server
}

#[test]
#[ignore = "needs root or user namespaces, nft, nginx and h2load: tests/run"]
fn nginx_serves_http_1_1_and_http_2_on_connections_that_stay() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        mesh.allow("web", "api", &[8080, 8082]);
        let _server = server(&api);
        let (out, into) = (mesh.sidecar(&web), mesh.sidecar(&api));
        for address in [api.v4().to_string(), format!("[{}]", api.v6())] {
            for (port, more) in [("8080", "--h1"), ("8082", "--max-concurrent-streams=10")] {
                let mut load = web.app("h2load");
                load.args(["--requests=2000", "--clients=10", "--threads=1", more]);
                let said = run(load.arg(format!("http://{address}:{port}/page")));
                assert!(
                    said.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"),
                    "{said}"
                );
                assert!(said.contains("status codes: 2000 2xx"), "{said}");
            }
        }
        for sidecar in [&out, &into] {
            // Ten connections for each run: none was closed and opened again on the way.
            sidecar.counts(&["ferrule_connections_total", "tls=\"mutual\""], 40.0);
            assert_eq!(sidecar.count(&["ferrule_connections_total"]), 40.0);
            sidecar.counts(&["bytes_total"], 80_000_000.0);
        }
    });
}
