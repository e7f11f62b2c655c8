#![doc = include_str!("README.md")]

use crate::model::{Actor, CommitId, FileChange, Stamp, TreeId};

/// Content by its id: the same id always gives the same bytes, so that asking is as pure as calculating.
pub trait Trees {
    /// The bytes of a file; `None` where the tree has no such file.
    fn read(&self, tree: &TreeId, path: &str) -> Result<Option<Vec<u8>>, TreesError>;

    /// The tree with these files changed; the rest, modes included, stays as it was.
    fn write(&self, base: &TreeId, files: &[(String, Vec<u8>)]) -> Result<TreeId, TreesError>;

    /// The files that differ, each with its old and new blob id.
    fn changed(&self, from: &TreeId, to: &TreeId) -> Result<Vec<Changed>, TreesError>;

    /// The same for people, with unified diffs of text files.
    fn diff(&self, from: &TreeId, to: &TreeId) -> Result<Vec<FileChange>, TreesError>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub path: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// One commit of the source branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceCommit {
    pub id: CommitId,
    pub tree: TreeId,
    pub at: Stamp,
    pub subject: String,
    pub author: Actor,
}

/// Why content could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub struct TreesError {
    pub doing: String,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}
