//! The folder of checkouts: one per tree, checked out and built once.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{Site, TargetError};
use crate::{
    clients::process::{Program, last_lines},
    model::{Span, Stamp, TreeId},
};

/// What is run once in a new checkout.
#[derive(Debug, Clone, Default)]
pub struct Build {
    /// Empty: nothing.
    pub argv: Vec<String>,
    pub secrets: Vec<String>,
    pub within: Span,
}

/// Gives the folder with the tree's files, built. Whoever comes second waits for the first.
pub async fn bring(site: &Site, build: &Build, tree: &TreeId) -> Result<PathBuf, TargetError> {
    let (site, owned_tree, argv) = (site.clone(), tree.clone(), build.argv.clone());
    let prepared = tokio::task::spawn_blocking(move || prepare(&site, &owned_tree, &argv)).await;
    let prepared = prepared.map_err(|error| world("the checkout failed", Some(Box::new(error))))??;
    let Prepared { dir, done, lock } = prepared;
    if !done {
        let tracked = files_in(&dir).map_err(|error| cannot("list", &dir, error))?;
        build_in(&dir, build, tree).await?;
        note_files(&dir, &tracked).map_err(|error| cannot("note the files of", &dir, error))?;
        mark_done(&dir, &build.argv).map_err(|error| cannot("note the build of", &dir, error))?;
    }
    drop(lock);
    Ok(dir)
}

/// Files of a checkout that are not as they were when it was brought, and when each was changed; `None`: it is gone.
/// What a build adds is its own, and a checkout that was brought by an older piton is not looked at.
pub fn changed_by_hand(dir: &Path) -> io::Result<Vec<(String, Option<Stamp>)>> {
    let noted = match fs::read(beside(dir, "files")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let noted: BTreeMap<String, Shape> = serde_json::from_slice(&noted)?;
    let mut changed = Vec::new();
    for (file, was) in noted {
        match shape(&dir.join(&file)) {
            Ok(is) if is == was => {}
            Ok(is) => changed.push((file, Some(Stamp(i64::try_from(is.changed_ns / 1_000_000).unwrap_or(0))))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => changed.push((file, None)),
            Err(error) => return Err(error),
        }
    }
    Ok(changed)
}

/// The first link that leads out of the checkout, by its path from there: `used` itself, what is below it, and what links
/// inside lead to. A link to nothing is told by whoever opens it.
pub fn leads_out(dir: &Path, used: &Path) -> io::Result<Option<PathBuf>> {
    let root = dir.canonicalize()?;
    let (mut ahead, mut seen) = (vec![root.join(used)], BTreeSet::new());
    while let Some(path) = ahead.pop() {
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if !real.starts_with(&root) {
            return Ok(Some(path.strip_prefix(&root).unwrap_or(&path).to_owned()));
        }
        if real.is_dir() && seen.insert(real.clone()) {
            let entries: Vec<_> = fs::read_dir(&real)?.collect::<Result<_, _>>()?;
            ahead.extend(entries.iter().map(fs::DirEntry::path));
        }
    }
    Ok(None)
}

/// Puts files that were changed by hand back as the tree has them. What runs there keeps its folder, and what it has read.
fn mend(site: &Site, dir: &Path, tree: &TreeId) -> Result<(), TargetError> {
    let changed = changed_by_hand(dir).map_err(|error| cannot("look for changes in", dir, error))?;
    if changed.is_empty() {
        return Ok(());
    }
    let fresh = beside(dir, "mend");
    remove_if_there(fs::remove_dir_all(&fresh)).map_err(|error| cannot("clear", &fresh, error))?;
    site.trees.checkout(tree, &fresh)?;
    let put_back = || {
        for (file, _) in &changed {
            let (from, to) = (fresh.join(file), dir.join(file));
            to.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::rename(from, to)?;
        }
        let noted: BTreeMap<String, Shape> = serde_json::from_slice(&fs::read(beside(dir, "files"))?)?;
        note_files(dir, &noted.into_keys().collect::<Vec<_>>())?;
        fs::remove_dir_all(&fresh)
    };
    put_back().map_err(|error| cannot("put back what was changed by hand in", dir, error))
}

/// What tells that a file was written to, without reading it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shape {
    bytes: u64,
    changed_ns: i128,
}

fn shape(path: &Path) -> io::Result<Shape> {
    let meta = fs::symlink_metadata(path)?;
    let changed_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Ok(Shape { bytes: meta.len(), changed_ns })
}

/// Every file below, by its path from here.
fn files_in(dir: &Path) -> io::Result<Vec<String>> {
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                // A name that is no text is not noted: nothing could be said of it.
                false => found.extend(entry.path().strip_prefix(dir).ok().and_then(Path::to_str).map(str::to_owned)),
            }
        }
    }
    Ok(found)
}

