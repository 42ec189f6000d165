# The same steps as the pipeline, under the same names; each recipe calls the script that the pipeline calls.

# Lists the recipes.
default:
    @just --list

# Everything that the pipeline runs.
ci:
    .ci/run

# All tests, with what they need beyond Rust installed first; arguments go to cargo test.
test *ARGS:
    tests/run {{ARGS}}

# Is the code formatted?
fmt:
    .ci/run fmt

# Lints, warnings as errors.
clippy:
    .ci/run clippy

# Documentation, warnings as errors.
doc:
    .ci/run doc

# Advisories, licences, bans and sources of the dependencies.
deny:
    .ci/run deny

# Each fuzz target for a minute (FUZZ_SECONDS changes that).
fuzz:
    .ci/run fuzz
