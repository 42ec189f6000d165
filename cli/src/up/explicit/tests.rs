//! Tests what applications and sidecars are told where nothing is captured.

use ferrule_document::{Document, Limits};

use super::*;
use crate::state::Capture;
use crate::up::document::MeshDocument;
use crate::up::plan::Machine;

const SHOP: &str = "apiVersion: ferrule.dev/v1alpha1
kind: Mesh
trustDomain: shop.local
workloads:
- name: web
  namespace: shop
  run: [./web, '--api=api:8080', '--again', 'http://api.shop:8080/x,http://db.data:5432']
  env: { API: 'http://api.shop:8080/items?from=api.shop', OTHER: 'myapi:8080 api:80801 xapi.shop:8080 api.shop.example:8080' }
- { name: api, namespace: shop, run: [./api], ports: [8080], replicas: 2, env: { HOST: '::' } }
- { name: db, namespace: data, run: [./db], ports: [5432] }
";

fn plan() -> Plan {
    let document = Document::parse_one("mesh.yaml", SHOP.as_bytes(), Limits::default()).unwrap();
    let machine = Machine {
        capture: Capture::Explicit,
        ipv6: true,
        loopback: 213,
    };
    Plan::new(&MeshDocument::read(&document).unwrap(), "/".as_ref(), machine).unwrap()
}

#[test]
fn names_with_a_port_lead_to_the_sidecar() {
    let plan = plan();
    let web = &plan.workloads[0];
    let told = told(&plan, web, &web.replicas[0]);
    assert_eq!(
        told.run[1..],
        [
            "--api=127.213.128.0:17000",
            "--again",
            "http://127.213.128.0:17000/x,http://127.213.128.0:17001"
        ]
    );
    assert_eq!(told.env["API"], "http://127.213.128.0:17000/items?from=api.shop");
    assert_eq!(told.env["OTHER"], web.env["OTHER"]);
    assert_eq!(told.env["HOST"], "127.213.0.16");
}

#[test]
fn a_sidecar_listens_for_what_is_named_alone() {
    let plan = plan();
    let [web, api, _] = plan.workloads.as_slice() else {
        panic!()
    };
    let of_web = listeners(&plan, web, &web.replicas[0]);
    let upstream = |port: u16, name: &str| (SocketAddr::from(([127, 213, 128, 0], port)), name.to_owned());
    assert_eq!(
        of_web,
        Listeners {
            serves: vec![],
            upstreams: vec![upstream(17000, "api.shop:8080"), upstream(17001, "db.data:5432")],
        }
    );
    let of_api = listeners(&plan, api, &api.replicas[1]);
    let at = |port: u16| SocketAddr::from(([127, 213, 0, 18], port));
    assert_eq!(
        of_api,
        Listeners {
            serves: vec![(at(16000), at(8080))],
            upstreams: vec![],
        }
    );
}

#[test]
fn what_an_operator_set_stays() {
    let plan = plan();
    let api = &plan.workloads[1];
    assert_eq!(told(&plan, api, &api.replicas[0]).env["HOST"], "::");
}
