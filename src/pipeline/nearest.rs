//! The one place where a word that nobody knows is compared with the words we know.

/// The known word that was most likely meant; `None` when nothing is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = 1 + word.chars().count() / 4;
    let near = |known: &'a str| {
        let lower = known.to_lowercase();
        let starts = word.chars().count() >= 3 && (lower.starts_with(&word) || word.starts_with(&lower));
        let distance = if starts { 1 } else { distance(&word, &lower) };
        (distance <= allowed).then_some((distance, known))
    };
    known.into_iter().filter_map(near).min().map(|(_, known)| known)
}

/// A remedy for an unknown word: the nearest known one, and all of them.
pub fn remedy(word: &str, what: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return format!("there are no {what}");
    }
    let list = list(known);
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? known {what}: {list}"),
        None => format!("known {what}: {list}"),
    }
}

/// Words in backticks, with commas.
pub fn list<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(|w| format!("`{}`", w.as_ref())).collect::<Vec<_>>().join(", ")
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_what_was_meant() {
        let known = ["promote", "rollback", "timeout", "every", "on_fail", "prometheus", "http"];
        for (word, meant) in [
            ("promethues", Some("prometheus")),
            ("promot", Some("promote")),
            ("Timeout", Some("timeout")),
            ("time", Some("timeout")),
            ("onfail", Some("on_fail")),
            ("htpp", Some("http")),
            ("banana", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, d) in [("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 1), ("same", "same", 0)] {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }
}
