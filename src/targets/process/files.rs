//! The folder of checkouts: one per tree, checked out and built once.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{Config, supervisor::last_lines};
use crate::{
    clients::process::Program,
    model::TreeId,
    targets::{Site, TargetError},
};

/// Gives the folder with the tree's files, built. Whoever comes second waits for the first.
pub async fn bring(site: &Site, config: &Config, tree: &TreeId) -> Result<PathBuf, TargetError> {
    let (site, owned_tree, build) = (site.clone(), tree.clone(), config.build.clone());
    let prepared = tokio::task::spawn_blocking(move || prepare(&site, &owned_tree, &build)).await;
    let prepared = prepared.map_err(|error| world("the checkout failed", Some(Box::new(error))))??;
    let Prepared { dir, done, lock } = prepared;
    if !done {
        build_in(&dir, config, tree).await?;
        mark_done(&dir, &config.build).map_err(|error| cannot("note the build of", &dir, error))?;
    }
    drop(lock);
    Ok(dir)
}

/// Removes checkouts that nobody needs, the longest unused first.
pub fn prune(state_dir: &Path, needed: &[TreeId], keep: usize) -> io::Result<()> {
    let mut unneeded = Vec::new();
    for entry in fs::read_dir(state_dir.join("releases"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Ok(tree) = TreeId::new(name) else { continue };
        if path.is_dir() && !needed.contains(&tree) {
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

async fn build_in(dir: &Path, config: &Config, tree: &TreeId) -> Result<(), TargetError> {
    if config.build.is_empty() {
        return Ok(());
    }
    let mut program = Program::new(config.build.clone(), config.build_within).in_dir(dir);
    program.secrets = config.build_secrets.clone();
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
    let how = ran.sentence(&config.build.join(" "));
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
    super::supervisor::record::replace(&beside(dir, "done"), build.join("\n").as_bytes())
}

/// The time of the mark says when the checkout was last wanted; a failure only makes it look older.
fn touch(dir: &Path, build: &[String]) {
    let _ = mark_done(dir, build);
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
