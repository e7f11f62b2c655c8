use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{until, until_or};

static RUNS: AtomicUsize = AtomicUsize::new(0);

/// The program at work.
pub struct Running {
    child: Child,
    words: String,
    out: PathBuf,
    err: PathBuf,
}

/// The program at its end.
#[derive(Debug)]
pub struct Ran {
    pub words: String,
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Running {
    pub fn start(mut command: Command, root: &Path, words: &[&str]) -> Running {
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        // Files, not pipes: what outlives the program must not hold us up.
        let (out, err) = (root.join(format!("out-{number}")), root.join(format!("err-{number}")));
        let file = |path: &Path| File::create(path).expect("room on the disk");
        command.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&err));
        let child = command.spawn().expect("the program starts");
        Running { child, words: words.join(" "), out, err }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
    }

    pub fn said(&self) -> String {
        read(&self.out)
    }

    /// Whether its errors or its log say this by now.
    pub fn complained(&mut self, text: &str) -> bool {
        read(&self.err).contains(text)
    }

    /// Waits until it has printed this.
    pub fn until_said(&mut self, text: &str) {
        until(&format!("`piton {}` to say {text:?}", self.words), || {
            let said = read(&self.out);
            if said.contains(text) {
                return Some(());
            }
            assert!(self.is_running(), "`piton {}` ended without {text:?}: {said}{}", self.words, read(&self.err));
            None
        });
    }

    pub fn wait(mut self) -> Ran {
        let what = format!("`piton {}` to end", self.words);
        let status = until_or(&what, || self.child.try_wait().expect("it is our child"), || read(&self.out));
        let ran = Ran {
            words: self.words.clone(),
            code: status.code(),
            signal: status.signal(),
            out: read(&self.out),
            err: read(&self.err),
        };
        for rude in ["panicked", "RUST_BACKTRACE", "Err(", "Some(", "Os {"] {
            assert!(!ran.out.contains(rude) && !ran.err.contains(rude), "{rude:?} in {ran}");
        }
        ran
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

impl Ran {
    /// It ended with this exit code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// It printed this for people.
    #[track_caller]
    pub fn says(self, text: &str) -> Ran {
        assert!(self.out.contains(text), "no {text:?} in {self}");
        self
    }

    /// Its error names this.
    #[track_caller]
    pub fn complains(self, text: &str) -> Ran {
        assert!(self.err.contains(text), "no {text:?} in the error of {self}");
        assert!(self.err.starts_with("error:"), "no sentence: {self}");
        self
    }

    /// The JSON line, whose promises are checked.
    #[track_caller]
    pub fn json(&self) -> Value {
        let line = self.out.lines().last().unwrap_or_default();
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {self}"));
        assert_eq!(self.out.lines().count(), 1, "one line: {self}");
        assert_eq!(value["schema_version"], 1, "{self}");
        assert_eq!(value["exit_code"], Value::from(self.code), "{self}");
        for key in ["decision", "reason_code"] {
            assert!(value[key].is_string(), "no {key} in {self}");
        }
        value
    }

    #[track_caller]
    pub fn reason(self, reason_code: &str) -> Ran {
        assert_eq!(self.json()["reason_code"], reason_code, "{self}");
        self
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ran { words, code, signal, out, err } = self;
        writeln!(f, "`piton {words}`: exit code {code:?}, signal {signal:?}\n--- stdout\n{out}\n--- stderr\n{err}")
    }
}
