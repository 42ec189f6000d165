//! Serves the CA's HTTPS API.

pub mod limits;
pub mod status;
