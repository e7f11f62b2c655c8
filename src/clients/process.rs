//! Runs programs: a clean environment, a deadline, a whole process group killed at it, output captured with a limit
//! and with secrets taken out.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    task::JoinHandle,
};

use super::secrets;
use crate::model::Span;

/// A program and its arguments, as a pipeline file names them; never empty.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
#[schemars(with = "Vec<String>")]
pub struct Argv(Vec<String>);

impl Argv {
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for Argv {
    type Error = &'static str;
    fn try_from(argv: Vec<String>) -> Result<Argv, &'static str> {
        match argv.first().is_some_and(|program| !program.trim().is_empty()) {
            true => Ok(Argv(argv)),
            false => Err("there is no command to run; write a list such as `[./check.sh, \"${url}\"]`"),
        }
    }
}

impl From<Argv> for Vec<String> {
    fn from(argv: Argv) -> Vec<String> {
        argv.0
    }
}

/// A program to run.
#[derive(Debug, Clone)]
pub struct Program {
    pub argv: Vec<String>,
    pub dir: Option<PathBuf>,
    /// Added to the clean environment.
    pub env: BTreeMap<String, String>,
    /// Variables taken over from our own environment or their files, when set there. Their values are secrets: they are taken out of
    /// the output.
    pub secrets: Vec<String>,
    /// Our own whole environment instead of a clean one; for `git`, which needs the runner's credentials.
    pub inherit_env: bool,
    pub input: Vec<u8>,
    pub timeout: Span,
    /// What is kept of each output stream, at its end; the rest is counted.
    pub output_kept_bytes: usize,
}

/// Variables every program gets, when they are set: without them hardly any tool starts.
const KEPT_VARIABLES: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
];

/// Those of the variables above that are set.
pub fn kept_environment() -> impl Iterator<Item = (&'static str, String)> {
    KEPT_VARIABLES.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?)))
}

/// What is kept of each output stream where nothing else is said.
pub const OUTPUT_KEPT_BYTES: usize = 64 * 1024;

/// How a program ended.
#[derive(Debug, Clone)]
pub struct Ran {
    pub ending: RanEnding,
    /// The last part of what it printed, secrets taken out, invalid UTF-8 replaced.
    pub stdout: String,
    pub stderr: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RanEnding {
    Exit(i32),
    Signal(i32),
    /// Killed, with all of its process group, at the deadline.
    TimedOut(Span),
}

/// The program could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("there is no command to run")]
    Empty,
    #[error("cannot start `{program}`")]
    Start {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("lost `{program}` while waiting for it")]
    Wait {
        program: String,
        #[source]
        source: std::io::Error,
    },
}

impl Ran {
    pub fn succeeded(&self) -> bool {
        self.ending == RanEnding::Exit(0)
    }

    /// One sentence on how it ended, with the last line it said.
    pub fn sentence(&self, program: &str) -> String {
        let ending = match &self.ending {
            RanEnding::Exit(code) => format!("`{program}` exited with {code}"),
            RanEnding::Signal(signal) => format!("`{program}` was killed by signal {signal}"),
            RanEnding::TimedOut(after) => format!("`{program}` was killed after its time-out of {after}"),
        };
        let last = |text: &str| {
            let lines = || text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
            // What a program calls its error says more than the advice after it.
            let error = lines().find(|line| line.starts_with("fatal:") || line.starts_with("error:"));
            error.or_else(|| lines().next()).map(str::to_owned)
        };
        match last(&self.stderr).or_else(|| last(&self.stdout)) {
            Some(line) if line.chars().count() > 300 => {
                format!("{ending}: {}…", line.chars().take(300).collect::<String>())
            }
            Some(line) => format!("{ending}: {line}"),
            None => ending,
        }
    }
}

