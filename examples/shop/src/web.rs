//! The page that customers see.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::api::with_hop;
use crate::call::Target;
use crate::serve::{Reply, Request, serve};
use crate::{ShopError, listen};

/// Serves the page at `port`, with what `api` says, as long as the program runs. `mesh` is where the mesh itself can be
/// looked at, for a link.
///
/// # Errors
/// When the port cannot be opened or used any more.
pub fn web(host: Option<IpAddr>, port: u16, api: Target, mesh: Option<String>) -> Result<(), ShopError> {
    let web = Web {
        api,
        mesh,
        attempts: Mutex::default(),
    };
    serve(&listen(host, port)?, move |request| web.answer(request))
}

struct Web {
    api: Target,
    mesh: Option<String>,
    /// What the intruder tried, and what came of it.
    attempts: Mutex<BTreeMap<String, Value>>,
}

impl Web {
    fn answer(&self, request: &Request) -> Reply {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/") => Reply::page(PAGE),
            ("GET", "/shop") => self.shop(request),
            ("POST", "/orders") => {
                let order: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                match self.api.at("/orders").post(&order) {
                    Ok(message) => Reply::json(200, &message),
                    Err(error) => Reply::json(502, &json!({ "error": error.to_string() })),
                }
            }
            ("POST", "/attempts") => self.note(request),
            _ => Reply::nothing(request),
        }
    }

    /// All that the page shows.
    fn shop(&self, request: &Request) -> Reply {
        let goods = match self.api.at("/items").get() {
            Ok(goods) => with_hop(goods, request, "web"),
            Err(error) => json!({ "error": error.to_string() }),
        };
        let attempts: Vec<Value> = self.attempts().values().cloned().collect();
        Reply::json(
            200,
            &json!({ "goods": goods, "attempts": attempts, "mesh": self.mesh }),
        )
    }

    /// Takes down what the intruder tells of its attempts, the newest for each target.
    fn note(&self, request: &Request) -> Reply {
        let told: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let Some(target) = told["target"].as_str() else {
            return Reply::json(400, &json!({ "error": "an attempt has a target" }));
        };
        let mut attempts = self.attempts();
        if attempts.len() >= MOST_ATTEMPTS && !attempts.contains_key(target) {
            return Reply::json(429, &json!({ "error": "the page is full" }));
        }
        let count = attempts
            .get(target)
            .and_then(|before| before["count"].as_u64())
            .unwrap_or(0);
        let noted = json!({
            "target": target, "outcome": told["outcome"], "got_through": told["got_through"], "count": count + 1,
        });
        attempts.insert(target.to_owned(), noted);
        Reply::json(200, &json!({}))
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Value>> {
        // The map is whole after every statement.
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const PAGE: &str = include_str!("page.html");

/// Targets that are kept for the page.
const MOST_ATTEMPTS: usize = 16;
