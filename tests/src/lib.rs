//! Tools that several of the system's tests share.
