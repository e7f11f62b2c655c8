use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text cannot be a name, a version or an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} {text:?} is longer than {max} characters")]
    Long { what: &'static str, text: String, max: usize },
    #[error("{what} {text:?} holds {found:?}; allowed are letters, digits, `.`, `_` and `-`, first a letter or digit")]
    Character { what: &'static str, text: String, found: char },
    #[error("{what} {text:?} holds the control character {found:?}")]
    Control { what: &'static str, text: String, found: char },
    #[error("{what} {text:?} is not 40 or 64 hexadecimal digits")]
    NotAnId { what: &'static str, text: String },
}

const NAME_LENGTH_MAX: usize = 63;
const VERSION_LENGTH_MAX: usize = 512;

fn check_name(what: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.chars().count() > NAME_LENGTH_MAX {
        let text = text.chars().take(NAME_LENGTH_MAX).collect();
        return Err(NameError::Long { what, text, max: NAME_LENGTH_MAX });
    }
    let first_ok = |c: char| c.is_ascii_alphanumeric();
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let bad = text.chars().enumerate().find(|(i, c)| if *i == 0 { !first_ok(*c) } else { !ok(*c) });
    match bad {
        Some((_, found)) => Err(NameError::Character { what, text: text.to_owned(), found }),
        // `..` and a trailing `.lock` are refused by git in branch names, where environments live.
        None if text.contains("..") || text.ends_with('.') || text.ends_with(".lock") => {
            Err(NameError::Character { what, text: text.to_owned(), found: '.' })
        }
        None => Ok(()),
    }
}

fn check_version(what: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.chars().count() > VERSION_LENGTH_MAX {
        let text = text.chars().take(40).collect();
        return Err(NameError::Long { what, text, max: VERSION_LENGTH_MAX });
    }
    match text.chars().find(|c| c.is_control()) {
        Some(found) => Err(NameError::Control { what, text: text.to_owned(), found }),
        None => Ok(()),
    }
}

fn check_id(what: &'static str, text: &str) -> Result<(), NameError> {
    let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if hex && (text.len() == 40 || text.len() == 64) {
        return Ok(());
    }
    Err(NameError::NotAnId { what, text: text.chars().take(80).collect() })
}

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks the text and makes the value.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                $check($what, text.as_ref())?;
                Ok(Self(text.as_ref().into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
    };
}

word!(
    /// The name of a pipeline.
    PipelineName, "pipeline name", check_name
);
word!(
    /// The name of an environment; it is also the last part of its branch name.
    EnvironmentName, "environment name", check_name
);
word!(
    /// The name of a component: a value at a place in the deploy repository.
    ComponentName, "component name", check_name
);
word!(
    /// The name of a gate, unique within an environment.
    GateName, "gate name", check_name
);
word!(
    /// The name of an invariant: what must hold of every release that goes into an environment.
    InvariantName, "invariant name", check_name
);
word!(
    /// A component's value, mostly a version; any text on one line.
    Version, "version", check_version
);
word!(
    /// Who did it: a person, a CI job, or piton itself; any text on one line.
    Actor, "actor", check_version
);
word!(
    /// The id of a git commit.
    CommitId, "commit id", check_id
);
word!(
    /// The id of a git tree: what a release consists of, to the byte.
    TreeId, "tree id", check_id
);

macro_rules! short_id {
    ($name:ident) => {
        impl $name {
            /// The first ten digits, for people.
            pub fn short(&self) -> &str {
                &self.as_str()[..10]
            }
        }
    };
}
short_id!(CommitId);
short_id!(TreeId);

impl TreeId {
    /// Git's tree without any file: what is deployed where nothing is.
    pub fn empty() -> TreeId {
        TreeId::new("4b825dc642cb6eb9a060e54bf8d69288fbee4904").expect("forty hexadecimal digits")
    }
}

/// The number of a promotion within its environment, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub u64);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_paths_newlines_and_shell() {
        for bad in ["", "../x", "a b", "a\nb", "a;rm", "$(x)", "-a", ".a", "a..b", "a.lock", "é", &"x".repeat(64)] {
            assert!(ComponentName::new(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["hub", "binder-hub", "a.b_c-1", "1"] {
            assert_eq!(ComponentName::new(good).expect("a good name").as_str(), good);
        }
    }

    #[test]
    fn versions_are_any_text_on_one_line() {
        assert!(Version::new("1.0.0-0.dev.git.3983.h383374de").is_ok());
        assert!(Version::new("jupyterhub-singleuser --ip 0.0.0.0").is_ok());
        assert!(Version::new("1\n2").is_err());
    }

    #[test]
    fn reading_back_checks_again() {
        assert!(serde_json::from_str::<ComponentName>("\"../x\"").is_err());
        assert!(serde_json::from_str::<TreeId>("\"zz\"").is_err());
    }
}
