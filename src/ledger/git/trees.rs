//! Content by its id, for the planner.

use std::path::Path;

use git2::{Delta, DiffOptions, FileMode, ObjectType, Oid, Patch, build::TreeUpdateBuilder};

use super::repository::Repository;
use crate::{
    model::{CommitId, FileChange, TreeId},
    planner::{Changed, Trees, TreesError},
};

impl Repository {
    /// The files that lie directly in a folder of a tree, each with the id of its content; in the order of their names.
    pub fn files_in(&self, tree: &TreeId, folder: &str) -> Result<Vec<(String, String)>, TreesError> {
        let doing = || format!("list {folder} of tree {tree}");
        check_path(folder).map_err(|e| failed(doing(), e))?;
        let listed = self.with(|repo| {
            let root = repo.find_tree(Oid::from_str(tree.as_str())?)?;
            let found = match root.get_path(Path::new(folder)) {
                Ok(entry) if entry.kind() == Some(ObjectType::Tree) => repo.find_tree(entry.id())?,
                Ok(_) => return Ok(Vec::new()),
                Err(e) if e.code() == git2::ErrorCode::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(e),
            };
            let files = found.iter().filter(|entry| entry.kind() == Some(ObjectType::Blob));
            Ok(files
                .map(|file| (String::from_utf8_lossy(file.name_bytes()).into_owned(), file.id().to_string()))
                .collect())
        });
        listed.map_err(|e: git2::Error| failed(doing(), e))
    }
}

/// How far down the first-parent line earlier contents of a file are looked for.
const EARLIER_COMMITS_MAX: usize = 2_000;

impl Repository {
    /// What a file was before, newest first, at most so many contents: one for each change of it on the first-parent line
    /// down from a commit, as far as this clone has the line. It ends where there is no such file.
    pub fn earlier(&self, from: &CommitId, path: &str, most: usize) -> Result<Vec<Vec<u8>>, TreesError> {
        let doing = || format!("read what {path} was before commit {from}");
        check_path(path).map_err(|e| failed(doing(), e))?;
        self.with(|repo| earlier(repo, Oid::from_str(from.as_str())?, path, most))
            .map_err(|e: git2::Error| failed(doing(), e))
    }
}

fn earlier(repo: &git2::Repository, from: Oid, path: &str, most: usize) -> Result<Vec<Vec<u8>>, git2::Error> {
    let mut blobs = Vec::new();
    let mut next = Some(from);
    for _ in 0..EARLIER_COMMITS_MAX {
        // A clone without all of the history ends somewhere.
        let commit = match next.map(|oid| repo.find_commit(oid)) {
            None => break,
            Some(Err(e)) if e.code() == git2::ErrorCode::NotFound => break,
            Some(commit) => commit?,
        };
        let blob = match commit.tree()?.get_path(Path::new(path)) {
            Ok(entry) if entry.kind() == Some(ObjectType::Blob) => entry.id(),
            Ok(_) => break,
            Err(e) if e.code() == git2::ErrorCode::NotFound => break,
            Err(e) => return Err(e),
        };
        if blobs.last() != Some(&blob) {
            blobs.push(blob);
        }
        if blobs.len() > most {
            break;
        }
        next = commit.parent_ids().next();
    }
    // The first is what it is.
    blobs.iter().skip(1).map(|blob| Ok(repo.find_blob(*blob)?.content().to_vec())).collect()
}

/// A unified diff that is longer is left out: it rides in the ledger, and nobody reads it there.
const DIFF_BYTES_MAX: usize = 64 * 1024;

impl Trees for Repository {
    fn read(&self, tree: &TreeId, path: &str) -> Result<Option<Vec<u8>>, TreesError> {
        let doing = || format!("read {path} of tree {tree}");
        check_path(path).map_err(|e| failed(doing(), e))?;
        self.with(|repo| {
            let tree = repo.find_tree(Oid::from_str(tree.as_str())?)?;
            match tree.get_path(Path::new(path)) {
                Ok(entry) if entry.kind() == Some(ObjectType::Blob) => {
                    Ok(Some(repo.find_blob(entry.id())?.content().to_vec()))
                }
                Ok(_) => Ok(None),
                Err(e) if e.code() == git2::ErrorCode::NotFound => Ok(None),
                Err(e) => Err(e),
            }
        })
        .map_err(|e: git2::Error| failed(doing(), e))
    }

