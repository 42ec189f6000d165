//! Puts the endpoints of a service into the order in which one connection tries them.

/// How far away an endpoint is; the nearer ones are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// On the same machine.
    Node,
    /// In the same zone.
    Zone,
    /// Anywhere else, or nobody knows.
    Away,
}

/// What is known of an endpoint when a choice is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Connections that it carries.
    pub open: u32,
    /// The number of the choice that fell on it last; 0 for none. Among equals, the one whose turn is longest ago goes
    /// first, so that short connections are spread as well as long ones.
    pub last: u64,
    /// How far away it is.
    pub distance: Distance,
    /// How much of its share it gets, in percent: less while it has just come, or has come back.
    pub warmth: u32,
    /// When it was ejected, on any scale that grows; none while it is in use.
    pub ejected: Option<u64>,
}

/// The places of `candidates` in the order of trying, at most `most`. `draw` gives a number below the one it is given.
///
/// Those in use come first, the nearer before the farther; among the equally near, each place is the better of two
/// that were drawn. At most half of all count as ejected: of more, those come back that were ejected longest ago.
/// The ejected come last, since anything is better than nobody.
pub fn order(candidates: &[Candidate], most: usize, mut draw: impl FnMut(usize) -> usize) -> Vec<usize> {
    let out = ejected(candidates);
    let mut order = Vec::with_capacity(most.min(candidates.len()));
    for distance in [Distance::Node, Distance::Zone, Distance::Away] {
        let mut group: Vec<usize> = candidates
            .iter()
            .enumerate()
            .filter(|(place, candidate)| candidate.distance == distance && !out.contains(place))
            .map(|(place, _)| place)
            .collect();
        while order.len() < most && !group.is_empty() {
            let chosen = pick(candidates, &group, &mut draw);
            order.push(group.swap_remove(chosen));
        }
    }
    let left = most.saturating_sub(order.len());
    order.extend(out.into_iter().take(left));
    order
}

/// The places that count as ejected, the one that was ejected first in front.
fn ejected(candidates: &[Candidate]) -> Vec<usize> {
    let mut out: Vec<(u64, usize)> = candidates
        .iter()
        .enumerate()
        .filter_map(|(place, candidate)| Some((candidate.ejected?, place)))
        .collect();
    out.sort_unstable();
    let back = out.len().saturating_sub(candidates.len() / 2);
    out.into_iter().skip(back).map(|(_, place)| place).collect()
}

/// The better of two that are drawn from `group`, as a place in it.
fn pick(candidates: &[Candidate], group: &[usize], draw: &mut impl FnMut(usize) -> usize) -> usize {
    if group.len() < 2 {
        return 0;
    }
    let one = draw(group.len());
    let other = draw(group.len() - 1);
    let other = if other >= one { other + 1 } else { other };
    let of = |at: usize| group.get(at).and_then(|place| candidates.get(*place));
    let (Some(first), Some(second)) = (of(one), of(other)) else {
        return 0;
    };
    // One that warms up takes part in its share of the draws alone.
    let mut takes_part = |candidate: &Candidate| {
        candidate.warmth >= FULL || u32::try_from(draw(FULL as usize)).unwrap_or(FULL) < candidate.warmth
    };
    match (takes_part(first), takes_part(second)) {
        (true, false) => one,
        (false, true) => other,
        _ if (second.open, second.last) < (first.open, first.last) => other,
        _ => one,
    }
}

/// A full share, in percent.
pub const FULL: u32 = 100;

#[cfg(test)]
mod tests;
