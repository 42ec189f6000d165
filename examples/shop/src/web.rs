//! The shop's front: the page for customers, and what the intruder tells of itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::api::with_hop;
use crate::call::Target;
use crate::page::page;
use crate::serve::{Reply, Request, serve};
use crate::{ShopError, listen};

/// Serves the page at `port`, with what `api` says, as long as the program runs. In the file `view`, if there is one,
/// stands who speaks with whom.
///
/// # Errors
/// When the port cannot be opened or used any more.
pub fn web(host: Option<IpAddr>, port: u16, api: Target, view: Option<PathBuf>) -> Result<(), ShopError> {
    let web = Web {
        api,
        view,
        attempts: Mutex::default(),
    };
    serve(&listen(host, port)?, move |request| web.answer(request))
}

struct Web {
    api: Target,
    view: Option<PathBuf>,
    /// What the intruder tried, and what came of it.
    attempts: Mutex<BTreeMap<String, Value>>,
}

impl Web {
    fn answer(&self, request: &Request) -> Reply {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/") => Reply::page(page(&self.goods(request), &self.told(), self.view().as_ref())),
            ("GET", "/shop") => Reply::json(
                200,
                &json!({ "goods": self.goods(request), "attempts": self.told(), "mesh": self.view() }),
            ),
            ("POST", "/buy") => self.buy(request),
            ("POST", "/orders") => {
                let order: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                self.order(&order)
            }
            ("POST", "/attempts") => self.note(request),
            _ => Reply::nothing(request),
        }
    }

    fn goods(&self, request: &Request) -> Value {
        match self.api.at("/items").get() {
            Ok(goods) => with_hop(goods, request, "web"),
            Err(error) => json!({ "error": error.to_string() }),
        }
    }

    fn order(&self, order: &Value) -> Reply {
        match self.api.at("/orders").post(order) {
            Ok(message) => Reply::json(200, &message),
            Err(error) => Reply::json(502, &json!({ "error": error.to_string() })),
        }
    }

    /// An order from the page's own form, which leads back to the page. The names of goods need no decoding.
    fn buy(&self, request: &Request) -> Reply {
        let body = String::from_utf8_lossy(&request.body);
        let Some(item) = body.strip_prefix("item=") else {
            return Reply::json(400, &json!({ "error": "an order names an item" }));
        };
        let reply = self.order(&json!({ "item": item }));
        if reply.is_good() { Reply::see("/") } else { reply }
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

    fn told(&self) -> Vec<Value> {
        self.attempts().values().cloned().collect()
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Value>> {
        // The map is whole after every statement.
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who speaks with whom; nothing where that is not shown, or not yet.
    fn view(&self) -> Option<Value> {
        let file = File::open(self.view.as_ref()?).ok()?;
        let mut text = Vec::new();
        file.take(MOST_VIEW).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// Targets that are kept for the page.
const MOST_ATTEMPTS: usize = 16;

/// The longest file that is read; longer, and it is none.
const MOST_VIEW: u64 = 4 * 1024 * 1024;
