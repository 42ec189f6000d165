//! Reads from a program's settings which log lines are written, and how they look.

use ferrule_document::Fields;

use super::{Filter, Format};

/// The field `log` of a program's settings.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// How log lines look; `json` unless set.
    pub format: Format,
    /// Which log lines are written; `info` unless set.
    pub filter: Filter,
}

impl LogConfig {
    /// Reads what is inside the field `log`.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let format = fields.default("format", "json", |item| item.parsed());
        let filter = fields.default("level", "info", |item| item.parsed());
        Some(Self {
            format: format?,
            filter: filter?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, Written};

    fn read(text: &str) -> Result<String, String> {
        let loaded = Settings::of("ferrule-ca").load(Written::Text(text), [("", ""); 0], |fields| {
            fields.default("log", "{}", |item| item.fields(LogConfig::read))
        });
        let log = loaded.map_err(|problems| problems.to_string())?.config;
        Ok(format!("{} {}", log.format, log.filter))
    }

    #[test]
    fn lines_are_json_of_info_unless_set() {
        assert_eq!(read("{}").unwrap(), "json info");
        assert_eq!(
            read("log: { format: text, level: 'info,ferrule_ca::api=debug' }").unwrap(),
            "text ferrule_ca::api=debug,info"
        );
    }

    #[test]
    fn a_level_that_is_none_is_a_fault_with_its_place() {
        for (text, told) in [
            ("log: { level: 'info,x=loud' }", "1:15: log.level"),
            ("log: { level: '' }", "1:15: log.level"),
            ("log: { format: xml }", "1:16: log.format"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
