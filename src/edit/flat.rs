use std::{collections::BTreeMap, ops::Range};

use super::{Format, Path, Why, document::Splice, env, nearest::nearest, requirements};

/// A named value in a file of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) name: String,
    /// From 1.
    pub(super) line: usize,
    /// Byte offsets of the value without its quotes, or why there is none to be changed.
    pub(super) value: Result<Range<usize>, Why>,
    pub(super) quote: Quote,
}

/// What stands around a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quote {
    None,
    Single,
    Double,
}

fn slots(format: Format, text: &str) -> Vec<Slot> {
    match format {
        Format::Env => env::slots(text),
        Format::Requirements => requirements::slots(text),
        Format::Yaml | Format::Json | Format::Toml => Vec::new(),
    }
}

fn same_name(format: Format, name: &str) -> String {
    match format {
        Format::Requirements => requirements::normal(name),
        Format::Env | Format::Yaml | Format::Json | Format::Toml => name.to_owned(),
    }
}

fn find(format: Format, text: &str, path: &Path) -> Result<Slot, Why> {
    let key = path.only_key().ok_or(Why::NotOneKey)?;
    let all = slots(format, text);
    let wanted = same_name(format, &key);
    let mut same: Vec<&Slot> = all.iter().filter(|slot| same_name(format, &slot.name) == wanted).collect();
    match same.len() {
        0 => {
            let nearest = nearest(&key, all.iter().map(|slot| &*slot.name)).map(str::to_owned);
            Err(Why::NoKey { found: String::new(), key, nearest })
        }
        1 => Ok(same.remove(0).clone()),
        _ => {
            let lines = same.iter().map(|slot| slot.line).collect();
            Err(Why::DuplicateKey { found: String::new(), key, lines })
        }
    }
}

/// The text of the value.
pub(super) fn read(format: Format, text: &str, path: &Path) -> Result<Option<String>, Why> {
    find(format, text, path)?.value.map(|range| Some(text[range].to_owned()))
}

/// The splice that makes the value read as what `to` makes of its text.
pub(super) fn change(
    format: Format,
    text: &str,
    path: &Path,
    to: &dyn Fn(&str) -> Result<String, Why>,
) -> Result<Splice, Why> {
    let slot = find(format, text, path)?;
    let range = slot.value.clone()?;
    let new = to(&text[range.clone()])?;
    if new == text[range.clone()] {
        return Ok(Splice::nothing());
    }
    let token = match format {
        Format::Requirements => requirements::token(&text[..range.start], &new)?,
        Format::Env | Format::Yaml | Format::Json | Format::Toml => env::token(&text[range.clone()], slot.quote, &new)?,
    };
    let splice = Splice { range, token, reads: new };
    check_changed(format, text, &splice.applied(text), &slot, &splice.reads)?;
    Ok(splice)
}

/// Everything but the slot says what it said, and the slot says what was asked.
fn check_changed(format: Format, before: &str, after: &str, slot: &Slot, reads: &str) -> Result<(), Why> {
    let said = |text: &str| -> BTreeMap<(usize, String), Result<String, Why>> {
        let value = |slot: &Slot| slot.value.clone().map(|range| text[range].to_owned());
        slots(format, text).into_iter().map(|slot| ((slot.line, slot.name.clone()), value(&slot))).collect()
    };
    let mut wanted = said(before);
    wanted.insert((slot.line, slot.name.clone()), Ok(reads.to_owned()));
    if said(after) == wanted { Ok(()) } else { Err(Why::Check { problem: "another value would read differently" }) }
}
