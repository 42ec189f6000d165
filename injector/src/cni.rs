//! The CNI plugin, its rooms: what it is asked ([`call`]), what it does ([`plugin`]), how it comes onto a node
//! ([`install`]).

pub mod call;
pub mod install;
pub mod plugin;
