//! The local clone of the deploy repository: content by id, commits of the source branch, and the refs that are ours.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use git2::{ErrorCode, Oid};

use super::{glance::Glance, together::Together};
use crate::{
    clients::git::{Depth, Git, GitError, Move},
    model::{Actor, CommitId, EnvironmentName, NameError, Span, Stamp, TreeId},
    planner::SourceCommit,
};

/// How long one question to the git host may take.
pub const READ_TIMEOUT: Span = Span::seconds(20);

/// How long bringing commits may take: the first time it is the whole branch.
pub const FETCH_TIMEOUT: Span = Span::minutes(2);

/// How many more commits of a shallow clone are asked for at once.
pub(super) const DEEPEN_COMMITS: u32 = 256;

/// How often a shallow clone is deepened before it is called too shallow.
const DEEPEN_TRIES: usize = 64;

/// The local clone of the deploy repository. Its index, its work tree and its `HEAD` are never touched.
#[derive(Clone)]
pub struct Repository(Arc<Shared>);

struct Shared {
    repo: Mutex<git2::Repository>,
    git_dir: PathBuf,
    git: Git,
    remote: Option<String>,
    prefix: String,
    glance: Option<Glance>,
    together: Together,
    /// Held by whoever brings commits: git itself refuses a second one in a clone without history.
    bringing: tokio::sync::Mutex<()>,
}

/// Why the local clone, or the origin behind it, could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error("there is no git repository at {dir} or above it")]
    Missing { dir: String },
    #[error("the git repository {dir} {what}, which piton cannot read")]
    Unsupported { dir: String, what: String },
    #[error("{0:?} cannot be the first part of branch names")]
    Prefix(String),
    #[error("there is no {what}")]
    Absent { what: String },
    #[error("`{branch}` is checked out here, and moving it would leave the work tree behind")]
    CheckedOut { branch: String },
    #[error("cannot reach the remote `{remote}`: {why}")]
    Unreachable { remote: String, why: String },
    #[error("the clone {dir} is too shallow: {what}")]
    Shallow { dir: String, what: String },
    #[error("cannot {doing}")]
    Git {
        doing: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl RepositoryError {
    pub(super) fn git(doing: impl Into<String>, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        RepositoryError::Git { doing: doing.into(), source: Box::new(source) }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            RepositoryError::Missing { .. } => Some("run this inside a clone of the deploy repository".to_owned()),
            RepositoryError::Unsupported { .. } => {
                Some("make a plain clone: `git clone` without `--filter`, SHA-1, with files for refs".to_owned())
            }
            RepositoryError::CheckedOut { .. } => Some("switch to another branch, or use a bare repository".to_owned()),
            RepositoryError::Unreachable { remote, .. } => Some(format!("try `git ls-remote {remote}`")),
            RepositoryError::Shallow { .. } => {
                Some("run `git fetch --unshallow`, or check out with `fetch-depth: 0`".to_owned())
            }
            RepositoryError::Git { source, .. } => {
                let owner = source.downcast_ref::<git2::Error>().is_some_and(|e| e.code() == ErrorCode::Owner);
                owner.then(|| {
                    "the repository belongs to another user: `git config --global --add safe.directory DIR`".to_owned()
                })
            }
            RepositoryError::Prefix(_) | RepositoryError::Absent { .. } => None,
        }
    }
}

type Result<T> = std::result::Result<T, RepositoryError>;

impl Repository {
    /// Opens the repository that `dir` is in. `remote` is the name or the address of the origin; with `None` this
    /// repository is the origin itself. `prefix` is the first part of the environments' branch names.
    pub fn open(dir: &Path, remote: Option<&str>, prefix: &str) -> Result<Repository> {
        Repository::open_with(dir, remote, prefix, None)
    }

    /// The same; with a glance, questions about the origin's refs are answered from it while it is fresh.
    pub fn open_with(dir: &Path, remote: Option<&str>, prefix: &str, glance: Option<Glance>) -> Result<Repository> {
        if !git2::Reference::is_valid_name(&format!("refs/heads/{prefix}/x")) || prefix.starts_with('-') {
            return Err(RepositoryError::Prefix(prefix.to_owned()));
        }
        let missing = || RepositoryError::Missing { dir: dir.display().to_string() };
        let none: [&str; 0] = [];
        let git_dir = git2::Repository::discover_path(dir, none).map_err(|_| missing())?;
        refuse_unsupported(&git_dir)?;
        let repo = git2::Repository::open(&git_dir)
            .map_err(|e| RepositoryError::git(format!("open the git repository {}", git_dir.display()), e))?;
        let home = repo.workdir().unwrap_or_else(|| repo.path()).to_owned();
        let git = Git::new(&git_dir, &home);
        let (remote, prefix) = (remote.map(str::to_owned), prefix.to_owned());
        let (repo, together, bringing) = (Mutex::new(repo), Together::new(), tokio::sync::Mutex::default());
        Ok(Repository(Arc::new(Shared { repo, git_dir, git, remote, prefix, glance, together, bringing })))
    }

