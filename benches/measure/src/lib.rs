//! What several programs of benches share: programs under measurement, those who follow a directory, figures,
//! exit codes.

mod ending;
pub mod figures;
pub mod follower;
pub mod process;
pub mod programs;

pub use ending::ending;
