//! Patterns for paths of a release: `*` and `?` stay within one name, `**` stands for any folders, and a folder means all below it.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A checked pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(String);

impl Glob {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the path, or a folder that it lies in, is meant.
    pub fn matches(&self, path: &str) -> bool {
        let pattern: Vec<&str> = self.0.split('/').collect();
        let parts: Vec<&str> = path.split('/').collect();
        self.0 == "." || (1..=parts.len()).any(|upto| parts_match(&pattern, &parts[..upto]))
    }

    /// Whether it names this very path, and not only a folder around it.
    pub fn names(&self, path: &str) -> bool {
        parts_match(&self.0.split('/').collect::<Vec<_>>(), &path.split('/').collect::<Vec<_>>())
    }
}

impl TryFrom<String> for Glob {
    type Error = String;

    fn try_from(pattern: String) -> Result<Glob, String> {
        let trimmed = pattern.strip_prefix("./").unwrap_or(&pattern).trim_end_matches('/');
        if trimmed.is_empty() || trimmed.starts_with('/') || trimmed.split('/').any(|part| part == "..") {
            return Err(format!("{pattern:?} must be a path inside the release, without `..`"));
        }
        if trimmed.split('/').any(|part| part.contains("**") && part != "**") {
            return Err("`**` stands for whole folders, such as in `apps/**/*.yaml`".to_owned());
        }
        Ok(Glob(trimmed.to_owned()))
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> String {
        glob.0
    }
}

impl JsonSchema for Glob {
    fn schema_name() -> Cow<'static, str> {
        "Glob".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}

fn parts_match(pattern: &[&str], parts: &[&str]) -> bool {
    match (pattern, parts) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=parts.len()).any(|skip| parts_match(rest, &parts[skip..])),
        ([first, rest @ ..], [part, parts @ ..]) => {
            name_matches(first.as_bytes(), part.as_bytes()) && parts_match(rest, parts)
        }
        ([], [_, ..]) | ([_, ..], []) => false,
    }
}

/// Without recursion: a pattern of many stars must not take long.
fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => (p, n) = (p + 1, n + 1),
            Some(_) | None => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_files_and_folders() {
        let cases = [
            ("deploy", "deploy/web.yaml", true),
            ("deploy", "deploy/a/b.yaml", true),
            ("deploy/", "deployed/web.yaml", false),
            ("*.yaml", "web.yaml", true),
            ("*.yaml", "a/web.yaml", false),
            ("**/*.enc.yaml", "web.enc.yaml", true),
            ("**/*.enc.yaml", "a/b/web.enc.yaml", true),
            ("a/**/c.yaml", "a/c.yaml", true),
            ("a/?.yaml", "a/b.yaml", true),
            ("a/?.yaml", "a/bb.yaml", false),
            (".", "any/thing", true),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*a*b*c*", "xxcxxbxxaxx", false),
        ];
        for (pattern, path, expected) in cases {
            let glob = Glob::try_from(pattern.to_owned()).expect(pattern);
            assert_eq!(glob.matches(path), expected, "{pattern} {path}");
        }
        for bad in ["", "/etc", "../x", "a/../b", "a/x**"] {
            assert!(Glob::try_from(bad.to_owned()).is_err(), "{bad:?} was accepted");
        }
    }
}
