//! Guesses which word was meant.

/// The one of `words` that `typed` most probably was meant to be: at most a third of its letters (and never more than
/// three) away in inserted, left out, changed or swapped letters; `None` when none is near.
pub fn nearest<'w>(typed: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let letters: Vec<char> = typed
        .chars()
        .flat_map(char::to_lowercase)
        .take(MAX_LETTERS + 1)
        .collect();
    if letters.len() > MAX_LETTERS {
        return None;
    }
    words
        .into_iter()
        .map(|word| (distance(&letters, word), word))
        .filter(|(away, word)| *away <= (word.chars().count().max(letters.len()) / 3).clamp(1, 3))
        .min_by_key(|(away, _)| *away)
        .map(|(_, word)| word)
}

/// ` (did you mean `x`?)`, or nothing.
pub(crate) fn hint<'w>(typed: &str, words: impl IntoIterator<Item = &'w str>) -> String {
    nearest(typed, words)
        .map(|word| format!("; did you mean `{word}`?"))
        .unwrap_or_default()
}

/// Longer words are not compared: the work grows with the square of the length.
const MAX_LETTERS: usize = 64;

/// Optimal string alignment distance, letters compared without case; `_` and `-` count as nothing.
fn distance(typed: &[char], word: &str) -> usize {
    let plain = |c: &char| !matches!(c, '_' | '-');
    let a: Vec<char> = typed.iter().copied().filter(plain).collect();
    let b: Vec<char> = word
        .chars()
        .flat_map(char::to_lowercase)
        .filter(plain)
        .take(MAX_LETTERS)
        .collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_word_that_was_meant() {
        let words = ["ports", "identities", "namespaces", "cidrs", "trustDomain"];
        assert_eq!(nearest("prots", words), Some("ports"));
        assert_eq!(nearest("identites", words), Some("identities"));
        assert_eq!(nearest("trust_domain", words), Some("trustDomain"));
        assert_eq!(nearest("hosts", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest(&"p".repeat(1000), words), None);
    }
}
