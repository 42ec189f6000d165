//! Tests of the judgement of framing.
