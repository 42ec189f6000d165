//! Reads from a program's settings how long the steps of its stop may take.

use std::ops::RangeInclusive;
use std::time::Duration;

use ferrule_document::Fields;

use super::StopLimits;

impl StopLimits {
    /// Reads what is inside the field `drain`: `leave` and `deadline`, each from nothing to seven days, with the defaults
    /// that the program gives, written as in a settings file.
    pub fn read(fields: &mut Fields<'_>, leave: &str, deadline: &str) -> Option<Self> {
        let leave = fields.default("leave", leave, |item| item.duration_in(STEP));
        let deadline = fields.default("deadline", deadline, |item| item.duration_in(STEP));
        Some(Self {
            leave: leave?,
            deadline: deadline?,
            ..Self::default()
        })
    }
}

const STEP: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(7 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, Written};

    fn read(text: &str) -> Result<StopLimits, String> {
        let loaded = Settings::of("ferrule-ca").load(Written::Text(text), [("", ""); 0], |fields| {
            fields.default("drain", "{}", |item| {
                item.fields(|fields| StopLimits::read(fields, "0s", "5s"))
            })
        });
        Ok(loaded.map_err(|problems| problems.to_string())?.config)
    }

    #[test]
    fn the_programs_own_defaults_hold_unless_set() {
        let limits = |leave, deadline| StopLimits {
            leave: Duration::from_secs(leave),
            deadline: Duration::from_secs(deadline),
            ..StopLimits::default()
        };
        assert_eq!(read("{}").unwrap(), limits(0, 5));
        assert_eq!(
            read("drain: { leave: 7s, deadline: 7d }").unwrap(),
            limits(7, 7 * 86_400)
        );
        let error = read("drain: { deadline: 8d }").unwrap_err();
        assert!(error.contains("drain.deadline"), "{error}");
    }
}
