//! Measures single steps of the way through Ferrule, in this process and without a network.

mod judge;
mod sealed;

use std::io::Write as _;

use anyhow::Context as _;
use ferrule_load::spread::Spread;

use judge::{CASES, Rules};
use sealed::Ends;

/// How often.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  ferrule-benches pieces")]
pub(crate) struct Options {
    /// How often each step is timed, in turn with the others
    #[arg(long, value_name = "NUMBER", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How often it is taken each time
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

/// Measures and prints; gives whether judging stays below its bound.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let rules = Rules::make()?;
    let ends = Ends::make()?;
    let mut samples = CASES.map(|_| Vec::new());
    let (mut handshakes, mut copies) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        for (case, samples) in CASES.into_iter().zip(&mut samples) {
            samples.push(rules.time(case, options.count)?);
        }
        // These take longer by themselves.
        handshakes.push(ends.time_handshake((options.count / 1_000).max(1))? / 1e3);
        copies.push(ends.time_copy((options.count / 1_000).max(1))? / 1e3);
    }
    let mut met = true;
    for (case, samples) in CASES.iter().zip(samples) {
        let spread = Spread::of(samples);
        met &= spread.median < MOST_NANOS;
        writeln!(
            std::io::stdout(),
            "{}: {spread} ns, wanted below {MOST_NANOS}",
            case.name
        )
        .context("cannot write to standard output")?;
    }
    for (what, samples) in [
        ("a handshake, both sides", handshakes),
        ("sealing and opening a MiB", copies),
    ] {
        writeln!(std::io::stdout(), "{what}: {} µs", Spread::of(samples))
            .context("cannot write to standard output")?;
    }
    Ok(met)
}

/// What judging one connection may take.
const MOST_NANOS: f64 = 2_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_judged_as_it_should_be_and_takes_time() {
        let rules = Rules::make().unwrap();
        for case in CASES {
            assert!(rules.time(case, 10).unwrap() > 0.0);
        }
    }

    #[test]
    fn handshakes_and_copies_take_time() {
        let ends = Ends::make().unwrap();
        assert!(ends.time_handshake(2).unwrap() > 0.0);
        assert!(ends.time_copy(2).unwrap() > 0.0);
    }
}
