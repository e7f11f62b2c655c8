//! Manifests as they stand in the release.

use std::{fs, path::Path};

use super::{RenderError, Rendered, named, within};
use crate::targets::kubernetes::{glob::Glob, manifest};

const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Every object of the files that the patterns mean, in the order of their names.
pub fn read(dir: &Path, patterns: &[Glob], opaque: &[Glob]) -> Result<Rendered, RenderError> {
    let mut files = Vec::new();
    walk(dir, Path::new(""), &mut files)?;
    let mut rendered = Rendered { manifests: Vec::new(), renderer: None, opaque: Vec::new() };
    let mut unused: Vec<&Glob> = patterns.iter().collect();
    for file in files {
        // A file of any name can be a manifest where a pattern names it; in a folder the ending tells.
        let ending = Path::new(&file).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let meant = |glob: &Glob| glob.names(&file) || (glob.matches(&file) && ENDINGS.contains(&ending));
        if !patterns.iter().any(meant) {
            continue;
        }
        unused.retain(|glob| !meant(glob));
        if opaque.iter().any(|glob| glob.matches(&file)) {
            rendered.opaque.push(file);
            continue;
        }
        let path = within(dir, Path::new(&file))?;
        let bytes =
            fs::read(&path).map_err(|error| RenderError::File { file: file.clone(), why: error.to_string() })?;
        rendered.manifests.extend(manifest::parse(&file, &bytes)?);
    }
    match unused.first() {
        Some(glob) => Err(RenderError::NoFile(glob.as_str().to_owned())),
        None => Ok(rendered),
    }
}

/// All files below, sorted, as paths from the root; links to folders are not followed.
fn walk(root: &Path, below: &Path, files: &mut Vec<String>) -> Result<(), RenderError> {
    let cannot = |error: std::io::Error| RenderError::File { file: named(below), why: error.to_string() };
    let mut entries: Vec<_> =
        fs::read_dir(root.join(below)).map_err(cannot)?.collect::<Result<_, _>>().map_err(cannot)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = below.join(entry.file_name());
        match entry.file_type().map_err(cannot)?.is_dir() {
            true if entry.file_name() == ".git" => {}
            true => walk(root, &path, files)?,
            false => files.push(named(&path)),
        }
    }
    Ok(())
}
