//! Draws bars with the range around each median, as SVG.

use std::fmt::Write as _;

use ferrule_load::spread::Spread;

use super::escape;
use crate::overhead::peers::FERRULE;
use crate::overhead::table::range;

/// One bar.
pub(super) struct Bar<'a> {
    /// What stands beside it.
    pub(super) title: &'a str,
    /// Whose it is.
    pub(super) name: &'a str,
    pub(super) spread: Spread,
}

/// A plot of `bars` from zero on, which `label` tells who cannot see it.
pub(super) fn bars(bars: &[Bar<'_>], label: &str) -> String {
    let most = bars.iter().map(|bar| bar.spread.max).fold(0.0, f64::max);
    let height = ROW * bars.len() + 4;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escape(label)
    );
    for (row, bar) in bars.iter().enumerate() {
        let top = row * ROW + 3;
        // Nothing, and what is not above nothing, has no length.
        let at = |value: f64| {
            if most > 0.0 {
                (value / most).clamp(0.0, 1.0) * LENGTH
            } else {
                0.0
            }
        };
        let (median, min, max) = (at(bar.spread.median), at(bar.spread.min), at(bar.spread.max));
        let own = if bar.name == FERRULE { " own" } else { "" };
        let text = top + 12;
        let middle = top + 8;
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\
             <rect class=\"bar{own}\" x=\"{START}\" y=\"{top}\" width=\"{median:.1}\" height=\"16\"/>",
            START - 6.0,
            escape(bar.title),
        );
        if bar.spread.min < bar.spread.max {
            let (from, to) = (START + min, START + max);
            let _ = write!(
                svg,
                "<path class=\"range\" d=\"M{from:.1} {middle}H{to:.1}M{from:.1} {}v8M{to:.1} {}v8\"/>",
                middle - 4,
                middle - 4,
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{text}\">{}</text>",
            START + max.max(median) + 5.0,
            escape(&range(&bar.spread)),
        );
    }
    svg.push_str("</svg>");
    svg
}

const WIDTH: usize = 420;
const ROW: usize = 20;
/// Where bars begin.
const START: f64 = 120.0;
/// How long the longest is; behind it stands its value.
const LENGTH: f64 = 185.0;