fn note_files(dir: &Path, files: &[String]) -> io::Result<()> {
    // What the build takes away is not there to be changed.
    let shapes = files.iter().filter_map(|file| Some((file, shape(&dir.join(file)).ok()?)));
    let shapes: BTreeMap<&String, Shape> = shapes.collect();
    replace_file(&beside(dir, "files"), &serde_json::to_vec(&shapes)?)
}

/// Removes checkouts other than the needed ones, which are named by their tree ids: the longest unused first.
pub fn prune(state_dir: &Path, needed: &[OsString], keep: usize) -> io::Result<()> {
    let mut unneeded = Vec::new();
    for entry in fs::read_dir(state_dir.join("releases"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_needed = needed.iter().any(|needed| needed == name);
        if TreeId::new(name).is_ok() && path.is_dir() && !is_needed {
            let used = fs::metadata(beside(&path, "done")).and_then(|meta| meta.modified());
            unneeded.push((used.unwrap_or(SystemTime::UNIX_EPOCH), path));
        }
    }
    unneeded.sort();
    let surplus = unneeded.len().saturating_sub(keep);
    for (_, path) in unneeded.into_iter().take(surplus) {
        let lock = File::create(beside(&path, "lock"))?;
        // Someone is just bringing it back.
        if lock.try_lock().is_err() {
            continue;
        }
        remove_if_there(fs::remove_file(beside(&path, "done")))?;
        remove_if_there(fs::remove_file(beside(&path, "files")))?;
        fs::remove_dir_all(&path)?;
    }
    Ok(())
}

struct Prepared {
    dir: PathBuf,
    done: bool,
    /// Held until the build is over.
    lock: File,
}

fn prepare(site: &Site, tree: &TreeId, build: &[String]) -> Result<Prepared, TargetError> {
    let dir = site.state_dir.join("releases").join(tree.as_str());
    let parent = site.state_dir.join("releases");
    fs::create_dir_all(&parent).map_err(|error| cannot("make", &parent, error))?;
    // The lock file stays: removing it would let a third one in beside the second.
    let lock = File::create(beside(&dir, "lock")).map_err(|error| cannot("lock", &dir, error))?;
    lock.lock().map_err(|error| cannot("lock", &dir, error))?;
    if is_done(&dir, build) {
        mend(site, &dir, tree)?;
        touch(&dir, build);
        return Ok(Prepared { dir, done: true, lock });
    }
    // A half-done build is not built upon: the next one begins with the files as they are in the tree.
    remove_if_there(fs::remove_file(beside(&dir, "done"))).map_err(|error| cannot("clear", &dir, error))?;
    remove_if_there(fs::remove_dir_all(&dir)).map_err(|error| cannot("clear", &dir, error))?;
    let fresh = beside(&dir, "new");
    remove_if_there(fs::remove_dir_all(&fresh)).map_err(|error| cannot("clear", &fresh, error))?;
    site.trees.checkout(tree, &fresh)?;
    fs::rename(&fresh, &dir).map_err(|error| cannot("rename the checkout to", &dir, error))?;
    Ok(Prepared { dir, done: false, lock })
}

async fn build_in(dir: &Path, build: &Build, tree: &TreeId) -> Result<(), TargetError> {
    if build.argv.is_empty() {
        return Ok(());
    }
    let mut program = Program::new(build.argv.clone(), build.within).in_dir(dir);
    program.secrets = build.secrets.clone();
    let ran = program.run().await.map_err(|error| {
        TargetError::Release(format!(
            "the build of release {} could not be started: {}",
            tree.short(),
            with_cause(&error)
        ))
    })?;
    if ran.succeeded() {
        return Ok(());
    }
    let how = ran.sentence(&build.argv.join(" "));
    let output = last_lines(&format!("{}\n{}", ran.stdout, ran.stderr)).unwrap_or_default();
    Err(TargetError::Release(format!(
        "the build of release {} failed: {how}; its output ends with: {output}",
        tree.short()
    )))
}

/// The mark names the build command: another command builds anew.
fn is_done(dir: &Path, build: &[String]) -> bool {
    dir.is_dir() && fs::read_to_string(beside(dir, "done")).is_ok_and(|text| text == build.join("\n"))
}

fn mark_done(dir: &Path, build: &[String]) -> io::Result<()> {
    replace_file(&beside(dir, "done"), build.join("\n").as_bytes())
}

/// The time of the mark says when the checkout was last wanted; a failure only makes it look older.
fn touch(dir: &Path, build: &[String]) {
    let _ = mark_done(dir, build);
}

/// Writes beside the file, then renames: a reader sees the old or the new one.
pub fn replace_file(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    io::Write::write_all(&mut file, text)?;
    fs::rename(&beside, path)
}

fn beside(dir: &Path, what: &str) -> PathBuf {
    dir.with_extension(what)
}

fn remove_if_there(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn cannot(what: &str, path: &Path, error: io::Error) -> TargetError {
    world(&format!("cannot {what} {}", path.display()), Some(Box::new(error)))
}

fn world(what: &str, source: Option<Box<dyn std::error::Error + Send + Sync>>) -> TargetError {
    TargetError::World { what: what.to_owned(), source }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
