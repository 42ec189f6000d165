//! Lays out what commands print for people.

use ferrule_identity::Timestamp;

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Format {
    /// Aligned columns, for people.
    #[default]
    #[value(alias = "text")]
    Table,
    /// JSON, for programs.
    Json,
}

/// Rows in aligned columns below their headings, two spaces between them.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let padded = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(headings)];
    lines.extend(
        rows.iter()
            .map(|row| line(std::array::from_fn(|column| row[column].as_str()))),
    );
    lines.join("\n")
}

/// How long from `now` until `then`, in the largest unit that fits: `in 3 h`, `20 d ago`, `now`.
pub(super) fn distance(then: Timestamp, now: Timestamp) -> String {
    let span = |seconds: u64| match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    };
    match (then.since(now).as_secs(), now.since(then).as_secs()) {
        (0, 0) => "now".to_owned(),
        (ahead, 0) => format!("in {}", span(ahead)),
        (_, past) => format!("{} ago", span(past)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [
            ["a".to_owned(), "long one".to_owned()],
            ["bcd".to_owned(), String::new()],
        ];
        assert_eq!(table(["X", "Y"], &rows), "X    Y\na    long one\nbcd");
    }

    #[test]
    fn distances_have_one_unit() {
        let now = Timestamp::from_unix(1_000_000);
        for (seconds, text) in [
            (0, "now"),
            (5, "in 5 s"),
            (3_600, "in 60 min"),
            (90_000, "in 25 h"),
            (-864_000, "10 d ago"),
        ] {
            assert_eq!(distance(Timestamp::from_unix(1_000_000 + seconds), now), text);
        }
    }
}
