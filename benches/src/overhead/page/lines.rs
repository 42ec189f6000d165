//! Draws lines over the number of connections, with the range around each median, as SVG.

use std::fmt::Write as _;

use ferrule_load::spread::{Spread, short};

use super::escape;
use crate::overhead::peers::FERRULE;

/// One line.
pub(super) struct Curve<'a> {
    /// What stands in the legend.
    pub(super) title: &'a str,
    /// Whose it is.
    pub(super) name: &'a str,
    /// By ascending numbers of connections.
    pub(super) points: Vec<(u32, &'a Spread)>,
}

/// A plot of `curves` from zero on, which `label` tells who cannot see it. `is_even`: each number of connections as far
/// from the next, rather than to scale.
pub(super) fn lines(curves: &[Curve<'_>], label: &str, is_even: bool) -> String {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let most = points().map(|(_, spread)| spread.max).fold(0.0, f64::max);
    let mut numbers: Vec<u32> = points().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let last = numbers.last().copied().unwrap_or(1);
    let x = |number: u32| {
        let share = if is_even {
            let at = numbers.iter().position(|known| *known == number).unwrap_or(0);
            crate::figures::number(at) / crate::figures::number(numbers.len().max(2) - 1)
        } else {
            f64::from(number) / f64::from(last)
        };
        LEFT + share * ACROSS
    };
    let y = |value: f64| {
        let share = if most > 0.0 {
            (value / most).clamp(0.0, 1.0)
        } else {
            0.0
        };
        TOP + (1.0 - share) * DOWN
    };
    let (bottom, right) = (TOP + DOWN, LEFT + ACROSS);
    let height = bottom + 26.0 + LINE * crate::figures::number(curves.len());
    let mut svg = format!(
        "<svg viewBox=\"0 0 420 {height:.0}\" role=\"img\" aria-label=\"{}\">\
         <path class=\"range\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">0</text>",
        escape(label),
        LEFT - 5.0,
        TOP + 8.0,
        short(most),
        LEFT - 5.0,
    );
    let mut free = f64::MIN;
    for number in &numbers {
        let at = x(*number);
        // One number does not cover another.
        if at < free {
            continue;
        }
        free = at + 30.0;
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{number}</text>",
            bottom + 14.0
        );
    }
    for (place, curve) in curves.iter().enumerate() {
        let shade = SHADES[place % SHADES.len()];
        let class = if curve.name == FERRULE { "line own" } else { "line" };
        let path: Vec<String> = curve
            .points
            .iter()
            .map(|(number, spread)| format!("{:.1} {:.1}", x(*number), y(spread.median)))
            .collect();
        let _ = write!(
            svg,
            "<path class=\"{class}\" stroke-dasharray=\"{shade}\" d=\"M{}\"/>",
            path.join("L")
        );
        for (number, spread) in &curve.points {
            let at = x(*number);
            let _ = write!(
                svg,
                "<path class=\"{class}\" d=\"M{at:.1} {:.1}V{:.1}\"/>",
                y(spread.min),
                y(spread.max)
            );
        }
        let legend = bottom + 28.0 + LINE * crate::figures::number(place);
        let _ = write!(
            svg,
            "<path class=\"{class}\" stroke-dasharray=\"{shade}\" d=\"M{LEFT} {:.1}h34\"/>\
             <text x=\"{}\" y=\"{legend:.1}\">{}</text>",
            legend - 4.0,
            LEFT + 42.0,
            escape(curve.title),
        );
    }
    svg.push_str("</svg>");
    svg
}

/// What tells one line from another where colours do not.
const SHADES: [&str; 8] = ["none", "7 3", "2 2", "9 2 2 2", "1 4", "12 4", "4 4", "6 1 1 1"];

const LEFT: f64 = 44.0;
const ACROSS: f64 = 350.0;
const TOP: f64 = 6.0;
const DOWN: f64 = 150.0;
/// The height of a line of the legend.
const LINE: f64 = 15.0;
