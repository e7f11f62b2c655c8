//! Runs the `git` program for everything that leaves this machine: it knows the credential helpers, headers, keys and
//! proxies that the user or the CI runner has set up, and it alone can move several refs at once or not at all.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{LazyLock, OnceLock},
    time::{Duration, Instant},
};

use regex::Regex;
use tokio::sync::Semaphore;

use super::process::{ProcessError, Program, Ran};
use crate::model::Span;

/// A list of refs that was cut off would look like branches that are gone.
const OUTPUT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// More of them at once only hold each other up, and cost memory.
static AT_ONCE: Semaphore = Semaphore::const_new(16);

/// The `git` program on one repository.
#[derive(Debug, Clone)]
pub struct Git {
    git_dir: PathBuf,
    /// Relative remote paths are seen from here, as git itself does it.
    dir: PathBuf,
}

/// A ref to move on a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub name: String,
    pub to: String,
    pub lease: Lease,
}

/// What a remote ref must be for a move to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// Exactly this; `None`: the ref must not exist.
    Was(Option<String>),
    /// Anything: for a ref that only follows another one that is moved with it.
    Any,
}

/// How much history to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    Full,
    /// The newest so many commits; for a clone that is shallow already.
    Newest(u32),
    /// So many more behind the end of a shallow clone.
    Deeper(u32),
}

/// Why `git` did not do it.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("{0:?} cannot be a remote: it begins with `-`")]
    Remote(String),
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The far side did not answer, or not to the end: whether it did anything is unknown.
    #[error("{0}")]
    Failed(String),
    /// The far side answered, and said no to a ref.
    #[error("{0}")]
    Refused(String),
}

/// The end of one `git` command, credentials in addresses taken out.
#[derive(Debug, Clone)]
pub struct GitRan {
    pub ran: Ran,
    sentence: String,
}

impl Git {
    /// `dir` is the work tree, or the repository itself when it has none.
    pub fn new(git_dir: &Path, dir: &Path) -> Git {
        Git { git_dir: git_dir.to_owned(), dir: dir.to_owned() }
    }

    /// The refs of the remote among these full names, and where they point.
    pub async fn refs(
        &self,
        remote: &str,
        names: &[String],
        timeout: Span,
    ) -> Result<BTreeMap<String, String>, GitError> {
        let mut arguments = vec!["ls-remote".to_owned(), "--refs".to_owned(), checked(remote)?];
        arguments.extend(names.iter().cloned());
        let ran = self.run(arguments, timeout).await?.or_failed()?;
        let lines = ran.stdout.lines().filter_map(|line| line.split_once('\t'));
        // The names are patterns for git, which also match longer paths with the same end.
        let asked = lines.filter(|(_, name)| names.iter().any(|n| n == name));
        Ok(asked.map(|(id, name)| (name.to_owned(), id.to_owned())).collect())
    }

    /// All refs of the remote, and where they point.
    pub async fn all_refs(&self, remote: &str, timeout: Span) -> Result<BTreeMap<String, String>, GitError> {
        let arguments = vec!["ls-remote".to_owned(), "--refs".to_owned(), checked(remote)?];
        let ran = self.run(arguments, timeout).await?.or_failed()?;
        let lines = ran.stdout.lines().filter_map(|line| line.split_once('\t'));
        Ok(lines.map(|(id, name)| (name.to_owned(), id.to_owned())).collect())
    }

    /// Brings what these refs or ids of the remote point at; no local ref is changed.
    pub async fn fetch(&self, remote: &str, wants: &[String], depth: Depth, timeout: Span) -> Result<(), GitError> {
        let quiet = ["fetch", "--quiet", "--no-tags", "--refmap=", "--no-write-fetch-head"];
        let alone = ["--no-auto-maintenance", "--no-recurse-submodules", "--no-show-forced-updates"];
        let mut arguments: Vec<String> = quiet.iter().chain(&alone).map(|&a| a.to_owned()).collect();
        match depth {
            Depth::Full => {}
            Depth::Newest(commits) => arguments.push(format!("--depth={commits}")),
            Depth::Deeper(commits) => arguments.push(format!("--deepen={commits}")),
        }
        arguments.push(checked(remote)?);
        arguments.extend(wants.iter().cloned());
        self.run(arguments, timeout).await?.or_failed().map(drop)
    }

