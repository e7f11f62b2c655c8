//! The one place where errors become words and exit codes.

use serde_json::{Map, Value, json};

use crate::{
    commands::Refusal,
    ledger::{LedgerError, RepositoryError},
    pipeline,
    planner::PlanError,
    rack::{NotBegun, SocketsError, StepError},
    runner::{RunnerError, sentence},
    targets::TargetError,
};

// The exit codes are a promise to scripts.
pub const DONE: u8 = 0;
pub const ROLLED_BACK: u8 = 1;
pub const USAGE: u8 = 2;
pub const PENDING: u8 = 3;
pub const REFUSED: u8 = 4;
pub const STUCK: u8 = 5;
pub const TRY_AGAIN: u8 = 75;

/// How grave an exit code is: stuck before rolled back before everything that only has to be tried again.
pub fn gravity(code: u8) -> usize {
    [DONE, PENDING, TRY_AGAIN, REFUSED, USAGE, ROLLED_BACK, STUCK].iter().position(|c| *c == code).unwrap_or(0)
}

/// The version of the JSON line.
pub const SCHEMA_VERSION: u32 = 1;

/// How a command ended, when it did what it could.
#[derive(Debug, Clone)]
pub struct Answer {
    pub code: u8,
    /// `complete`, `continue`, `stop` or `failure`.
    pub decision: &'static str,
    pub reason_code: &'static str,
    pub facts: Map<String, Value>,
}

/// Why a command could not do what was asked.
#[derive(Debug, Clone)]
pub struct Failure {
    pub code: u8,
    pub reason_code: &'static str,
    pub message: String,
    pub hint: Option<String>,
    /// The message is a picture of a file with the fault underlined, and stands for itself.
    pub rendered: bool,
    /// The faults of a file, each with its place, for scripts.
    pub faults: Option<Value>,
}

impl Answer {
    pub fn done(reason_code: &'static str) -> Answer {
        Answer::new(DONE, "complete", reason_code)
    }

