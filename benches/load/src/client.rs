//! The near end of a path: one file for each kind of load.

pub mod amount;
pub mod bulk;
pub mod idle;
pub mod openings;
pub mod requests;
