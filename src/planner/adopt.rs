//! Making what is live the wish: each difference becomes one changed value in the file that says otherwise.

use std::collections::{BTreeMap, BTreeSet};

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
    #[error(
        "`{file}` in the source branch is not the one that was deployed, so that nobody can say where in it {} stands",
        .objects.join(", ")
    )]
    Moved { file: String, objects: Vec<String> },
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

/// The tree with every difference taken over, and the files that change. The differences were seen against the `deployed`
/// tree, which may be an older one.
pub fn adopt(
    pipeline: &Pipeline,
    trees: &dyn Trees,
    deployed: &TreeId,
    tree: &TreeId,
    differences: &[Difference],
) -> Result<(TreeId, Vec<String>), AdoptError> {
    let homeless = differences.iter().filter(|d| place_of(pipeline, d).is_none());
    let homeless: Vec<String> = homeless.map(|d| format!("`{}`", said(d))).collect();
    if !homeless.is_empty() {
        return Err(AdoptError::NoPlace(homeless));
    }
    refuse_moved(pipeline, trees, deployed, tree, differences)?;
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

/// The number of a document and the index of an item mean another thing in a file that has changed since.
fn refuse_moved(
    pipeline: &Pipeline,
    trees: &dyn Trees,
    deployed: &TreeId,
    tree: &TreeId,
    differences: &[Difference],
) -> Result<(), AdoptError> {
    let file = |difference: &Difference| difference.source.as_ref().map(|source| source.file.clone());
    let files: BTreeSet<String> = differences.iter().filter_map(file).collect();
    for name in files {
        let (was, is) = (trees.read(deployed, &name)?, trees.read(tree, &name)?);
        let is = is.ok_or_else(|| AdoptError::NoFile { file: name.clone() })?;
        if was.is_none_or(|was| with_versions_of(pipeline, &name, was, &is) != is) {
            let of_it = differences.iter().filter(|difference| file(difference).as_ref() == Some(&name));
            let objects = of_it.map(|difference| format!("`{}`", said(difference))).collect();
            return Err(AdoptError::Moved { file: name, objects });
        }
    }
    Ok(())
}

/// The file as it was deployed with the versions of the other one: pins and steps that are still to come move nothing.
fn with_versions_of(pipeline: &Pipeline, file: &str, mut was: Vec<u8>, is: &[u8]) -> Vec<u8> {
    for component in pipeline.components.values().filter(|component| component.place.file == file) {
        let Ok(Some(version)) = edit::read(is, &component.place) else { continue };
        was = edit::write(&was, &component.place, None, &version).unwrap_or(was);
    }
    was
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
        (_, None) => edit::remove(bytes, place, from.as_ref()),
    };
    done.map_err(|source| AdoptError::Edit { object: said(difference), source: Box::new(source) })
}

fn said(difference: &Difference) -> String {
    match difference.field.is_empty() {
        true => difference.object.clone(),
        false => format!("{} {}", difference.object, difference.field),
    }
}
