use super::Format;

/// What could not be done, where, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    #[error("cannot read the path `{path}` at column {column}: {why}")]
    Path { path: String, column: usize, why: &'static str },
    #[error("cannot read `{at}` in {file}: {why}")]
    Read { file: String, at: String, why: Box<Why> },
    #[error("cannot change `{at}` in {file}: {why}")]
    Change { file: String, at: String, why: Box<Why> },
    #[error("cannot add `{at}` to {file}: {why}")]
    Insert { file: String, at: String, why: Box<Why> },
    #[error("cannot remove `{at}` from {file}: {why}")]
    Remove { file: String, at: String, why: Box<Why> },
}

impl EditError {
    /// The reason alone.
    pub fn why(&self) -> Option<&Why> {
        match self {
            EditError::Path { .. } => None,
            EditError::Read { why, .. }
            | EditError::Change { why, .. }
            | EditError::Insert { why, .. }
            | EditError::Remove { why, .. } => Some(why),
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        self.why().and_then(Why::hint)
    }
}

/// Why a value cannot be read or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("the file is not UTF-8 text: byte {at} is {byte:#04x}")]
    NotText { at: usize, byte: u8 },
    #[error("the file is empty")]
    Empty,
    #[error("the name of the file says nothing about its format")]
    UnknownFormat,
    #[error("line {line}, column {column} is not valid {format}: {problem}")]
    Broken { format: Format, line: usize, column: usize, problem: String },
    #[error("line {line} is template syntax, which is not plain {format}")]
    Template { format: Format, line: usize },
    #[error("it is nested more than {max} levels deep")]
    TooDeep { max: usize },

    #[error("{} has no key `{key}`{}", place(found), meant(nearest))]
    NoKey { found: String, key: String, nearest: Option<String> },
    #[error("{} has {count} items, none numbered {index} (the first is 0)", place(found))]
    NoItem { found: String, index: usize, count: usize },
    #[error("{} has no item with {key}={value}{}", place(found), meant(nearest))]
    NoMatch { found: String, key: String, value: String, nearest: Option<String> },
    #[error("{} is {what}, not a mapping with a key `{key}`", place(found))]
    NotAMap { found: String, what: &'static str, key: String },
    #[error("{} is {what}, not a list", place(found))]
    NotAList { found: String, what: &'static str },
    #[error("there is no document {wanted}; the file has {count}")]
    NoDocument { wanted: usize, count: usize },
    #[error("the pattern matches nowhere")]
    NoMatchOfPattern,
    #[error("the image reference `{}` has no tag and no digest", brief(text))]
    NoTag { text: String },

    #[error("the path is in the documents {}", list(documents))]
    ManyDocuments { documents: Vec<usize> },
    #[error("{} has several items with {key}={value}, on the lines {}", place(found), list(lines))]
    ManyItems { found: String, key: String, value: String, lines: Vec<usize> },
    #[error("{} has the key `{key}` several times, on the lines {}", place(found), list(lines))]
    DuplicateKey { found: String, key: String, lines: Vec<usize> },
    #[error("the pattern matches {count} times, first on the lines {}", list(lines))]
    ManyMatches { count: usize, lines: Vec<usize> },

    #[error("{} is an alias (line {line}); the value stands elsewhere and serves other places too", place(found))]
    Alias { found: String, line: usize },
    #[error("the alias on line {line} uses the same text, so a change would reach there too")]
    Shared { line: usize },
    #[error("`{key}` comes into {} by a merge key from another place", place(found))]
    Merged { found: String, key: String },
    #[error("the value is {what}, not a single value")]
    Collection { what: &'static str },
    #[error("line {line} has a mapping or list as a key")]
    CollectionKey { line: usize },
    #[error("the value is a template: `{}`", brief(text))]
    TemplateValue { text: String },
    #[error("the value is marked as `{tag}`, whose meaning is unknown")]
    Tagged { tag: String },
    #[error("the value goes over several lines")]
    ManyLines,
    #[error("the value is not a version: {problem}")]
    NotAVersion { problem: String },
    #[error("nothing stands there, and there is no safe place to write")]
    NoRoom,
    #[error("the value `{}` refers to other variables", brief(text))]
    Expansion { text: String },
    #[error("line {line} pins its files by hash")]
    HashPinned { line: usize },
    #[error("line {line} does not pin one version with `==`: `{}`", brief(text))]
    NotPinned { line: usize, text: String },
    #[error("the path names no single key, as this format needs")]
    NotOneKey,

    #[error("`{}` stands there, not `{expected}`", brief(found))]
    Differs { expected: String, found: String },
    #[error("`{to}` cannot be written there: {problem}")]
    CannotHold { to: String, problem: &'static str },
    #[error("the pattern is not a regular expression: {problem}")]
    BadPattern { problem: String },
    #[error("the pattern has no group that took part in the match, so it names no value")]
    NoGroup,
    #[error("after the change {problem}, so it was not made")]
    Check { problem: &'static str },

    #[error("`{}` stands there already", brief(value))]
    Present { value: String },
    #[error("it is not an entry of its own lines in a block mapping: {problem}")]
    NotABlock { problem: &'static str },
    #[error("adding and removing is known for YAML files and paths only")]
    OnlyYaml,
}

impl Why {
    /// Whether the place is simply not there, as opposed to something being wrong.
    pub fn is_absence(&self) -> bool {
        matches!(
            self,
            Why::Empty
                | Why::NoKey { .. }
                | Why::NoItem { .. }
                | Why::NoMatch { .. }
                | Why::NotAMap { .. }
                | Why::NotAList { .. }
                | Why::NoDocument { .. }
                | Why::NoMatchOfPattern
                | Why::NoTag { .. }
        )
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Why::UnknownFormat => {
                "known are .yaml, .yml, .json, .toml, .env and requirements files; a pattern works on any text file"
            }
            Why::Template { .. } | Why::CollectionKey { .. } => {
                "name the value by a pattern, or move it into a file without templates"
            }
            Why::TemplateValue { .. } | Why::Expansion { .. } => "name the place where the value itself stands",
            Why::ManyDocuments { .. } => "say which with a leading `#1:`, `#2:` and so on",
            Why::ManyItems { .. } => "choose by a key that differs, or by number: `[0]`",
            Why::DuplicateKey { .. } => "remove all but one of the keys; readers of the file do not agree which counts",
            Why::Alias { .. } | Why::Shared { .. } | Why::Merged { .. } => {
                "write the value out where it should differ, or name the place of the anchor's text by a pattern"
            }
            Why::HashPinned { .. } => "run the tool that made the file, such as `pip-compile`",
            Why::NotPinned { .. } => "pin it as `name==version`",
            Why::ManyMatches { .. } => "make the pattern longer, so that it matches one place",
            Why::NoGroup => "put the value in parentheses: `version: (.+)`",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

fn place(found: &str) -> String {
    if found.is_empty() { "the document".to_owned() } else { format!("`{found}`") }
}

/// What a file holds, on one line and not too long of it.
fn brief(text: &str) -> String {
    let shown: String =
        text.chars().take(SHOWN_LENGTH_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN_LENGTH_MAX).is_some() { format!("{shown}…") } else { shown }
}

const SHOWN_LENGTH_MAX: usize = 80;

fn meant(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|near| format!("; the nearest is `{near}`")).unwrap_or_default()
}

fn list(numbers: &[usize]) -> String {
    let words: Vec<String> = numbers.iter().map(usize::to_string).collect();
    match &words[..] {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
