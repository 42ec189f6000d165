//! Claims about copies and restores.
