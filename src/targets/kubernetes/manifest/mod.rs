//! What a release renders to: objects, each with the file and line that it came from.

mod cipher;
mod scalar;
mod yaml;

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use crate::clients::kube::ObjectId;

/// A release may have so many objects; each is some requests, and the inventory must name them all.
pub const OBJECTS_MAX: usize = 20_000;

/// One object that a release wants in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub id: ObjectId,
    pub object: Value,
    /// The file in the release, or the renderer's name for it.
    pub file: String,
    /// The line its document begins on, from 1; 0 where the renderer does not say.
    pub line: usize,
    /// Which of the file's documents it is, from 0.
    pub document: usize,
}

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    pub file: String,
    /// From 1; 0 where it is not known.
    pub line: usize,
}

/// Why a file is not a list of objects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("{at}: this is not YAML: {why}")]
    NotYaml { at: Spot, why: String },
    #[error("{at}: this is text that is not UTF-8; if it is encrypted, name it under `opaque`, else save it as UTF-8")]
    NotText { at: Spot },
    #[error("{at}: a manifest is a mapping with `apiVersion`, `kind` and `metadata`; this is {found}")]
    NotAnObject { at: Spot, found: &'static str },
    #[error("{at}: there is no `kind`; a file that is not a manifest does not belong under `manifests`")]
    NoKind { at: Spot },
    #[error("{at}: {kind} has no `apiVersion`")]
    NoVersion { at: Spot, kind: String },
    #[error("{at}: {kind} has no `metadata.name`")]
    NoName { at: Spot, kind: String },
    #[error(
        "{at}: {kind} has `generateName`, so every deploy would make another one; give it a `name` (with the version in it, \
         if each release needs its own)"
    )]
    GeneratedName { at: Spot, kind: String },
    #[error("{second}: {id} is written here and in {first}; keep one of them")]
    Twice { id: ObjectId, first: Spot, second: Spot },
    #[error(
        "{at}: this file is encrypted ({how}), so it cannot be applied as it is; name it under `opaque` to leave it alone"
    )]
    Encrypted { at: Spot, how: &'static str },
    #[error("the release has {count} objects, more than {OBJECTS_MAX}; split it into several environments")]
    TooMany { count: usize },
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

impl Manifest {
    pub fn spot(&self) -> Spot {
        Spot { file: self.file.clone(), line: self.line }
    }
}

/// The objects of one file, in their order. Empty documents are none; what is in a `List` stands for itself.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Vec<Manifest>, ManifestError> {
    let at = |line: usize| Spot { file: file.to_owned(), line };
    if let Some(how) = cipher::of_bytes(bytes) {
        return Err(ManifestError::Encrypted { at: at(0), how });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::NotText { at: at(0) })?;
    let documents =
        yaml::documents(text).map_err(|fault| ManifestError::NotYaml { at: at(fault.line), why: fault.why })?;
    let mut manifests = Vec::new();
    for (number, document) in documents.into_iter().enumerate() {
        if document.value.is_null() {
            continue;
        }
        if let Some(how) = cipher::of_document(&document.value) {
            return Err(ManifestError::Encrypted { at: at(document.line), how });
        }
        unfold(document.value, at(document.line), number, &mut manifests)?;
    }
    Ok(manifests)
}

/// Adds the object, or those of the list that it is.
fn unfold(object: Value, at: Spot, document: usize, out: &mut Vec<Manifest>) -> Result<(), ManifestError> {
    if !object.is_object() {
        return Err(ManifestError::NotAnObject { at, found: name_of(&object) });
    }
    let text = |value: &Value| value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
    let kind = text(&object["kind"]).ok_or_else(|| ManifestError::NoKind { at: at.clone() })?;
    if text(&object["apiVersion"]).is_none() {
        return Err(ManifestError::NoVersion { at, kind });
    }
    if let (true, Some(items)) = (kind.ends_with("List"), object["items"].as_array()) {
        return items.iter().try_for_each(|item| unfold(item.clone(), at.clone(), document, out));
    }
    let has_name = text(&object["metadata"]["name"]).is_some();
    if !has_name && text(&object["metadata"]["generateName"]).is_some() {
        return Err(ManifestError::GeneratedName { at, kind });
    }
    let id = ObjectId::of(&object).filter(|_| has_name).ok_or(ManifestError::NoName { at: at.clone(), kind })?;
    out.push(Manifest { id, object, file: at.file, line: at.line, document });
    Ok(())
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) | Value::Number(_) | Value::String(_) => "a single value",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// Refuses objects that are written twice, and more than there may be. The API's version does not tell objects apart.
pub fn check(manifests: &[Manifest]) -> Result<(), ManifestError> {
    if manifests.len() > OBJECTS_MAX {
        return Err(ManifestError::TooMany { count: manifests.len() });
    }
    let mut seen: BTreeMap<(&str, &str, Option<&str>, &str), &Manifest> = BTreeMap::new();
    for manifest in manifests {
        let id = &manifest.id;
        let key = (id.group(), id.kind.as_str(), id.namespace.as_deref(), id.name.as_str());
        if let Some(first) = seen.insert(key, manifest) {
            return Err(ManifestError::Twice { id: id.clone(), first: first.spot(), second: manifest.spot() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