    fn write(&self, base: &TreeId, files: &[(String, Vec<u8>)]) -> Result<TreeId, TreesError> {
        let doing = || format!("change {} file(s) of tree {base}", files.len());
        for (path, _) in files {
            check_path(path).map_err(|e| failed(doing(), e))?;
        }
        let written = self.with(|repo| {
            let tree = repo.find_tree(Oid::from_str(base.as_str())?)?;
            let mut update = TreeUpdateBuilder::new();
            for (path, bytes) in files {
                update.upsert(path.as_str(), repo.blob(bytes)?, mode_of(&tree, path));
            }
            update.create_updated(repo, &tree)
        });
        let id = written.map_err(|e| failed(doing(), e))?;
        TreeId::new(id.to_string()).map_err(|e| failed(doing(), e))
    }

    fn changed(&self, from: &TreeId, to: &TreeId) -> Result<Vec<Changed>, TreesError> {
        self.with(|repo| {
            let diff = tree_diff(repo, from, to)?;
            Ok(diff.deltas().map(|delta| changed(&delta)).collect())
        })
        .map_err(|e: git2::Error| failed(format!("compare the trees {from} and {to}"), e))
    }

    fn diff(&self, from: &TreeId, to: &TreeId) -> Result<Vec<FileChange>, TreesError> {
        self.with(|repo| {
            let diff = tree_diff(repo, from, to)?;
            (0..diff.deltas().len()).map(|index| file_change(&diff, index)).collect::<Result<Vec<_>, git2::Error>>()
        })
        .map_err(|e| failed(format!("compare the trees {from} and {to}"), e))
    }
}

fn failed(doing: String, source: impl std::error::Error + Send + Sync + 'static) -> TreesError {
    TreesError { doing, source: Box::new(source) }
}

/// Why a text is not a path inside a tree.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a path inside the repository")]
struct NotInside(String);

fn check_path(path: &str) -> Result<(), NotInside> {
    let part_ok = |part: &str| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git");
    match !path.contains(['\0', '\\']) && path.split('/').all(part_ok) {
        true => Ok(()),
        false => Err(NotInside(path.chars().take(200).collect())),
    }
}

/// What the file is at the moment, so that a script stays executable; a plain file when it is new.
fn mode_of(tree: &git2::Tree<'_>, path: &str) -> FileMode {
    match tree.get_path(Path::new(path)).map(|entry| entry.filemode()) {
        Ok(0o100_755) => FileMode::BlobExecutable,
        Ok(_) | Err(_) => FileMode::Blob,
    }
}

fn tree_diff<'r>(repo: &'r git2::Repository, from: &TreeId, to: &TreeId) -> Result<git2::Diff<'r>, git2::Error> {
    let from = repo.find_tree(Oid::from_str(from.as_str())?)?;
    let to = repo.find_tree(Oid::from_str(to.as_str())?)?;
    let mut options = DiffOptions::new();
    options.include_typechange(true);
    repo.diff_tree_to_tree(Some(&from), Some(&to), Some(&mut options))
}

fn changed(delta: &git2::DiffDelta<'_>) -> Changed {
    let blob = |file: git2::DiffFile<'_>| (!file.id().is_zero()).then(|| file.id().to_string());
    let (old, new) = match delta.status() {
        Delta::Added => (None, blob(delta.new_file())),
        Delta::Deleted => (blob(delta.old_file()), None),
        _ => (blob(delta.old_file()), blob(delta.new_file())),
    };
    Changed { path: path_of(delta), old, new }
}

fn path_of(delta: &git2::DiffDelta<'_>) -> String {
    let bytes = delta.new_file().path_bytes().or_else(|| delta.old_file().path_bytes()).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

fn file_change(diff: &git2::Diff<'_>, index: usize) -> Result<FileChange, git2::Error> {
    let delta = diff.get_delta(index).ok_or_else(|| git2::Error::from_str("a file of the diff is missing"))?;
    let path = path_of(&delta);
    let Some(mut patch) = Patch::from_diff(diff, index)? else {
        return Ok(FileChange { path, added: 0, removed: 0, diff: String::new() });
    };
    let (_, added, removed) = patch.line_stats()?;
    let text = patch.to_buf()?;
    // libgit2 prints a line of words in place of a binary diff.
    let show = (added + removed > 0) && text.len() <= DIFF_BYTES_MAX;
    let diff = if show { String::from_utf8_lossy(&text).into_owned() } else { String::new() };
    Ok(FileChange { path, added, removed, diff })
}
