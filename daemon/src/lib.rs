//! What every long-running program of Ferrule needs, and nothing of the domain.

mod caught;
pub mod clock;
pub mod drain;
pub mod logging;
pub mod metrics;
pub mod ready;
pub mod settings;
pub mod signals;
pub mod stop;
pub mod tasks;
