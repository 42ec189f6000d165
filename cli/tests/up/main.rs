//! Runs whole meshes with the program itself, and looks at what they do and what they leave.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod checked;
mod explicit;
mod forbidden;
mod hand;
mod hosts;
mod load;
mod mesh;
mod outage;
mod postgres;
mod rotation;
mod suggested;
mod transparent;
mod wire;
