/// The known word that was most likely meant; `None` when none is near.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = 1 + wanted.chars().count() / 4;
    let lower = wanted.to_lowercase();
    let far = |word: &str| distance(&lower, &word.to_lowercase());
    let candidates = known.into_iter().filter(|word| word.len() < 4 * WORD_LENGTH_MAX).map(|word| (far(word), word));
    candidates.filter(|(far, _)| *far <= allowed).min().map(|(_, word)| word)
}

const WORD_LENGTH_MAX: usize = 64;

/// How many letters must be put in, taken out, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(WORD_LENGTH_MAX).collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_the_one_meant() {
        let known = ["prometheus", "version", "repository", "image", "tag"];
        for (wanted, meant) in [
            ("promethues", Some("prometheus")),
            ("verison", Some("version")),
            ("Version", Some("version")),
            ("tga", Some("tag")),
            ("imgae", Some("image")),
            ("dependencies", None),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, known), meant, "{wanted}");
        }
    }
}
