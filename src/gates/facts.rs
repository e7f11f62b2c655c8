use std::collections::BTreeMap;

/// Puts facts in the place of `${name}`; `$${` stands for `${` itself. The error is a sentence that names what is known.
pub fn expand(text: &str, facts: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let (name, after) =
            rest[at + 2..].split_once('}').ok_or_else(|| format!("`{}` has no closing `}}`", excerpt(&rest[at..])))?;
        let value = facts.get(name.trim()).ok_or_else(|| unknown(name.trim(), facts))?;
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn unknown(name: &str, facts: &BTreeMap<String, String>) -> String {
    if facts.is_empty() {
        return format!("nothing is known for `${{{name}}}`: no facts are known at all");
    }
    let known: Vec<&str> = facts.keys().map(String::as_str).collect();
    format!("nothing is known for `${{{name}}}`; known are {}", known.join(", "))
}

/// What of a foreign text goes into a note: one line of bounded length.
const EXCERPT_CHARACTERS_MAX: usize = 200;

/// A short form of a foreign text that fits on a line.
pub(super) fn excerpt(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = text.trim().chars().map(clean).take(EXCERPT_CHARACTERS_MAX + 1).collect();
    match line.chars().count() > EXCERPT_CHARACTERS_MAX {
        true => format!("{}…", line.chars().take(EXCERPT_CHARACTERS_MAX).collect::<String>()),
        false => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_stand_in_for_names() {
        let facts =
            BTreeMap::from([("url".to_owned(), "http://a".to_owned()), ("version.hub".to_owned(), "2".to_owned())]);
        for (text, expected) in [
            ("${url}/x?v=${ version.hub }", "http://a/x?v=2"),
            ("no names", "no names"),
            ("$${url} costs $5", "${url} costs $5"),
            ("$$${url}", "$${url}"),
            ("ä${url}ö", "ähttp://aö"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &facts).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_that_are_known() {
        let facts = BTreeMap::from([("url".to_owned(), String::new()), ("attempt".to_owned(), String::new())]);
        assert_eq!(
            expand("${ulr}/", &facts).expect_err("it is unknown"),
            "nothing is known for `${ulr}`; known are attempt, url"
        );
        assert!(expand("${ulr}", &BTreeMap::new()).expect_err("it is unknown").contains("no facts"));
        assert_eq!(expand("a ${url", &facts).expect_err("it is open"), "`${url` has no closing `}`");
    }

    #[test]
    fn excerpts_are_one_line_and_bounded() {
        assert_eq!(excerpt(" a\nb\u{1b}[31m "), "a b [31m");
        assert_eq!(excerpt(&"ö".repeat(500)).chars().count(), EXCERPT_CHARACTERS_MAX + 1);
    }
}
