use std::sync::LazyLock;

use regex::Regex;

use super::Why;

/// Splits an image reference into what stays and its version: `registry:5000/repo:` and `tag`.
///
/// Where both are given, as in `repo:1.2@sha256:…`, tag and digest are one version, since one without the other would
/// name two images. A version after a bare `@` (`actions/checkout@v4`) is one too.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let name = text.rfind('/').map_or(0, |at| at + 1);
    let at = name + text[name..].find([':', '@'])? + 1;
    Some(text.split_at(at)).filter(|(_, version)| !version.is_empty())
}

/// The whole reference with its version changed.
pub(super) fn with_version(text: &str, to: &str) -> Result<String, Why> {
    let (kept, old) = split(text).ok_or_else(|| Why::NoTag { text: text.to_owned() })?;
    let cannot = |problem| Err(Why::CannotHold { to: to.to_owned(), problem });
    match (Form::of(old), Form::of(to)) {
        (_, None) => cannot("it is not a tag or digest"),
        (Some(Form::Both), Some(Form::Tag)) => cannot("the image is also held by a digest, so give `TAG@DIGEST`"),
        (Some(before), Some(after)) if before != after && (before == Form::Digest || after == Form::Digest) => {
            cannot("a tag cannot stand where a digest stands, nor a digest where a tag stands")
        }
        (None, _) if !kept.ends_with('@') => cannot("what stands there is not a tag or digest"),
        _ => Ok(format!("{kept}{to}")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Tag,
    Digest,
    Both,
}

impl Form {
    fn of(version: &str) -> Option<Form> {
        static TAG: LazyLock<Regex> = LazyLock::new(|| regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"));
        static DIGEST: LazyLock<Regex> = LazyLock::new(|| regex("^[A-Za-z0-9_+.-]+:[0-9a-fA-F]{32,}$"));
        match version.split_once('@') {
            Some((tag, digest)) if TAG.is_match(tag) && DIGEST.is_match(digest) => Some(Form::Both),
            Some(_) => None,
            None if DIGEST.is_match(version) => Some(Form::Digest),
            None if TAG.is_match(version) => Some(Form::Tag),
            None => None,
        }
    }
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant that tests use")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn references_are_split() {
        for (text, wanted) in [
            ("nginx:1.27", Some(("nginx:", "1.27"))),
            ("registry:5000/repo:tag", Some(("registry:5000/repo:", "tag"))),
            (
                "quay.io/jupyterhub/repo2docker:2026.4.1.dev44-g97bb4e45a",
                Some(("quay.io/jupyterhub/repo2docker:", "2026.4.1.dev44-g97bb4e45a")),
            ),
            ("registry:5000/repo", None),
            ("nginx", None),
            ("nginx:", None),
            ("docker://ghcr.io/a/b:1", Some(("docker://ghcr.io/a/b:", "1"))),
            ("actions/checkout@v4", Some(("actions/checkout@", "v4"))),
        ] {
            assert_eq!(split(text), wanted, "{text}");
        }
        assert_eq!(split(&format!("a/b@{DIGEST}")), Some(("a/b@", DIGEST)));
        assert_eq!(split(&format!("a/b:1@{DIGEST}")), Some(("a/b:", &*format!("1@{DIGEST}"))));
    }

    #[test]
    fn tags_and_digests_do_not_mix() {
        let digest = |name: &str| format!("{name}@{DIGEST}");
        assert_eq!(with_version("r:5000/a:1", "2").as_deref(), Ok("r:5000/a:2"));
        assert_eq!(with_version(&digest("a"), DIGEST), Ok(digest("a")));
        assert_eq!(with_version(&digest("a:1"), &digest("2")), Ok(digest("a:2")));
        assert_eq!(with_version("a:1", &digest("2")), Ok(digest("a:2")));
        assert_eq!(with_version("actions/checkout@v4", "v5").as_deref(), Ok("actions/checkout@v5"));
        for (text, to) in [
            ("a:1", DIGEST),
            ("a:1", "b c"),
            ("a:1", "-x"),
            ("a:1", "x/y"),
            (&*digest("a"), "2"),
            (&*digest("a:1"), "2"),
            (&*digest("a:1"), DIGEST),
            ("r:5000/a", "2"),
        ] {
            assert!(with_version(text, to).is_err(), "{text} -> {to}");
        }
    }
}
