//! What every long-running program of Ferrule needs, and nothing of the domain.
