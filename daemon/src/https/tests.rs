//! Tests of the server: every limit, every refusal.
