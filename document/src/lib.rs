//! YAML with places: every fault of a document at once, with line and column.
//!
//! Text becomes a tree in [`Document::parse`]; the tree becomes checked values in [`Document::read`], through
//! [`Fields`] and [`Item`]. Both collect what is wrong in [`Problems`] and go on, so that one look mends a
//! file. What YAML offers for surprises is refused: anchors, aliases, merge keys, tags, duplicate keys,
//! unknown fields, fields without a value, words that some readers take for booleans.
//!
//! ```
//! use ferrule_document::{Document, Fields, Limits};
//!
//! struct Server {
//!     port: u16,
//!     idle: std::time::Duration,
//! }
//!
//! fn read(fields: &mut Fields<'_>) -> Option<Server> {
//!     let port = fields.required("port", |item| item.port());
//!     let idle = fields.default("idle", "5m", |item| item.duration());
//!     Some(Server { port: port?, idle: idle? })
//! }
//!
//! let server = Document::parse_one("server.yaml", b"port: 8080\n", Limits::default())
//!     .and_then(|document| document.read(read))?;
//! assert_eq!((server.port, server.idle.as_secs()), (8080, 300));
//!
//! let faults = Document::parse_one("server.yaml", b"prot: 8080\nidle: 30\n", Limits::default())
//!     .and_then(|document| document.read(read).map(drop))
//!     .unwrap_err();
//! assert_eq!(faults.iter().count(), 3);
//! # Ok::<(), ferrule_document::Problems>(())
//! ```

mod document;
mod fields;
mod item;
mod nearest;
mod parse;
mod place;
mod problems;
mod render;
mod tree;
mod units;

pub use document::{Document, Effective};
pub use fields::Fields;
pub use item::Item;
pub use nearest::nearest;
pub use parse::Limits;
pub use place::Place;
pub use problems::{Problem, Problems};
pub use tree::{Key, Node, Scalar, ScalarKind, Style, Value};
pub use units::{UnitError, parse_duration, parse_size, print_duration, print_size};
