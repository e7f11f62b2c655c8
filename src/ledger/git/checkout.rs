//! Writes the files of a tree into a folder: all of them, or there is no folder.

use std::{
    ffi::OsStr,
    fs, io,
    io::Write,
    os::unix::{
        ffi::OsStrExt,
        fs::{OpenOptionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use git2::{ObjectType, Oid};

use super::{nonce, repository::Repository};
use crate::model::TreeId;

/// Deeper folders than any real tree has.
const DEPTH_MAX: usize = 64;

/// Why the files of a tree could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    #[error("`{path}` in tree {tree} is a submodule; piton deploys only what is in the repository itself")]
    Submodule { tree: TreeId, path: String },
    #[error("tree {tree} holds {path:?}, which is no safe file name")]
    Name { tree: TreeId, path: String },
    #[error("tree {tree} is deeper than {DEPTH_MAX} folders")]
    Deep { tree: TreeId },
    #[error("cannot read tree {tree}")]
    Read {
        tree: TreeId,
        #[source]
        source: git2::Error,
    },
    #[error("cannot write {path}")]
    Write {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl Repository {
    /// Writes the tree's files into `dir`, which must be empty or absent; it appears complete or not at all.
    pub fn write_files(&self, tree: &TreeId, dir: &Path) -> Result<(), CheckoutError> {
        let name = dir.file_name().unwrap_or_else(|| OsStr::new("tree")).to_string_lossy().into_owned();
        let beside = dir.with_file_name(format!(".{name}.{}", nonce()));
        let written = self.write_beside(tree, &beside).and_then(|()| {
            // A folder takes the place of an empty one, and of no other.
            fs::rename(&beside, dir).map_err(|source| wrong(dir, source))
        });
        if written.is_err() {
            // What cannot be removed is a hidden folder with a name of its own: it is in nobody's way.
            let _ = fs::remove_dir_all(&beside);
        }
        written
    }

    fn write_beside(&self, tree: &TreeId, dir: &Path) -> Result<(), CheckoutError> {
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(|source| wrong(parent, source))?;
        }
        let read = |source| CheckoutError::Read { tree: tree.clone(), source };
        // A handle of its own: a large tree must not hold up the ledger.
        let repo = git2::Repository::open(self.git_dir()).map_err(read)?;
        let root = Oid::from_str(tree.as_str()).map_err(read)?;
        let writer = Writer { repo: &repo, tree, root: dir };
        writer.folder(root, dir, 0)
    }
}

struct Writer<'a> {
    repo: &'a git2::Repository,
    tree: &'a TreeId,
    root: &'a Path,
}

impl Writer<'_> {
    fn folder(&self, id: Oid, dir: &Path, depth: usize) -> Result<(), CheckoutError> {
        if depth > DEPTH_MAX {
            return Err(CheckoutError::Deep { tree: self.tree.clone() });
        }
        fs::create_dir(dir).map_err(|source| wrong(dir, source))?;
        let folder = self.repo.find_tree(id).map_err(|source| self.unread(source))?;
        for entry in &folder {
            let path = self.safe_path(dir, entry.name_bytes())?;
            match entry.kind() {
                Some(ObjectType::Tree) => self.folder(entry.id(), &path, depth + 1)?,
                Some(ObjectType::Blob) => self.file(entry.id(), entry.filemode(), &path)?,
                _ => return Err(CheckoutError::Submodule { tree: self.tree.clone(), path: self.inside(&path) }),
            }
        }
        Ok(())
    }

    fn file(&self, id: Oid, mode: i32, path: &Path) -> Result<(), CheckoutError> {
        let blob = self.repo.find_blob(id).map_err(|source| self.unread(source))?;
        let written = match mode {
            0o120_000 => symlink(OsStr::from_bytes(blob.content()), path),
            _ => {
                let permissions = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
                let file = fs::OpenOptions::new().write(true).create_new(true).mode(permissions).open(path);
                file.and_then(|mut file| file.write_all(blob.content()))
            }
        };
        written.map_err(|source| wrong(path, source))
    }

    /// A tree made by hand may hold any bytes as a name.
    fn safe_path(&self, dir: &Path, name: &[u8]) -> Result<PathBuf, CheckoutError> {
        let path = dir.join(OsStr::from_bytes(name));
        let bad = matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || name.eq_ignore_ascii_case(b".git");
        match bad {
            true => Err(CheckoutError::Name { tree: self.tree.clone(), path: String::from_utf8_lossy(name).into() }),
            false => Ok(path),
        }
    }

    fn inside(&self, path: &Path) -> String {
        path.strip_prefix(self.root).unwrap_or(path).display().to_string()
    }

    fn unread(&self, source: git2::Error) -> CheckoutError {
        CheckoutError::Read { tree: self.tree.clone(), source }
    }
}

fn wrong(path: &Path, source: io::Error) -> CheckoutError {
    CheckoutError::Write { path: path.display().to_string(), source }
}
