//! Who may reach what: documents, judgement, explanation.
