//! Branches that others follow: one commit for each deploy, each with exactly the tree of a release, never forced.

use git2::Oid;

use super::{
    repository::{FETCH_TIMEOUT, READ_TIMEOUT, Repository, RepositoryError, commit_id, parse_oid, tree_id},
    write::{commit_bytes, refuse_checked_out, store_commit},
};
use crate::{
    clients::git::{Depth, GitError, Lease, Move},
    model::{CommitId, Span, Stamp, TreeId},
};

/// How long one push may take.
const PUSH_TIMEOUT: Span = Span::seconds(60);

/// The newest commit of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    pub commit: CommitId,
    pub tree: TreeId,
    pub message: String,
    /// Who wrote it, as git has it.
    pub author: String,
    /// When it was committed, by the clock of whoever did.
    pub at: Stamp,
}

/// How putting a commit on a branch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    Done(CommitId),
    /// The branch moved meanwhile.
    Lost,
    /// The host does not take it.
    Refused(String),
}

impl Repository {
    /// The newest commit of a branch of the origin; `None`: there is no such branch.
    pub async fn tip(&self, branch: &str) -> Result<Option<Tip>, RepositoryError> {
        let Some(oid) = self.tip_id(branch).await? else { return Ok(None) };
        self.on_thread(move |repository| repository.with(|repo| read_tip(repo, oid))).await.map(Some)
    }

    /// Puts a commit with this tree on top of the branch, which must be where it was seen (`None`: not there yet).
    pub async fn put(
        &self,
        branch: &str,
        tree: &TreeId,
        message: &str,
        seen: Option<&CommitId>,
    ) -> Result<Put, RepositoryError> {
        let tree = parse_oid(tree.as_str())?;
        let base = seen.map(|commit| parse_oid(commit.as_str())).transpose()?;
        let text = message.to_owned();
        let make = move |repository: &Repository| {
            repository.with(|repo| {
                let bytes = commit_bytes(repo, base, tree, &text, None)?;
                store_commit(repo, &bytes, None)
            })
        };
        let made = self.on_thread(make).await;
        let made = made.map_err(|e| RepositoryError::git(format!("write a commit for `{branch}`"), e))?;
        let name = format!("refs/heads/{branch}");
        let Some(remote) = self.remote() else {
            let move_it = move |repository: &Repository| {
                refuse_checked_out(repository, &name)?;
                repository.move_local_ref(&name, base, Some(made))
            };
            let moved = self.on_thread(move_it).await?;
            return if moved { Ok(Put::Done(commit_id(made)?)) } else { Ok(Put::Lost) };
        };
        let moves = [Move { name, to: made.to_string(), lease: Lease::Was(base.map(|oid| oid.to_string())) }];
        match self.git().push(remote, &moves, PUSH_TIMEOUT).await {
            Ok(()) => Ok(Put::Done(commit_id(made)?)),
            // Whatever it said, or did not say: what counts is what the origin has.
            Err(error) => match self.tip_id(branch).await? {
                Some(tip) if tip == made => Ok(Put::Done(commit_id(made)?)),
                tip if tip != base => Ok(Put::Lost),
                Some(_) | None => match error {
                    GitError::Refused(why) => Ok(Put::Refused(why)),
                    error @ (GitError::Failed(_) | GitError::Process(_) | GitError::Remote(_)) => {
                        Err(self.unreachable(error))
                    }
                },
            },
        }
    }

    async fn tip_id(&self, branch: &str) -> Result<Option<Oid>, RepositoryError> {
        let name = format!("refs/heads/{branch}");
        let Some(remote) = self.remote().map(str::to_owned) else {
            return self.on_thread(move |repository| repository.local_ref(&name)).await;
        };
        let found = self.origin_refs(std::slice::from_ref(&name), READ_TIMEOUT).await?;
        let Some(tip) = found.get(&name).map(|id| parse_oid(id)).transpose()? else { return Ok(None) };
        self.bring(&remote, &[(name, tip)], Depth::Newest(1), FETCH_TIMEOUT).await?;
        Ok(Some(tip))
    }
}

fn read_tip(repo: &git2::Repository, oid: Oid) -> Result<Tip, RepositoryError> {
    let commit = repo.find_commit(oid).map_err(|e| RepositoryError::git(format!("read commit {oid}"), e))?;
    Ok(Tip {
        commit: commit_id(oid)?,
        tree: tree_id(commit.tree_id())?,
        message: String::from_utf8_lossy(commit.message_bytes()).into_owned(),
        author: String::from_utf8_lossy(commit.author().name_bytes()).into_owned(),
        at: Stamp(commit.time().seconds().saturating_mul(1000)),
    })
}
