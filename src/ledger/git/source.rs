//! One commit on the source branch: the only thing that piton ever writes there, and only when a person says so.

use super::{
    GitLedger, RepositoryError,
    repository::{commit_id, parse_oid},
    sign,
    write::{commit_bytes, store_commit},
};
use crate::{
    clients::git::{GitError, Lease, Move},
    model::{Actor, CommitId, Stamp, TreeId},
};

/// A commit to make.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// What it comes after.
    pub parent: CommitId,
    pub tree: TreeId,
    pub message: String,
    pub by: Actor,
    pub at: Stamp,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposed {
    Pushed(CommitId),
    /// Somebody else wrote to the branch first.
    Lost,
    /// The host does not take it: a protected branch, a missing permission.
    Refused(String),
}

impl GitLedger {
    /// Writes one commit to a branch of the origin; `seen` is where the branch was, `None`: it must be new.
    pub async fn propose(
        &self,
        proposal: &Proposal,
        branch: &str,
        seen: Option<&CommitId>,
    ) -> Result<Proposed, RepositoryError> {
        let doing = || format!("write a commit for `{branch}`");
        let wrong =
            |error: Box<dyn std::error::Error + Send + Sync>| RepositoryError::Git { doing: doing(), source: error };
        let (parent, tree) = (parse_oid(proposal.parent.as_str())?, parse_oid(proposal.tree.as_str())?);
        let (message, by) = (proposal.message.clone(), Some((proposal.by.clone(), proposal.at.0.div_euclid(1_000))));
        let make = move |r: &super::Repository| r.with(|g| commit_bytes(g, Some(parent), tree, &message, by));
        let bytes = self.0.repository.on_thread(make).await.map_err(|e| wrong(Box::new(e)))?;
        let signature = match &self.0.settings.sign_with {
            Some(variable) => Some(sign::sign(variable, bytes.as_bytes()).await.map_err(|e| wrong(Box::new(e)))?),
            None => None,
        };
        let store = move |r: &super::Repository| r.with(|g| store_commit(g, &bytes, signature.as_deref()));
        let made = self.0.repository.on_thread(store).await.map_err(|e| wrong(Box::new(e)))?;
        let name = format!("refs/heads/{branch}");
        let before = seen.map(|seen| parse_oid(seen.as_str())).transpose()?;
        let Some(remote) = self.remote() else {
            let checked_out = name.clone();
            let free = self.0.repository.on_thread(move |r| super::write::refuse_checked_out(r, &checked_out)).await;
            free?;
            let moved = self.0.repository.on_thread(move |r| r.move_local_ref(&name, before, Some(made))).await?;
            return Ok(if moved { Proposed::Pushed(commit_id(made)?) } else { Proposed::Lost });
        };
        let lease = Lease::Was(before.map(|oid| oid.to_string()));
        let moves = [Move { name: name.clone(), to: made.to_string(), lease }];
        match self.0.repository.git().push(remote, &moves, self.0.settings.push_timeout).await {
            Ok(()) => Ok(Proposed::Pushed(commit_id(made)?)),
            Err(error) => self.after_all(&name, before, made, error).await,
        }
    }

    /// Whatever the host said: what counts is what the branch is.
    async fn after_all(
        &self,
        name: &str,
        before: Option<git2::Oid>,
        made: git2::Oid,
        error: GitError,
    ) -> Result<Proposed, RepositoryError> {
        let names = [name.to_owned()];
        let found = self.0.repository.origin_refs(&names, self.0.settings.push_timeout).await?;
        let is = found.get(name).map(|text| parse_oid(text)).transpose()?;
        match (is == Some(made), is == before, error) {
            (true, _, _) => Ok(Proposed::Pushed(commit_id(made)?)),
            (false, false, _) => Ok(Proposed::Lost),
            (false, true, GitError::Refused(why)) => Ok(Proposed::Refused(why)),
            (false, true, error @ (GitError::Failed(_) | GitError::Process(_) | GitError::Remote(_))) => {
                Err(self.0.repository.unreachable(error))
            }
        }
    }
}
