//! YAML with places: every fault of a document at once, with line and column.
