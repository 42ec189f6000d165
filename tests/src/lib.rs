//! The tests of the whole system and of the tree.