    /// Moves these refs of the remote, all of them or none.
    pub async fn push(&self, remote: &str, moves: &[Move], timeout: Span) -> Result<(), GitError> {
        // Not every host can do this, and one ref is moved or not in any case.
        let atomic = moves.len() > 1;
        let done = self.run(push_arguments(remote, moves, atomic)?, timeout).await?;
        if done.ran.succeeded() {
            return Ok(());
        }
        // In the porcelain form a line per ref begins with a flag; `!` is a refusal, whatever its reason.
        match done.ran.stdout.lines().find(|line| line.starts_with("!\t")) {
            Some(line) => Err(GitError::Refused(refusal(line, &done.ran.stderr))),
            None => Err(GitError::Failed(done.sentence)),
        }
    }

    /// Moves each of these refs for itself: one that is refused holds up no other. What became of each, in their order.
    pub async fn push_each(
        &self,
        remote: &str,
        moves: &[Move],
        timeout: Span,
    ) -> Result<Vec<Result<(), GitError>>, GitError> {
        let done = self.run(push_arguments(remote, moves, false)?, timeout).await?;
        let told: BTreeMap<&str, &str> =
            done.ran.stdout.lines().filter_map(|line| Some((moved(line)?, line))).collect();
        let one = |m: &Move| match told.get(m.name.as_str()) {
            Some(line) if line.starts_with('!') => Err(GitError::Refused(refusal(line, &done.ran.stderr))),
            Some(_) => Ok(()),
            None => Err(GitError::Failed(done.sentence.clone())),
        };
        Ok(moves.iter().map(one).collect())
    }

    /// Whether `git` finds a good signature of an allowed signer on a commit; the text says who, or why not.
    pub async fn verify(
        &self,
        commit: &str,
        signers: &Path,
        timeout: Span,
    ) -> Result<Result<String, String>, GitError> {
        let signers = format!("gpg.ssh.allowedSignersFile={}", signers.display());
        let arguments = ["-c", &signers, "-c", "gpg.format=ssh", "verify-commit", commit].map(str::to_owned);
        let done = self.run(arguments.to_vec(), timeout).await?;
        if done.ran.succeeded() {
            return Ok(Ok(done.ran.stderr.trim().to_owned()));
        }
        let said = done.ran.stderr.trim();
        Ok(Err(if said.is_empty() { "it has no signature".to_owned() } else { said.replace('\n', "; ") }))
    }

