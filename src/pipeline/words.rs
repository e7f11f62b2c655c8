//! Words that nobody knows, answered with the words we know.

use crate::edit;

/// The known word that was most likely meant: one that begins alike, or is spelt alike.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let begins_alike = |known: &&str| {
        let known = known.to_lowercase();
        lower.chars().count() >= 3 && (known.starts_with(&lower) || lower.starts_with(&known))
    };
    // Every word is near to a single letter.
    if lower.chars().count() < 2 {
        return None;
    }
    edit::nearest(word, known.clone()).or_else(|| known.into_iter().find(begins_alike))
}

/// A remedy for an unknown word: the nearest known one, and all of them.
pub fn remedy(word: &str, what: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return format!("there are no {what}");
    }
    let list = list(known);
    match nearest(word, known.iter().copied()) {
        Some(near) if known.len() == 1 => format!("did you mean `{near}`?"),
        Some(near) => format!("did you mean `{near}`? known {what}: {list}"),
        None => format!("known {what}: {list}"),
    }
}

/// Words in backticks, with commas.
pub fn list<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(|w| format!("`{}`", w.as_ref())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_what_was_meant() {
        let known = ["promote", "timeout", "every", "on_fail", "prometheus", "http"];
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
    fn a_remedy_lists_what_there_is() {
        assert_eq!(remedy("evry", "keys", &["every", "name"]), "did you mean `every`? known keys: `every`, `name`");
        assert_eq!(remedy("", "gates", &[]), "there are no gates");
    }
}
