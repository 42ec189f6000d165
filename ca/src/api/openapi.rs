//! Holds the written description of the API, which is served as it is.

/// The OpenAPI document. A system test walks it: what it says is served, and what is served it says.
pub const DOCUMENT: &str = include_str!("../../openapi.json");
