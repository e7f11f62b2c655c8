//! The bare clone of a followed repository. Its credentials are git's own: helpers, `GIT_ASKPASS`, ssh keys.

use std::path::{Path, PathBuf};

use crate::commands::Follow;

/// The name of the origin in every clone.
pub const REMOTE: &str = "origin";

/// Why there is no clone.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    #[error("cannot make the folder {dir}")]
    Folder {
        dir: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot keep a clone in {dir}")]
    Git {
        dir: String,
        #[source]
        source: git2::Error,
    },
}

/// Makes the clone's folder, or takes the one that is there; nothing is brought yet.
pub fn make(home: &Path, follow: &Follow) -> Result<PathBuf, CloneError> {
    let dir = home.join("clone.git");
    let shown = || dir.display().to_string();
    std::fs::create_dir_all(&dir).map_err(|source| CloneError::Folder { dir: shown(), source })?;
    let made = git2::Repository::open_bare(&dir).or_else(|_| git2::Repository::init_bare(&dir));
    let set = made.and_then(|repo| match repo.find_remote(REMOTE) {
        Ok(_) => repo.remote_set_url(REMOTE, &follow.address),
        Err(_) => repo.remote(REMOTE, &follow.address).map(drop),
    });
    set.map_err(|source| CloneError::Git { dir: shown(), source })?;
    Ok(dir)
}
