//! Making what is live the wish: each difference becomes one changed value in the file that says otherwise.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Trees, TreesError};
use crate::{
    edit::{self, At, EditError, Part, Place},
    model::{Difference, SourcePlace, TreeId, Version, shown},
    pipeline::Pipeline,
};

/// Why drift cannot be adopted. Nothing is changed then.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    #[error("{}", no_place(.0))]
    NoPlace(Vec<String>),
    #[error("`{object} {field}` is {live} live, which is not a single value that can be written in its place")]
    NotAValue { object: String, field: String, live: String },
    #[error("`{file}` is not in the source branch")]
    NoFile { file: String },
    #[error("`{object}` cannot be adopted")]
    Edit {
        object: String,
        #[source]
        source: Box<EditError>,
    },
    #[error(transparent)]
    Trees(#[from] TreesError),
}

fn no_place(objects: &[String]) -> String {
    format!("no value in a file of the release stands for {}", objects.join(", "))
}

/// The tree with every difference taken over, and the files that change.
pub fn adopt(
    pipeline: &Pipeline,
    trees: &dyn Trees,
    tree: &TreeId,
    differences: &[Difference],
) -> Result<(TreeId, Vec<String>), AdoptError> {
    let homeless = differences.iter().filter(|d| place_of(pipeline, d).is_none());
    let homeless: Vec<String> = homeless.map(|d| format!("`{}`", said(d))).collect();
    if !homeless.is_empty() {
        return Err(AdoptError::NoPlace(homeless));
    }
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for difference in differences {
        let Some(place) = place_of(pipeline, difference) else { continue };
        let bytes = match files.remove(&place.file) {
            Some(bytes) => bytes,
            None => trees.read(tree, &place.file)?.ok_or_else(|| AdoptError::NoFile { file: place.file.clone() })?,
        };
        let changed = changed(&bytes, &place, difference)?;
        files.insert(place.file, changed);
    }
    let names = files.keys().cloned().collect();
    let files: Vec<(String, Vec<u8>)> = files.into_iter().collect();
    Ok((trees.write(tree, &files)?, names))
}

/// The file and the value in it that says how the place should be.
fn place_of(pipeline: &Pipeline, difference: &Difference) -> Option<Place> {
    let of_component = || {
        let name = difference.object.strip_prefix("component ").filter(|_| difference.field == "version")?;
        let component = pipeline.components.iter().find(|(known, _)| known.as_str() == name)?;
        Some(component.1.place.clone())
    };
    match &difference.source {
        Some(source) => place(source),
        None => of_component(),
    }
}

fn place(source: &SourcePlace) -> Option<Place> {
    let is_index = |step: &str| !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit());
    let step = |step: &String| match is_index(step) {
        true => format!("[{step}]"),
        false => format!("[{}]", Value::String(step.clone())),
    };
    if source.path.is_empty() {
        return None;
    }
    let path = source.path.iter().map(step).collect::<String>();
    let path = format!("#{}:{path}", source.document + 1).parse().ok()?;
    Some(Place { file: source.file.clone(), at: At::Path(path), part: Part::Whole })
}

fn changed(bytes: &[u8], place: &Place, difference: &Difference) -> Result<Vec<u8>, AdoptError> {
    let version = |value: &Value| match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => Version::new(shown(value)).ok(),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let live = difference.live.as_ref().map(|live| {
        version(live).ok_or_else(|| AdoptError::NotAValue {
            object: difference.object.clone(),
            field: difference.field.clone(),
            live: shown(live),
        })
    });
    let live = live.transpose()?;
    let from = difference.wanted.as_ref().and_then(version);
    let done = match (&difference.wanted, live) {
        // What the source branch says by now may be another thing: then somebody has to look.
        (Some(_), Some(live)) => edit::write(bytes, place, from.as_ref(), &live),
        (None, Some(live)) => edit::insert(bytes, place, &live),
        (_, None) => edit::remove(bytes, place),
    };
    done.map_err(|source| AdoptError::Edit { object: said(difference), source: Box::new(source) })
}

fn said(difference: &Difference) -> String {
    match difference.field.is_empty() {
        true => difference.object.clone(),
        false => format!("{} {}", difference.object, difference.field),
    }
}
