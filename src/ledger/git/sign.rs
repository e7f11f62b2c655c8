//! Signed pages: made with `ssh-keygen`, checked with `git verify-commit`.

use std::path::{Path, PathBuf};

use git2::{ObjectType, Oid};

use super::{nonce, repository::Repository};
use crate::{
    clients::{
        git::GitError,
        process::{ProcessError, Program},
        secrets,
    },
    model::Span,
};

const SIGN_TIMEOUT: Span = Span::seconds(20);
const VERIFY_TIMEOUT: Span = Span::seconds(20);

/// Whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signers {
    /// A file in the form of ssh's `ALLOWED SIGNERS`.
    File(PathBuf),
    /// Such a file in the deploy repository: as it was in the last commit that was trusted, not as the commit in
    /// question has it.
    InTree(String),
}

/// Why a signature could not be made or checked.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("the environment variable `{0}`, which names the file of the signing key, is not set")]
    NoKey(String),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("{0}")]
    Failed(String),
    #[error("cannot write the allowed signers to {path}")]
    Signers {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

/// Signs the bytes of a commit with the ssh key whose file this environment variable names.
pub async fn sign(variable: &str, commit: &[u8]) -> Result<String, SignError> {
    // A mounted secret holds the key itself: its file is the one that is meant.
    let mounted = || secrets::file_of(variable).map(|file| file.display().to_string());
    let key = std::env::var(variable).ok().or_else(mounted).ok_or_else(|| SignError::NoKey(variable.to_owned()))?;
    let mut program = Program::new(["ssh-keygen", "-Y", "sign", "-n", "git", "-q", "-f", &key], SIGN_TIMEOUT);
    // A key with a passphrase cannot be asked for here; the agent may hold it.
    program.env.insert("SSH_ASKPASS_REQUIRE".to_owned(), "never".to_owned());
    if let Ok(agent) = std::env::var("SSH_AUTH_SOCK") {
        program.env.insert("SSH_AUTH_SOCK".to_owned(), agent);
    }
    program.input = commit.to_vec();
    let ran = program.run().await?;
    match ran.succeeded() && ran.stdout.starts_with("-----BEGIN SSH SIGNATURE-----") {
        true => Ok(ran.stdout),
        false => Err(SignError::Failed(ran.sentence("ssh-keygen"))),
    }
}

/// Checks the signature of a commit; `trusted` is the last commit whose word counts.
pub async fn check(
    repository: &Repository,
    signers: &Signers,
    commit: Oid,
    trusted: Option<Oid>,
) -> Result<Result<String, String>, SignError> {
    match signers {
        Signers::File(path) => Ok(repository.git().verify(&commit.to_string(), path, VERIFY_TIMEOUT).await?),
        Signers::InTree(path) => {
            let Some(text) = signers_before(repository, path, commit, trusted) else {
                return Ok(Err(format!("there is no file `{path}` in the commit before it")));
            };
            let file = TemporaryFile::with(&text)?;
            Ok(repository.git().verify(&commit.to_string(), &file.0, VERIFY_TIMEOUT).await?)
        }
    }
}

/// The file as the trusted commit has it. Without one it is the commit's parent, and for a first commit itself: then
/// there is nobody else to ask.
fn signers_before(repository: &Repository, path: &str, commit: Oid, trusted: Option<Oid>) -> Option<Vec<u8>> {
    repository.with(|repo| {
        let before = match trusted {
            Some(oid) if oid != commit => oid,
            Some(_) | None => repo.find_commit(commit).ok()?.parent_ids().next().unwrap_or(commit),
        };
        let tree = repo.find_commit(before).ok()?.tree().ok()?;
        let entry = tree.get_path(Path::new(path)).ok()?;
        match entry.kind() {
            Some(ObjectType::Blob) => Some(repo.find_blob(entry.id()).ok()?.content().to_vec()),
            _ => None,
        }
    })
}

/// A file that is gone when this is dropped.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn with(bytes: &[u8]) -> Result<TemporaryFile, SignError> {
        let path = std::env::temp_dir().join(format!("piton-signers-{}", nonce()));
        let file = TemporaryFile(path.clone());
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
        opened
            .and_then(|mut f| std::io::Write::write_all(&mut f, bytes))
            .map_err(|source| SignError::Signers { path: path.display().to_string(), source })?;
        Ok(file)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // A temporary folder is cleaned by others, too.
        let _ = std::fs::remove_file(&self.0);
    }
}