    /// The folder of the repository itself, such as `.git`.
    pub fn git_dir(&self) -> &Path {
        &self.0.git_dir
    }

    /// The origin's name or address; `None`: this repository is the origin.
    pub fn remote(&self) -> Option<&str> {
        self.0.remote.as_deref()
    }

    /// The origin's address as git is given it; of an origin itself, its folder.
    pub fn address(&self) -> String {
        let configured = |name: &str| self.with(|repo| repo.find_remote(name).ok()?.url().ok().map(str::to_owned));
        match self.remote() {
            Some(remote) => configured(remote).unwrap_or_else(|| remote.to_owned()),
            None => self.git_dir().display().to_string(),
        }
    }

    /// The branch of an environment, without `refs/heads/`.
    pub fn branch(&self, environment: &EnvironmentName) -> String {
        format!("{}/{environment}", self.0.prefix)
    }

    /// The newest commit of a branch of the origin; it is brought here if it is missing.
    pub async fn tip_of_source(&self, branch: &str) -> Result<CommitId> {
        let name = format!("refs/heads/{branch}");
        let absent = || RepositoryError::Absent { what: format!("branch `{branch}` in the deploy repository") };
        let Some(remote) = self.remote().map(str::to_owned) else {
            return self.on_thread(move |repo| repo.local_ref(&name)).await?.ok_or_else(absent).and_then(commit_id);
        };
        let found = self.origin_refs(std::slice::from_ref(&name), READ_TIMEOUT).await?;
        let tip = parse_oid(found.get(&name).ok_or_else(absent)?)?;
        self.bring(&remote, &[(name, tip)], Depth::Newest(DEEPEN_COMMITS), FETCH_TIMEOUT).await?;
        let kept = format!("refs/{}/source/{branch}", self.0.prefix);
        self.on_thread(move |repo| repo.with(|r| r.reference(&kept, tip, true, "piton: seen").map(drop)))
            .await
            .map_err(|e| RepositoryError::git(format!("remember the tip of `{branch}`"), e))?;
        commit_id(tip)
    }

    /// The commit that a person means: an id or the beginning of one, a branch, a tag; of this clone or of its origin.
    pub fn resolve(&self, text: &str) -> Result<CommitId> {
        let absent = || RepositoryError::Absent { what: format!("commit `{text}` in {}", self.0.git_dir.display()) };
        let (prefix, remote) = (&self.0.prefix, self.remote().unwrap_or("origin"));
        let environment = text.strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let seen =
            environment.into_iter().flat_map(|name| ["local", "mirror"].map(|k| format!("refs/{prefix}/{k}/{name}")));
        // What the origin had goes before what this clone happens to have under the same name.
        let names = seen.chain([
            format!("refs/{prefix}/source/{text}"),
            format!("refs/remotes/{remote}/{text}"),
            text.to_owned(),
        ]);
        let names: Vec<String> = names.collect();
        let found = self.with(|repo| {
            names.iter().find_map(|name| repo.revparse_single(name).ok()?.peel_to_commit().ok().map(|c| c.id()))
        });
        commit_id(found.ok_or_else(absent)?)
    }

    /// The tree of a commit.
    pub fn tree_of(&self, commit: &CommitId) -> Result<TreeId> {
        let oid = parse_oid(commit.as_str())?;
        let tree = self.with(|repo| repo.find_commit(oid).map(|c| c.tree_id()));
        tree_id(tree.map_err(|e| RepositoryError::git(format!("read commit {commit}"), e))?)
    }

    /// Whether this tree is here.
    pub fn has_tree(&self, tree: &TreeId) -> bool {
        parse_oid(tree.as_str()).is_ok_and(|oid| self.with(|repo| repo.find_tree(oid).is_ok()))
    }