impl Program {
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>, timeout: Span) -> Program {
        Program {
            argv: argv.into_iter().map(Into::into).collect(),
            dir: None,
            env: BTreeMap::new(),
            secrets: Vec::new(),
            inherit_env: false,
            input: Vec::new(),
            timeout,
            output_kept_bytes: OUTPUT_KEPT_BYTES,
        }
    }

    pub fn in_dir(mut self, dir: &Path) -> Program {
        self.dir = Some(dir.to_owned());
        self
    }

    pub fn name(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// Runs it to its end or its deadline; either way nothing of its process group is left behind.
    pub async fn run(&self) -> Result<Ran, ProcessError> {
        let redaction = Redaction::of_variables(&self.secrets);
        let mut child = self.start()?;
        // Grandchildren may outlive the leader and hold the pipes open: the whole group goes in every case, also when
        // this future is dropped.
        let group = Group::of(&child);
        if let Some(mut stdin) = child.stdin.take() {
            let input = self.input.clone();
            // A program that does not read its input is no fault; the write then fails and is forgotten.
            tokio::spawn(async move {
                let _ = stdin.write_all(&input).await;
            });
        }
        let stdout = Tail::of(child.stdout.take(), self.output_kept_bytes);
        let stderr = Tail::of(child.stderr.take(), self.output_kept_bytes);
        let waited = tokio::time::timeout(self.timeout.as_duration(), child.wait()).await;
        drop(group);
        let ending = match waited {
            Ok(status) => {
                let status = status.map_err(|source| ProcessError::Wait { program: self.name().to_owned(), source })?;
                match (status.code(), status.signal()) {
                    (Some(code), _) => RanEnding::Exit(code),
                    (None, signal) => RanEnding::Signal(signal.unwrap_or(0)),
                }
            }
            Err(_) => {
                let _ = child.wait().await;
                RanEnding::TimedOut(self.timeout)
            }
        };
        let text = |bytes: Vec<u8>| redaction.apply(&String::from_utf8_lossy(&bytes));
        let (stdout, stderr) = tokio::join!(stdout.end(), stderr.end());
        Ok(Ran { ending, stdout: text(stdout), stderr: text(stderr) })
    }

    fn start(&self) -> Result<Child, ProcessError> {
        let (program, arguments) = self.argv.split_first().ok_or(ProcessError::Empty)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        if !self.inherit_env {
            command.env_clear();
            command.envs(kept_environment());
            command.envs(self.secrets.iter().filter_map(|name| Some((name, secrets::value(name).ok()?))));
        }
        command.envs(&self.env).process_group(0).kill_on_drop(true);
        command.spawn().map_err(|source| ProcessError::Start { program: program.clone(), source })
    }
}

