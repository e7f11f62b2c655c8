//! `${name}` in texts; `$${` is a plain `${`.

/// Replaces every `${name}`.
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text)? {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Variable(name) => out.push_str(&value(name).ok_or_else(|| format!("`${{{name}}}` has no value"))?),
        }
    }
    Ok(out)
}

/// The names in a text, in their order.
pub fn variables(text: &str) -> Result<Vec<&str>, String> {
    let only_names = |piece| match piece {
        Piece::Text(_) => None,
        Piece::Variable(name) => Some(name),
    };
    Ok(pieces(text)?.into_iter().filter_map(only_names).collect())
}

enum Piece<'a> {
    Text(&'a str),
    Variable(&'a str),
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            pieces.push(Piece::Text(before));
            pieces.push(Piece::Text("${"));
            rest = &rest[at + 2..];
            continue;
        }
        let end = rest[at..].find('}').ok_or_else(|| format!("`${{` without `}}` in {text:?}"))?;
        pieces.push(Piece::Text(&rest[..at]));
        pieces.push(Piece::Variable(&rest[at + 2..at + end]));
        rest = &rest[at + end + 1..];
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_doubled_dollars_are_not() {
        let value = |name: &str| (name == "port").then(|| "80".to_owned());
        assert_eq!(expand("a${port}b $${port} $x", value).as_deref(), Ok("a80b ${port} $x"));
        assert!(expand("${nope}", value).is_err());
        assert!(expand("${port", value).is_err());
    }
}