    /// The commits on the first-parent line of `to` that `since` does not hold, oldest first, at most `most` of them
    /// from the oldest on. Without `since` it is the newest `most`.
    pub async fn first_parents(
        &self,
        since: Option<&CommitId>,
        to: &CommitId,
        most: usize,
    ) -> Result<Vec<SourceCommit>> {
        let to_oid = parse_oid(to.as_str())?;
        let since_oid = since.map(|s| parse_oid(s.as_str())).transpose()?;
        if let Some(remote) = self.remote() {
            let wanted = [(to_oid.to_string(), to_oid)];
            self.bring(remote, &wanted, Depth::Newest(DEEPEN_COMMITS), FETCH_TIMEOUT).await?;
        }
        for _ in 0..DEEPEN_TRIES {
            let line = self.on_thread(move |repo| repo.with(|r| first_parent_line(r, since_oid, to_oid, most))).await;
            match line.map_err(|e| RepositoryError::git(format!("read the commits up to {to}"), e))? {
                Line::Whole(commits) => {
                    return self.on_thread(move |repo| repo.with(|r| describe_commits(r, &commits))).await;
                }
                Line::CutOff => self.deepen(to_oid).await?,
                Line::Apart => {
                    let since = since.map_or("nothing", CommitId::as_str);
                    return Err(RepositoryError::Absent { what: format!("common history of {since} and {to}") });
                }
            }
        }
        Err(self.too_shallow(format!("the history of {to} ends too soon")))
    }

    async fn deepen(&self, at: Oid) -> Result<()> {
        let Some(remote) = self.remote() else {
            return Err(self.too_shallow(format!("the history of {at} ends too soon, and there is no remote to ask")));
        };
        let wants = [at.to_string()];
        let _turn = self.0.bringing.lock().await;
        self.git()
            .fetch(remote, &wants, Depth::Deeper(DEEPEN_COMMITS), FETCH_TIMEOUT)
            .await
            .map_err(|e| self.unreachable(e))?;
        self.reopen()
    }

    fn too_shallow(&self, what: String) -> RepositoryError {
        RepositoryError::Shallow { dir: self.0.git_dir.display().to_string(), what }
    }
}

/// What the ledger needs of the clone.
impl Repository {
    pub(super) fn git(&self) -> &Git {
        &self.0.git
    }