    pub fn new(code: u8, decision: &'static str, reason_code: &'static str) -> Answer {
        Answer { code, decision, reason_code, facts: Map::new() }
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Answer {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// The JSON line.
    pub fn line(&self) -> String {
        let mut line = Map::new();
        line.insert("schema_version".to_owned(), json!(SCHEMA_VERSION));
        line.insert("decision".to_owned(), json!(self.decision));
        line.insert("reason_code".to_owned(), json!(self.reason_code));
        line.insert("exit_code".to_owned(), json!(self.code));
        line.extend(self.facts.clone());
        Value::Object(line).to_string()
    }
}

impl Failure {
    fn new(code: u8, reason_code: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, reason_code, message: message.into(), hint: None, rendered: false, faults: None }
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(USAGE, "usage", message)
    }

    pub fn refused(reason_code: &'static str, message: impl Into<String>) -> Failure {
        Failure::new(REFUSED, reason_code, message)
    }

    pub fn stuck(message: impl Into<String>) -> Failure {
        Failure::new(STUCK, "stuck", message)
    }

    pub fn try_again(reason_code: &'static str, message: impl Into<String>) -> Failure {
        Failure::new(TRY_AGAIN, reason_code, message)
    }

    /// Something of this machine is in the way: a disk, a permission.
    pub fn world(doing: &str, error: &dyn std::error::Error) -> Failure {
        Failure::new(USAGE, "world", format!("{doing}: {}", sentence(error)))
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// What a script is to make of it.
    pub fn decision(&self) -> &'static str {
        if self.code == TRY_AGAIN { "continue" } else { "failure" }
    }

    /// The same as a JSON line.
    pub fn line(&self) -> String {
        let mut answer =
            Answer::new(self.code, self.decision(), self.reason_code).with("message", self.message.clone());
        if let Some(hint) = &self.hint {
            answer = answer.with("hint", hint.clone());
        }
        if let Some(faults) = &self.faults {
            answer = answer.with("faults", faults.clone());
        }
        answer.line()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        match refusal {
            Refusal::Usage(message) => Failure::usage(message),
            Refusal::Policy(message) => Failure::refused("policy", message),
        }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Failure {
        let message = sentence(&error);
        let failure = match &error {
            LedgerError::Lost { .. } => Failure::try_again("lost_race", message),
            LedgerError::Unreachable { .. } => Failure::try_again("unreachable", message),
            LedgerError::Refused { .. } => Failure::try_again("push_refused", message),
            LedgerError::Rewritten { .. } | LedgerError::Vanished { .. } => Failure::new(STUCK, "rewritten", message),
            LedgerError::Newer { .. } => Failure::usage(message),
            LedgerError::Unsigned { .. } => Failure::refused("unsigned", message),
            LedgerError::Git { .. } => Failure::try_again("git", message),
        };
        Failure { hint: error.hint().map(str::to_owned), ..failure }
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Failure {
        let message = sentence(&error);
        let failure = match &error {
            RepositoryError::Unreachable { .. } => Failure::try_again("unreachable", message),
            RepositoryError::Missing { .. }
            | RepositoryError::Unsupported { .. }
            | RepositoryError::Prefix(_)
            | RepositoryError::Absent { .. }
            | RepositoryError::CheckedOut { .. }
            | RepositoryError::Shallow { .. }
            | RepositoryError::Git { .. } => Failure::new(USAGE, "repository", message),
        };
        Failure { hint: error.hint(), ..failure }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Failure {
        let message = sentence(&error);
        match &error {
            PlanError::NoFile { .. } | PlanError::NoValue { .. } => Failure::new(USAGE, "component", message)
                .hint("compare the component's `file` and `path` in the pipeline file with the deploy repository"),
            PlanError::Edit { source, .. } => {
                Failure { hint: source.hint(), ..Failure::new(USAGE, "component", message) }
            }
            PlanError::Quarantined { component, version, .. } => Failure::refused("quarantine", message).hint(format!(
                "`piton quarantine {component}={version} --end --in ENV --reason \"…\"` lets it in again"
            )),
            PlanError::QuarantinedContent { commit, .. } => Failure::refused("quarantine", message).hint(format!(
                "commit a change that takes it back, or end it: `piton quarantine {} --end --in ENV --reason \"…\"`",
                commit.short()
            )),
            PlanError::Invariant { .. } => Failure::refused("invariant", message)
                .hint("change the values, or the invariant in the pipeline file; `piton explain invariant` says more"),
            PlanError::InvariantUnread { source, .. } => {
                Failure { hint: source.hint(), ..Failure::new(USAGE, "invariant", message) }
            }
            PlanError::Trees(_) => Failure::new(TRY_AGAIN, "git", message),
        }
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Failure {
        match error {
            StepError::Ledger(error) => error.into(),
            StepError::Repository(error) => error.into(),
            StepError::Plan(error) => error.into(),
            StepError::NoCommit(_) => Failure::usage(error.to_string()),
        }
    }
}

impl From<NotBegun> for Failure {
    fn from(why: NotBegun) -> Failure {
        let message = why.to_string();
        match why {
            NotBegun::Stuck { advice, .. } => Failure::stuck(message).hint(advice),
            NotBegun::Foreign { environment, .. } => Failure::refused("foreign_commit", message).hint(format!(
                "make the change on the source branch; `piton rollback {environment}` drops it and restores the \
                 known-good release"
            )),
        }
    }
}

impl From<SocketsError> for Failure {
    fn from(error: SocketsError) -> Failure {
        match error {
            SocketsError::Target(error) => error.into(),
            SocketsError::Unknown { .. } | SocketsError::Channel { .. } => Failure::usage(error.to_string()),
        }
    }
}

impl From<RunnerError> for Failure {
    fn from(error: RunnerError) -> Failure {
        match error {
            RunnerError::Ledger(error) => error.into(),
            RunnerError::Races(_) => Failure::try_again("lost_race", error.to_string()),
        }
    }
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Failure {
        Failure::new(STUCK, "target", sentence(&error))
    }
}

impl From<pipeline::Refusal> for Failure {
    fn from(refusal: pipeline::Refusal) -> Failure {
        let rendered = Failure::new(USAGE, "pipeline", refusal.render(false));
        Failure { rendered: true, faults: Some(refusal.to_json()), ..rendered }
    }
}

/// An error with its causes, on one line.
pub fn words(error: &dyn std::error::Error) -> String {
    sentence(error)
}
