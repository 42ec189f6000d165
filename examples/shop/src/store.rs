//! The store: what there is, and how many of it.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use crate::serve::{Reply, Request, serve};
use crate::{ShopError, listen};

/// Serves `GET /items` and `POST /take/NAME` at `port`, as long as the program runs.
///
/// # Errors
/// When the port cannot be opened or used any more.
pub fn store(host: Option<IpAddr>, port: u16) -> Result<(), ShopError> {
    let shelf = Mutex::new(Shelf::new());
    serve(&listen(host, port)?, move |request| {
        // A shelf is whole after every statement.
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        answer(&mut shelf, request)
    })
}

fn answer(shelf: &mut Shelf, request: &Request) -> Reply {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/items") => {
            let items: Vec<_> = shelf
                .0
                .iter()
                .map(|(name, left)| json!({ "name": name, "left": left }))
                .collect();
            Reply::json(
                200,
                &json!({ "items": items, "hops": [{ "program": "store", "caller": request.from.ip() }] }),
            )
        }
        ("POST", path) => match path.strip_prefix("/take/").and_then(|name| shelf.take(name)) {
            Some(left) => Reply::json(200, &json!({ "left": left })),
            None => Reply::json(409, &json!({ "error": "there is none left of that" })),
        },
        _ => Reply::nothing(request),
    }
}

/// What lies in the store.
#[derive(Debug)]
struct Shelf(Vec<(&'static str, u32)>);

impl Shelf {
    fn new() -> Self {
        Self(vec![("walking-stick", 40), ("umbrella", 25), ("pencil", 300)])
    }

    /// Takes one; how many are left, or `None` when there was none.
    fn take(&mut self, name: &str) -> Option<u32> {
        let (_, left) = self.0.iter_mut().find(|(item, _)| *item == name)?;
        *left = left.checked_sub(1)?;
        Some(*left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_taken_once() {
        let mut shelf = Shelf(vec![("umbrella", 1)]);
        assert_eq!(shelf.take("umbrella"), Some(0));
        assert_eq!(shelf.take("umbrella"), None);
        assert_eq!(shelf.take("hat"), None);
    }
}
