//! The programs of the shop work without a mesh too.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::ferrule::{Running, ferrule};
use crate::mesh::until;

fn start(program: &str, settings: &[(&str, &str)]) -> (Running, String) {
    let mut command = ferrule(&["example", program]);
    command.env("PORT", "0").env("HOST", "127.0.0.1");
    let mut running = Running::start(command.envs(settings.iter().copied()));
    let address = running.line("listening on ");
    (running, address)
}

fn ask(address: &str, request: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split_whitespace().nth(1).unwrap().to_owned(),
        body.to_owned(),
    )
}

fn json(address: &str, request: &str, body: &str) -> Value {
    let (status, body) = ask(address, request, body);
    assert_eq!(status, "200", "{body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn the_shop_sells_and_the_intruder_is_heard() {
    let (_store, store) = start("store", &[]);
    let (_api, api) = start("api", &[("STORE", &format!("http://{store}"))]);
    let (_web, web) = start("web", &[("API", &format!("http://{api}"))]);

    assert!(ask(&web, "GET /", "").1.contains("A shop behind Ferrule"));
    let shop = json(&web, "GET /shop", "");
    let hops: Vec<&str> = shop["goods"]["hops"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hop| hop["program"].as_str().unwrap())
        .collect();
    assert_eq!(hops, ["web", "api", "store"]);
    let left = |shop: &Value| shop["goods"]["items"][1]["left"].as_u64().unwrap();
    let sold = json(&web, "POST /orders", r#"{"item":"umbrella"}"#);
    assert_eq!(sold["left"].as_u64().unwrap(), left(&shop) - 1);
    assert_eq!(
        ask(&web, "POST /orders", r#"{"item":"../items"}"#).0,
        "502",
        "no path is smuggled"
    );

    // Without a mesh nobody stops it; a closed port does.
    let targets = format!("http://{store}/items http://127.0.0.1:1/x");
    let mut intruder = ferrule(&["example", "intruder"]);
    intruder
        .env("SHOP", format!("http://{web}"))
        .env("TARGETS", &targets);
    let mut intruder = Running::start(&mut intruder);
    intruder.line(&format!("got through: http://{store}/items: "));
    intruder.line("kept out: cannot reach http://127.0.0.1:1/x");
    // It prints before it tells.
    until("the shop has heard of both", || {
        let attempts = json(&web, "GET /shop", "")["attempts"].clone();
        let attempts = attempts.as_array().unwrap();
        let told = |through: bool| attempts.iter().any(|attempt| attempt["got_through"] == through);
        told(true) && told(false)
    });
}
