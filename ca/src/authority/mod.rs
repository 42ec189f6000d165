//! Holds the CA's own certificates: roots, signing certificates, their keys, their turn.

pub mod slots;
