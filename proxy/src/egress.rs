//! Leads connections beyond the mesh: by an address that rules allow, or by the name that the client says.
//!
//! Reading order: [`beyond`] (what happens to such a connection), [`first`] (the client's first bytes),
//! [`resolver`] (where a name leads), [`message`] (DNS on the wire), [`servers`] (who is asked).

pub mod beyond;
pub mod first;
pub mod message;
pub mod resolver;
pub mod servers;