/// A process group that is killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    /// The group that the child leads, because it was started as a leader.
    fn of(child: &Child) -> Group {
        Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Already gone is what we want.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// How long what a program printed is waited for after its end. Somebody who left its group may hold the pipe for hours.
const PIPE_WITHIN: Duration = Duration::from_secs(2);

/// The last part of a stream, read as it comes.
struct Tail {
    kept: Arc<Mutex<Kept>>,
    reading: JoinHandle<()>,
}

struct Kept {
    bytes: Vec<u8>,
    /// How many were before these.
    dropped: usize,
    most: usize,
}

impl Tail {
    fn of(stream: Option<impl AsyncRead + Unpin + Send + 'static>, most: usize) -> Tail {
        let kept = Arc::new(Mutex::new(Kept { bytes: Vec::new(), dropped: 0, most }));
        let shared = kept.clone();
        let reading = tokio::spawn(async move {
            let Some(mut stream) = stream else { return };
            let mut chunk = vec![0; 16 * 1024];
            while let Ok(n @ 1..) = stream.read(&mut chunk).await {
                shared.lock().unwrap_or_else(PoisonError::into_inner).push(&chunk[..n]);
            }
        });
        Tail { kept, reading }
    }

    /// What there is when the stream ends, or soon after the program did.
    async fn end(mut self) -> Vec<u8> {
        let _ = tokio::time::timeout(PIPE_WITHIN, &mut self.reading).await;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Kept {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * self.most {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let cut = self.bytes.len().saturating_sub(self.most);
        self.bytes.drain(..cut);
        self.dropped += cut;
    }

    fn take(&mut self) -> Vec<u8> {
        self.cut();
        let kept = std::mem::take(&mut self.bytes);
        match self.dropped {
            0 => kept,
            dropped => [format!("[{dropped} bytes before this]\n").into_bytes(), kept].concat(),
        }
    }
}

const LAST_LINES: usize = 6;
const LAST_CHARACTERS: usize = 800;

/// The last lines of a text that say something, in one line.
pub fn last_lines(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let kept = lines[lines.len().saturating_sub(LAST_LINES)..].join(" / ");
    let kept: String = kept.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let surplus = kept.chars().count().saturating_sub(LAST_CHARACTERS);
    let kept: String = kept.chars().skip(surplus).collect();
    (!kept.is_empty()).then_some(kept)
}

/// Takes secrets out of text.
#[derive(Debug, Clone, Default)]
pub struct Redaction(Arc<Vec<String>>);

/// A shorter value would blank out ordinary words.
const SECRET_LENGTH_MIN: usize = 4;

impl Redaction {
    /// Hides the values that these environment variables have.
    pub fn of_variables(names: &[String]) -> Redaction {
        Redaction::of_values(names.iter().filter_map(|name| secrets::value(name).ok()))
    }

    pub fn of_values(values: impl IntoIterator<Item = String>) -> Redaction {
        let mut values: Vec<String> = values.into_iter().filter(|v| v.trim().len() >= SECRET_LENGTH_MIN).collect();
        // The longest first: a secret that contains another must not leave its rest behind.
        values.sort_by_key(|v| std::cmp::Reverse(v.len()));
        Redaction(Arc::new(values))
    }

    pub fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.trim(), "•••"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::new(["sh", "-c", script], Span::seconds(20))
    }

    #[tokio::test]
    async fn output_and_exit_code_are_kept() {
        let ran = shell("echo out; echo err >&2; exit 3").run().await.expect("sh is there");
        assert_eq!((ran.ending.clone(), ran.stdout.as_str()), (RanEnding::Exit(3), "out\n"));
        assert_eq!(ran.sentence("sh"), "`sh` exited with 3: err");
    }

    #[tokio::test]
    async fn a_time_out_kills_grandchildren() {
        let mut program = shell("sleep 300 & echo $!; wait");
        program.timeout = Span(300);
        let ran = program.run().await.expect("sh is there");
        assert_eq!(ran.ending, RanEnding::TimedOut(Span(300)));
        let pid: i32 = ran.stdout.trim().parse().expect("the script printed a pid");
        assert!(has_died(pid).await, "the grandchild {pid} lives");
    }

    #[tokio::test]
    async fn a_grandchild_that_holds_the_pipe_does_not_hold_us() {
        let ran = shell("sleep 300 & echo $!").run().await.expect("sh is there");
        assert_eq!(ran.ending, RanEnding::Exit(0));
        let pid: i32 = ran.stdout.trim().parse().expect("the script printed a pid");
        assert!(has_died(pid).await, "the grandchild {pid} lives");
    }

    #[tokio::test]
    async fn somebody_who_left_the_group_and_holds_the_pipe_does_not_hold_us() {
        let script = "setsid sleep 300 & p=$!
            until read -r _ _ _ _ _ session _ </proc/$p/stat && [ \"$session\" = $p ]; do :; done
            echo $p; exit 4";
        let ran = shell(script).run().await.expect("sh is there");
        assert_eq!(ran.ending, RanEnding::Exit(4));
        let pid: i32 = ran.stdout.trim().parse().expect("the script printed a pid");
        // It is not ours to kill, but this test's to clean up.
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is still there");
    }

    #[tokio::test]
    async fn the_environment_is_clean_and_bytes_are_made_text() {
        let ran = shell("env | grep -c '^CARGO'; printf 'a\\377b'").run().await.expect("sh is there");
        assert_eq!(ran.stdout, "0\na\u{fffd}b");
    }

    #[tokio::test]
    async fn huge_output_keeps_its_end() {
        let ran = shell("head -c 10000000 /dev/zero | tr '\\0' x; echo end").run().await.expect("sh is there");
        assert!(ran.stdout.ends_with("xend\n") && ran.stdout.starts_with("[99"), "{}", ran.stdout.len());
    }

    #[tokio::test]
    async fn a_missing_program_is_a_sentence() {
        let error = Program::new(["no-such-program-here"], Span::seconds(1)).run().await.expect_err("it is missing");
        assert_eq!(error.to_string(), "cannot start `no-such-program-here`");
    }

    #[test]
    fn secrets_are_taken_out_longest_first() {
        let redaction = Redaction::of_values(["hunter2".to_owned(), "hunter2-long".to_owned(), "ab".to_owned()]);
        assert_eq!(redaction.apply("x hunter2-long hunter2 ab"), "x ••• ••• ab");
    }

    /// A kill takes the kernel a moment; a zombie is dead.
    async fn has_died(pid: i32) -> bool {
        let runs = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while runs() && std::time::Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        !runs()
    }
}