    pub(super) fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// Works on the repository; others wait, so do nothing slow in there.
    pub(super) fn with<T>(&self, work: impl FnOnce(&git2::Repository) -> T) -> T {
        // A panic elsewhere leaves no half-done change in here: what matters is on disk.
        work(&self.0.repo.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does blocking work where it does not hold up the runtime.
    pub(super) async fn on_thread<T: Send + 'static>(&self, work: impl FnOnce(&Repository) -> T + Send + 'static) -> T {
        let repository = self.clone();
        match tokio::task::spawn_blocking(move || work(&repository)).await {
            Ok(done) => done,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }

    /// Moves one branch of the origin, together with whatever else waits to be pushed from this clone.
    pub(super) async fn push_together(&self, moved: Move, timeout: Span) -> std::result::Result<(), GitError> {
        self.0.together.push(self.git(), self.remote().unwrap_or_default(), moved, timeout).await
    }

    /// Where these refs of the origin point.
    pub(super) async fn origin_refs(&self, names: &[String], timeout: Span) -> Result<BTreeMap<String, String>> {
        let remote = self.remote().unwrap_or_default();
        let refs = match &self.0.glance {
            Some(glance) => glance.refs(self.git(), remote, names, timeout).await,
            None => self.git().refs(remote, names, timeout).await,
        };
        refs.map_err(|e| self.unreachable(e))
    }

    /// What was seen of the origin a moment ago does not count any more.
    pub(super) async fn forget_glance(&self) {
        if let Some(glance) = &self.0.glance {
            glance.forget().await;
        }
    }

    /// These refs of the origin were moved from here.
    pub(super) async fn tell_glance(&self, moves: &[Move]) {
        if let Some(glance) = &self.0.glance {
            for moved in moves {
                glance.moved(&moved.name, &moved.to).await;
            }
        }
    }

    /// Brings commits that are missing here, all in one go. A clone without history asks only for `when_shallow`:
    /// who cloned so does not want all of it from us, and more can be asked for when it is needed.
    pub(super) async fn bring(
        &self,
        remote: &str,
        tips: &[(String, Oid)],
        when_shallow: Depth,
        timeout: Span,
    ) -> Result<()> {
        let look =
            |tips: Vec<(String, Oid)>| self.on_thread(move |repo| repo.with(|r| (missing(r, tips), r.is_shallow())));
        let (tips, _) = look(tips.to_vec()).await;
        if tips.is_empty() {
            return Ok(());
        }
        let _turn = self.0.bringing.lock().await;
        // Whoever had the turn before may have brought it.
        let (tips, shallow) = look(tips).await;
        if tips.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = tips.into_iter().map(|(name, _)| name).collect();
        let depth = if shallow { when_shallow } else { Depth::Full };
        self.git().fetch(remote, &names, depth, timeout).await.map_err(|e| self.unreachable(e))?;
        if shallow { self.reopen() } else { Ok(()) }
    }

    /// Asks for older history of a shallow clone.
    pub(super) async fn bring_older(&self, at: Oid) -> Result<()> {
        self.deepen(at).await
    }

    pub(super) fn unreachable(&self, error: GitError) -> RepositoryError {
        let remote = crate::clients::git::without_credentials(self.remote().unwrap_or_default());
        RepositoryError::Unreachable { remote, why: error.to_string() }
    }

    /// libgit2 remembers where a shallow clone ends; after it was moved it must look again.
    fn reopen(&self) -> Result<()> {
        let again = git2::Repository::open(&self.0.git_dir)
            .map_err(|e| RepositoryError::git(format!("open the git repository {}", self.0.git_dir.display()), e))?;
        *self.0.repo.lock().unwrap_or_else(PoisonError::into_inner) = again;
        Ok(())
    }

    /// Where a local ref points.
    pub(super) fn local_ref(&self, name: &str) -> Result<Option<Oid>> {
        match self.with(|repo| repo.refname_to_id(name)) {
            Ok(oid) => Ok(Some(oid)),
            Err(e) if e.code() == ErrorCode::NotFound => Ok(None),
            Err(e) => Err(RepositoryError::git(format!("read the ref {name}"), e)),
        }
    }

    /// Moves a local ref from what was seen to something else (`None`: no such ref); false when it was moved meanwhile.
    pub(super) fn move_local_ref(&self, name: &str, seen: Option<Oid>, to: Option<Oid>) -> Result<bool> {
        let moved = self.with(|repo| match (seen, to) {
            (None, None) => Ok(()),
            (None, Some(to)) => repo.reference(name, to, false, "piton").map(drop),
            (Some(seen), Some(to)) => repo.reference_matching(name, to, true, seen, "piton").map(drop),
            (Some(seen), None) => match repo.find_reference(name) {
                // libgit2 checks on deletion that the ref is still as it was found.
                Ok(mut found) if found.target() == Some(seen) => found.delete(),
                Ok(_) => Err(git2::Error::new(ErrorCode::Modified, git2::ErrorClass::Reference, "moved")),
                Err(e) => Err(e),
            },
        });
        match moved.map_err(|e| (e.code(), e)) {
            Ok(()) => Ok(true),
            Err((ErrorCode::Modified | ErrorCode::Exists | ErrorCode::NotFound | ErrorCode::Locked, _)) => Ok(false),
            Err((_, e)) => Err(RepositoryError::git(format!("move the ref {name}"), e)),
        }
    }
}

fn missing(repo: &git2::Repository, tips: Vec<(String, Oid)>) -> Vec<(String, Oid)> {
    tips.into_iter().filter(|(_, tip)| repo.find_commit(*tip).is_err()).collect()
}

/// libgit2 refuses these with a riddle, or worse, reads them wrongly.
fn refuse_unsupported(git_dir: &Path) -> Result<()> {
    let common = std::fs::read_to_string(git_dir.join("commondir")).map(|c| git_dir.join(c.trim()));
    let config = common.unwrap_or_else(|_| git_dir.to_owned()).join("config");
    let Ok(config) = git2::Config::open(&config) else { return Ok(()) };
    let value = |key: &str| config.get_string(key).ok().map(|v| v.to_lowercase());
    let what = if let Some(format) = value("extensions.objectformat").filter(|f| f != "sha1") {
        format!("names its objects by {format}")
    } else if value("extensions.partialclone").is_some() || has_promisor(&config) {
        "is a partial clone".to_owned()
    } else if let Some(storage) = value("extensions.refstorage").filter(|s| s != "files") {
        format!("keeps its refs in the form `{storage}`")
    } else {
        return Ok(());
    };
    Err(RepositoryError::Unsupported { dir: git_dir.display().to_string(), what })
}

/// Whether some remote has promised objects that are not here.
fn has_promisor(config: &git2::Config) -> bool {
    let Ok(mut entries) = config.entries(Some(r"^remote\..*\.promisor$")) else { return false };
    let mut promised = false;
    while let Some(Ok(entry)) = entries.next() {
        promised |= entry.value().is_ok_and(|value| value == "true");
    }
    promised
}

enum Line {
    /// Oldest first.
    Whole(Vec<Oid>),
    /// A shallow clone ended first.
    CutOff,
    /// The two have no commit in common.
    Apart,
}

fn first_parent_line(
    repo: &git2::Repository,
    since: Option<Oid>,
    to: Oid,
    most: usize,
) -> std::result::Result<Line, git2::Error> {
    let cut: HashSet<Oid> = shallow_ends(repo);
    let held = match since {
        Some(since) if is_on_line(repo, since, to)? => HashSet::from([since]),
        Some(since) => ancestors(repo, since)?,
        None => HashSet::new(),
    };
    let mut line = Vec::new();
    let mut next = Some(to);
    while let Some(oid) = next.filter(|oid| !held.contains(oid)) {
        line.push(oid);
        if since.is_none() && line.len() == most {
            next = None;
        } else if cut.contains(&oid) {
            return Ok(Line::CutOff);
        } else {
            next = repo.find_commit(oid)?.parent_ids().next();
        }
    }
    if since.is_some() && next.is_none() {
        return Ok(Line::Apart);
    }
    line.reverse();
    line.truncate(most);
    Ok(Line::Whole(line))
}

/// Whether `since` is a first parent somewhere below `to`: then nothing else needs to be read.
fn is_on_line(repo: &git2::Repository, since: Oid, to: Oid) -> std::result::Result<bool, git2::Error> {
    let mut next = Some(to);
    while let Some(oid) = next {
        if oid == since {
            return Ok(true);
        }
        next = repo.find_commit(oid)?.parent_ids().next().filter(|parent| repo.find_commit(*parent).is_ok());
    }
    Ok(false)
}

fn ancestors(repo: &git2::Repository, of: Oid) -> std::result::Result<HashSet<Oid>, git2::Error> {
    if repo.find_commit(of).is_err() {
        // A shallow clone may not reach so far down; it is deepened until it does, or ends.
        return Ok(HashSet::from([of]));
    }
    let mut walk = repo.revwalk()?;
    walk.push(of)?;
    walk.collect()
}

/// The commits at which a shallow clone ends: their parents exist, but not here.
pub(super) fn shallow_ends(repo: &git2::Repository) -> HashSet<Oid> {
    if !repo.is_shallow() {
        return HashSet::new();
    }
    let text = std::fs::read_to_string(repo.commondir().join("shallow")).unwrap_or_default();
    text.lines().filter_map(|line| Oid::from_str(line.trim()).ok()).collect()
}

fn describe_commits(repo: &git2::Repository, commits: &[Oid]) -> Result<Vec<SourceCommit>> {
    let read = |oid: &Oid| -> Result<SourceCommit> {
        let commit = repo.find_commit(*oid).map_err(|e| RepositoryError::git(format!("read commit {oid}"), e))?;
        Ok(SourceCommit {
            id: commit_id(*oid)?,
            tree: tree_id(commit.tree_id())?,
            at: Stamp(commit.time().seconds().saturating_mul(1_000)),
            subject: String::from_utf8_lossy(commit.summary_bytes().unwrap_or_default()).into_owned(),
            author: author_of(&commit),
        })
    };
    commits.iter().map(read).collect()
}

/// Who wrote a commit, as far as its text allows.
pub(super) fn author_of(commit: &git2::Commit<'_>) -> Actor {
    let author = commit.author();
    let text: String =
        String::from_utf8_lossy(author.name_bytes()).chars().filter(|c| !c.is_control()).take(200).collect();
    Actor::new(if text.trim().is_empty() { "unknown" } else { text.trim() }).expect("it has no control character")
}

pub(super) fn parse_oid(text: &str) -> Result<Oid> {
    Oid::from_str(text).map_err(|e| RepositoryError::git(format!("read the id {text}"), e))
}

pub(super) fn commit_id(oid: Oid) -> Result<CommitId> {
    CommitId::new(oid.to_string()).map_err(wrong_id)
}

pub(super) fn tree_id(oid: Oid) -> Result<TreeId> {
    TreeId::new(oid.to_string()).map_err(wrong_id)
}

fn wrong_id(error: NameError) -> RepositoryError {
    RepositoryError::git("read an id that git gave", error)
}
