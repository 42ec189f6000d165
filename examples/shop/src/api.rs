//! The api between the page and the store.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::call::Target;
use crate::serve::{Reply, Request, serve};
use crate::{ShopError, listen};

/// Serves `GET /items` and `POST /orders` at `port`, from `store`, as long as the program runs.
///
/// # Errors
/// When the port cannot be opened or used any more.
pub fn api(host: Option<IpAddr>, port: u16, store: Target) -> Result<(), ShopError> {
    serve(&listen(host, port)?, move |request| answer(&store, request))
}

fn answer(store: &Target, request: &Request) -> Reply {
    let answered = match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/items") => store
            .at("/items")
            .get()
            .map(|items| with_hop(items, request, "api")),
        ("POST", "/orders") => {
            let order: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let Some(item) = order["item"].as_str().filter(|item| is_name(item)) else {
                return Reply::json(400, &json!({ "error": "an order names an item" }));
            };
            store.at(&format!("/take/{item}")).post(&json!({}))
        }
        _ => return Reply::nothing(request),
    };
    match answered {
        Ok(message) => Reply::json(200, &message),
        Err(error) => Reply::json(502, &json!({ "error": error.to_string() })),
    }
}

/// The message with this program in front of its `hops`.
pub(crate) fn with_hop(mut message: Value, request: &Request, program: &str) -> Value {
    if let Some(hops) = message["hops"].as_array_mut() {
        hops.insert(0, json!({ "program": program, "caller": request.from.ip() }));
    }
    message
}

/// Whether it can stand in a path as it is.
fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}
