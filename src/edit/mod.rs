#![doc = include_str!("README.md")]

use std::{fmt, str::FromStr};

use crate::model::Version;

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A path relative to the repository's root, with `/`.
    pub file: String,
    pub at: At,
    pub part: Part,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A path into a structured file: `dependencies[name=binderhub].version`.
    Path(Path),
    /// A regular expression whose first group is the value; it must match exactly once.
    Pattern(String),
}

/// Which part of the text is the value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Part {
    #[default]
    Whole,
    /// What comes after the last `:` of an image reference `registry:5000/repo:tag`, or after `@` a digest.
    Tag,
}

/// A path into a structured file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    text: String,
}

impl FromStr for Path {
    type Err = EditError;
    fn from_str(text: &str) -> Result<Path, EditError> {
        Ok(Path { text: text.to_owned() })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a value cannot be read or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {}

/// The value at the place; `None` where the place is absent.
pub fn read(_bytes: &[u8], _place: &Place) -> Result<Option<Version>, EditError> {
    unimplemented!()
}

/// The file with the value at the place changed to `to`, and every other byte as it was. `from`, when given, is what
/// must stand there.
pub fn write(_bytes: &[u8], _place: &Place, _from: Option<&Version>, _to: &Version) -> Result<Vec<u8>, EditError> {
    unimplemented!()
}
