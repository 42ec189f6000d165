//! Programs that know nothing of the mesh work through it unmodified, in strict mode.

mod postgres;
mod streams;
