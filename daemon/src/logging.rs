//! Writes what happens as lines of JSON or text, without ever holding up who says it.

mod shown;

pub use shown::{Chain, FOREIGN_BYTES, Foreign, shorten};
