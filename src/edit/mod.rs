#![doc = include_str!("README.md")]

mod document;
mod env;
mod flat;
mod format;
mod grow;
mod image;
mod json;
mod nearest;
mod path;
mod pattern;
mod refusal;
mod requirements;
mod scalar;
mod selector;
mod toml;
mod tree;
mod yaml;

pub use format::Format;
pub use nearest::nearest;
pub use path::Path;
pub use refusal::{EditError, Why};
pub use selector::{Selected, Selector, select};

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

/// The value at the place; `None` where the place is absent or holds nothing.
pub fn read(bytes: &[u8], place: &Place) -> Result<Option<Version>, EditError> {
    let value = text_of(bytes).and_then(|(_, text)| whole(text, place)).and_then(|whole| part_of(whole, place.part));
    match value {
        Ok(value) => Ok(value),
        Err(why) if why.is_absence() => Ok(None),
        Err(why) => Err(EditError::Read { file: place.file.clone(), at: place.at.shown(), why: why.into() }),
    }
}

/// The file with the value at the place changed to `to`, and every other byte as it was. `from`, when given, is what
/// must stand there.
pub fn write(bytes: &[u8], place: &Place, from: Option<&Version>, to: &Version) -> Result<Vec<u8>, EditError> {
    changed(bytes, place, from, to).map_err(|why| EditError::Change {
        file: place.file.clone(),
        at: place.at.shown(),
        why: why.into(),
    })
}

/// The file with the missing value added, and its missing parents; every other line as it was. YAML block mappings only.
pub fn insert(bytes: &[u8], place: &Place, to: &Version) -> Result<Vec<u8>, EditError> {
    grown(bytes, place, |text, path| grow::insert(text, path, to.as_str())).map_err(|why| EditError::Insert {
        file: place.file.clone(),
        at: place.at.shown(),
        why: why.into(),
    })
}

/// The file without the value and without the parents that it alone filled: the inverse of [`insert`]. `from`, when given,
/// is what must stand there.
pub fn remove(bytes: &[u8], place: &Place, from: Option<&Version>) -> Result<Vec<u8>, EditError> {
    let checked = |text: &str, path: &Path| {
        let splice = grow::remove(text, path)?;
        let found = document::read(Format::Yaml, text, path)?.unwrap_or_default();
        match from.filter(|from| from.as_str() != found) {
            Some(expected) => Err(Why::Differs { expected: expected.to_string(), found }),
            None => Ok(splice),
        }
    };
    grown(bytes, place, checked).map_err(|why| EditError::Remove {
        file: place.file.clone(),
        at: place.at.shown(),
        why: why.into(),
    })
}

impl At {
    fn shown(&self) -> String {
        match self {
            At::Path(path) => path.to_string(),
            At::Pattern(pattern) => pattern.clone(),
        }
    }
}

/// The text of the file without its byte order mark, and how many bytes the mark takes.
fn text_of(bytes: &[u8]) -> Result<(usize, &str), Why> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Why::NotText { at: error.valid_up_to(), byte: bytes[error.valid_up_to()] })?;
    if let Some(at) = text.find('\0') {
        return Err(Why::NotText { at, byte: 0 });
    }
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    if body.trim().is_empty() {
        return Err(Why::Empty);
    }
    Ok((text.len() - body.len(), body))
}

fn whole(text: &str, place: &Place) -> Result<Option<String>, Why> {
    match &place.at {
        At::Pattern(pattern) => pattern::read(text, pattern),
        At::Path(path) => match Format::of(&place.file).ok_or(Why::UnknownFormat)? {
            format @ (Format::Yaml | Format::Json | Format::Toml) => document::read(format, text, path),
            format @ (Format::Env | Format::Requirements) => flat::read(format, text, path),
        },
    }
}

fn part_of(whole: Option<String>, part: Part) -> Result<Option<Version>, Why> {
    let Some(whole) = whole.filter(|whole| !whole.is_empty()) else { return Ok(None) };
    let value = match part {
        Part::Whole => &*whole,
        Part::Tag => image::split(&whole).ok_or_else(|| Why::NoTag { text: whole.clone() })?.1,
    };
    Version::new(value).map(Some).map_err(|error| Why::NotAVersion { problem: error.to_string() })
}

fn changed(bytes: &[u8], place: &Place, from: Option<&Version>, to: &Version) -> Result<Vec<u8>, Why> {
    let (mark, text) = text_of(bytes)?;
    let new_text = |old: &str| {
        if yaml::has_template(old) {
            return Err(Why::TemplateValue { text: old.to_owned() });
        }
        let value = match place.part {
            Part::Whole => old,
            Part::Tag => image::split(old).ok_or_else(|| Why::NoTag { text: old.to_owned() })?.1,
        };
        if let Some(expected) = from.filter(|from| from.as_str() != value) {
            return Err(Why::Differs { expected: expected.to_string(), found: value.to_owned() });
        }
        match place.part {
            Part::Whole => Ok(to.to_string()),
            Part::Tag => image::with_version(old, to.as_str()),
        }
    };
    let splice = match &place.at {
        At::Pattern(pattern) => pattern::change(Format::of(&place.file), text, pattern, &new_text)?,
        At::Path(path) => match Format::of(&place.file).ok_or(Why::UnknownFormat)? {
            format @ (Format::Yaml | Format::Json | Format::Toml) => document::change(format, text, path, &new_text)?,
            format @ (Format::Env | Format::Requirements) => flat::change(format, text, path, &new_text)?,
        },
    };
    if place.part == Part::Tag {
        check_only_the_end_differs(&text[splice.range.clone()], &splice.token, to.as_str())?;
    }
    Ok([&bytes[..mark], splice.applied(text).as_bytes()].concat())
}

/// The name of an image stays as it is written, also where it is written with escapes.
fn check_only_the_end_differs(before: &str, after: &str, to: &str) -> Result<(), Why> {
    let quote = |text: &str| text.len() - text.trim_end_matches(['"', '\'']).len();
    let kept = after.len() - quote(after) - after.trim_end_matches(['"', '\'']).len().min(to.len());
    match after.is_empty() || before.get(..kept) == after.get(..kept) {
        true => Ok(()),
        false => Err(Why::Check { problem: "the image's name would be written differently" }),
    }
}

fn grown(
    bytes: &[u8],
    place: &Place,
    splice: impl FnOnce(&str, &Path) -> Result<document::Splice, Why>,
) -> Result<Vec<u8>, Why> {
    let (mark, text) = text_of(bytes)?;
    match (&place.at, Format::of(&place.file), place.part) {
        (At::Path(path), Some(Format::Yaml), Part::Whole) => {
            Ok([&bytes[..mark], splice(text, path)?.applied(text).as_bytes()].concat())
        }
        _ => Err(Why::OnlyYaml),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod yaml_tests;