    async fn run(&self, arguments: Vec<String>, timeout: Span) -> Result<GitRan, GitError> {
        let name =
            format!("git {}", arguments.iter().find(|a| !a.starts_with('-') && !a.contains('=')).map_or("", |a| a));
        let mut program = Program::new(std::iter::once("git".to_owned()).chain(arguments), timeout).in_dir(&self.dir);
        program.inherit_env = true;
        program.output_kept_bytes = OUTPUT_BYTES_MAX;
        program.env = BTreeMap::from(
            [
                ("GIT_DIR", self.git_dir.display().to_string()),
                // A question that nobody can answer would hang until the deadline.
                ("GIT_TERMINAL_PROMPT", "0".to_owned()),
                ("SSH_ASKPASS_REQUIRE", "never".to_owned()),
                ("GCM_INTERACTIVE", "never".to_owned()),
                ("LC_ALL", "C".to_owned()),
                ("GIT_OPTIONAL_LOCKS", "0".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        // The time that it may take begins with its turn.
        let _turn = AT_ONCE.acquire().await;
        let began = Instant::now();
        let ran = program.run().await;
        if let (Some(observer), Some(operation)) = (OBSERVER.get(), operation(&name)) {
            observer(operation, began.elapsed(), ran.as_ref().is_ok_and(Ran::succeeded));
        }
        let mut ran = ran?;
        ran.stdout = without_credentials(&ran.stdout);
        ran.stderr = without_credentials(&ran.stderr);
        let sentence = ran.sentence(&name);
        Ok(GitRan { ran, sentence })
    }
}

/// Told of every use of the network: which, how long it took, and whether it succeeded.
type Observer = Box<dyn Fn(&'static str, Duration, bool) + Send + Sync>;

static OBSERVER: OnceLock<Observer> = OnceLock::new();

/// Has every use of the network counted. There is one observer; a second one hears nothing.
pub fn observe(observer: impl Fn(&'static str, Duration, bool) + Send + Sync + 'static) {
    let _ = OBSERVER.set(Box::new(observer));
}

fn operation(name: &str) -> Option<&'static str> {
    match name {
        "git ls-remote" => Some("look"),
        "git fetch" => Some("fetch"),
        "git push" => Some("push"),
        _ => None,
    }
}

impl GitRan {
    fn or_failed(self) -> Result<Ran, GitError> {
        if self.ran.succeeded() { Ok(self.ran) } else { Err(GitError::Failed(self.sentence)) }
    }
}

fn push_arguments(remote: &str, moves: &[Move], atomic: bool) -> Result<Vec<String>, GitError> {
    // The user's own pre-push hook is for the user's own pushes.
    let plain = ["push", "--porcelain", "--no-verify", "--recurse-submodules=no", "--no-follow-tags", "--no-signed"];
    let mut arguments: Vec<String> = plain.map(str::to_owned).to_vec();
    arguments.extend(atomic.then(|| "--atomic".to_owned()));
    for Move { name, lease, .. } in moves {
        if let Lease::Was(seen) = lease {
            arguments.push(format!("--force-with-lease={name}:{}", seen.as_deref().unwrap_or_default()));
        }
    }
    arguments.push(checked(remote)?);
    arguments.extend(moves.iter().map(|m| match m.lease {
        Lease::Was(_) => format!("{}:{}", m.to, m.name),
        Lease::Any => format!("+{}:{}", m.to, m.name),
    }));
    Ok(arguments)
}

/// The remote's ref that a line of a push's porcelain form is about: `FLAG FROM:TO SUMMARY`, parted by tabs.
fn moved(line: &str) -> Option<&str> {
    let mut parts = line.split('\t');
    let (flag, names) = (parts.next()?, parts.next()?);
    let (_, to) = names.split_once(':')?;
    (flag.len() == 1 && parts.next().is_some()).then_some(to)
}

/// Something that git takes for a remote and not for an option.
fn checked(remote: &str) -> Result<String, GitError> {
    match remote.starts_with('-') {
        true => Err(GitError::Remote(remote.to_owned())),
        false => Ok(remote.to_owned()),
    }
}

/// What a person needs of a refused push: what the server's hook printed, else git's own summary of the ref.
fn refusal(line: &str, stderr: &str) -> String {
    let hook: Vec<&str> = stderr.lines().filter_map(|l| l.strip_prefix("remote: ")).map(str::trim_end).collect();
    let summary = line.rsplit('\t').next().unwrap_or_default();
    match hook.is_empty() {
        true => summary.to_owned(),
        false => format!("{summary}: {}", hook.join("; ")),
    }
}

/// The text with user names, passwords and tokens in addresses taken out.
pub fn without_credentials(text: &str) -> String {
    static USER_INFO: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@]+@").expect("the pattern is fixed"));
    static PARAMETER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)([?&](?:[a-z_]*token|password|key)=)[^&\s']+").expect("the pattern is fixed")
    });
    PARAMETER.replace_all(&USER_INFO.replace_all(text, "$1•••@"), "$1•••").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_addresses_are_hidden() {
        let text =
            "fatal: unable to access 'https://bot:s3cr3t@git.example/x.git/': 403, see http://h/?private_token=abc&x=1";
        let hidden = without_credentials(text);
        assert_eq!(
            hidden,
            "fatal: unable to access 'https://•••@git.example/x.git/': 403, see http://h/?private_token=•••&x=1"
        );
        assert_eq!(without_credentials("git@host:x.git"), "git@host:x.git");
    }

    #[test]
    fn a_refusal_tells_what_the_hook_said() {
        let line = "!\tabc:refs/heads/x\t[remote rejected] (pre-receive hook declined)";
        assert_eq!(refusal(line, ""), "[remote rejected] (pre-receive hook declined)");
        let said = "remote: protected branch        \nerror: failed to push\n";
        assert_eq!(refusal(line, said), "[remote rejected] (pre-receive hook declined): protected branch");
    }

    #[test]
    fn a_push_tells_what_became_of_each_ref() {
        let line = |flag: char| format!("{flag}\tabc:refs/heads/piton/x\t[what became of it]");
        for flag in [' ', '*', '+', '=', '!'] {
            assert_eq!(moved(&line(flag)), Some("refs/heads/piton/x"), "{flag:?}");
        }
        for other in ["To /tmp/origin.git", "Done", "To https://git.example/x:y.git"] {
            assert_eq!(moved(other), None, "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_remote_is_never_an_option() {
        let git = Git::new(Path::new("."), Path::new("."));
        let error = git.refs("--upload-pack=touch x", &[], Span::seconds(1)).await.expect_err("it is an option");
        assert_eq!(error.to_string(), "\"--upload-pack=touch x\" cannot be a remote: it begins with `-`");
    }
}
