#![doc = include_str!("README.md")]

mod abort;
mod approve;
mod drift;
mod extend;
mod freeze;
mod pin;
mod quarantine;
mod rollback;
mod serve;
mod unfreeze;
mod unpin;
mod words;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use abort::{Abort, abort};
pub use approve::{Approve, approve};
pub use drift::{Drift, accept, drop_drift, marks};
pub use extend::{Extend, extend};
pub use freeze::{Freeze, freeze};
pub use pin::{Pin, pin};
pub use quarantine::{QuarantineArgs, quarantine, unquarantine};
pub use rollback::{Rollback, To, quarantine_of};
pub use serve::{Follow, FollowName, LeaseName, Serve};
pub use unfreeze::{Unfreeze, unfreeze};
pub use unpin::{Unpin, unpin};
pub use words::{Assignment, Until};

use crate::{
    model::{ComponentName, EnvironmentName},
    pipeline::Pipeline,
};

/// Promotes small version bumps behind health gates, and goes back by itself to the last known-good commit.
#[derive(Debug, Parser)]
#[command(name = "piton", version, propagate_version = true, disable_help_subcommand = true, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 a gate failed and the rollback succeeded, 2 usage or configuration, 3 changes pending (plan, drift),
4 refused by policy, 5 stuck: page someone, 75 try again (the world is in the way, not the release).
At 3 a.m.: `piton status`, then `piton rollback production`.";

/// What every command understands.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Print one line of JSON at the end instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// The pipeline file; by default the only one in `pipelines/`.
    #[arg(short, long, global = true, value_name = "FILE", env = "PITON_PIPELINE")]
    pub pipeline: Option<std::path::PathBuf>,
    /// Work in this folder of the deploy repository.
    #[arg(short = 'C', long = "dir", global = true, value_name = "DIR")]
    pub dir: Option<std::path::PathBuf>,
    /// When to use colours.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// In whose name; by default the CI's actor or git's user.
    #[arg(long = "as", global = true, value_name = "WHO", env = "PITON_ACTOR")]
    pub actor: Option<String>,
    /// Where targets keep their files on this machine.
    #[arg(long, global = true, value_name = "DIR", env = "PITON_STATE_DIR")]
    pub state_dir: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the pipeline file.
    Check(Check),
    /// Show the smallest next step, and what it would do.
    Plan(PlanArgs),
    /// Take the next step into an environment, and see it through.
    Promote(Promote),
    /// Do what is due now, then exit; for a schedule.
    Tick(Tick),
    /// Go back to the last known good: needs no gate, no metrics and no git host.
    Rollback(Rollback),
    /// Exactly this version, in this environment, until then.
    Pin(Pin),
    /// End a pin.
    Unpin(Unpin),
    /// Anything but this version; or end such a quarantine.
    Quarantine(QuarantineArgs),
    /// Let nothing new in until then; the way back stays open.
    Freeze(Freeze),
    /// End a freeze.
    Unfreeze(Unfreeze),
    /// Approve the promotion that waits for it.
    Approve(Approve),
    /// Give the investigation of a bad sign more time.
    Extend(Extend),
    /// Undo the promotion that is under way.
    Abort(Abort),
    /// Follow deploy repositories and carry all their environments on, for good; in a cluster or anywhere.
    Serve(Serve),
    /// Compare what is live with what was deployed, and decide on what differs.
    Drift(Drift),
    /// Where every environment stands, what is held back and what is waited for.
    Status(Status),
    /// What happened, newest first.
    History(History),
    /// One promotion, whole.
    Show(Show),
    /// Help on a word of the pipeline file, with an example.
    Explain(Explain),
    /// The main job on this machine, with real processes and no network.
    Demo(Demo),
    /// Change one value in a file, and nothing else.
    Edit(EditArgs),
    /// Completions for a shell.
    Completions(Completions),
    /// The process that keeps an environment's services running.
    #[command(hide = true)]
    Supervise(Supervise),
    /// The sample service.
    #[command(hide = true)]
    Sample(Sample),
}

#[derive(Debug, Args)]
pub struct Check {
    /// Print the JSON Schema of pipeline files, for editors.
    #[arg(long)]
    pub schema: bool,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    pub environment: EnvironmentName,
    /// To this commit, all at once.
    #[arg(long, value_name = "COMMIT")]
    pub to: Option<String>,
    /// Show the whole difference of every file.
    #[arg(long)]
    pub diff: bool,
}

#[derive(Debug, Args)]
pub struct Promote {
    pub environment: EnvironmentName,
    /// To this commit, all at once, instead of the smallest next step.
    #[arg(long, value_name = "COMMIT")]
    pub to: Option<String>,
    /// Wait also for approvals, windows and the end of a freeze.
    #[arg(long)]
    pub wait: bool,
    /// Stay until the watch after the promotion is over.
    #[arg(long)]
    pub watch: bool,
    /// Go on with the next step as long as there is one and all goes well.
    #[arg(long)]
    pub all: bool,
    /// Go on although nobody could prove that there is a way back from it.
    #[arg(long, value_name = "REASON")]
    pub without_way_back: Option<String>,
    /// Try at once although automation rests after a failure of the world; outside of CI jobs a person is taken to mean that.
    #[arg(long)]
    pub now: bool,
    /// Begin, do what is due now, and leave the rest to `tick`.
    #[arg(long, conflicts_with_all = ["wait", "watch", "all"])]
    pub no_wait: bool,
}

#[derive(Debug, Args)]
pub struct Tick {
    /// Only these environments; by default all.
    pub environments: Vec<EnvironmentName>,
    /// Also begin the next step where nothing is under way.
    #[arg(long)]
    pub promote: bool,
}

#[derive(Debug, Args)]
pub struct Status {
    pub environment: Option<EnvironmentName>,
    /// Do not ask the git host: show what was seen last.
    #[arg(long)]
    pub offline: bool,
}

#[derive(Debug, Args)]
pub struct History {
    pub environment: EnvironmentName,
    /// How many promotions.
    #[arg(short = 'n', long, default_value_t = 20)]
    pub most: usize,
    #[arg(long)]
    pub component: Option<ComponentName>,
}

#[derive(Debug, Args)]
pub struct Show {
    pub environment: EnvironmentName,
    /// Its number, as in `#12`; by default the newest.
    pub attempt: Option<String>,
    /// Write a picture of its gates to this SVG file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<std::path::PathBuf>,
    /// As Markdown with pictures in text, for a CI summary.
    #[arg(long)]
    pub markdown: bool,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// `gate`, `target`, `channel`, `component`, `environment`… by default what there is.
    pub topic: Option<String>,
    /// A kind: `kernel`, `process`…
    pub kind: Option<String>,
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Where to build it; a new folder by default.
    pub dir: Option<std::path::PathBuf>,
    /// Leave the environments running at the end.
    #[arg(long)]
    pub keep: bool,
}

#[derive(Debug, Args)]
pub struct EditArgs {
    pub file: std::path::PathBuf,
    /// Where the value stands: `a.b[name=x].version`.
    pub path: String,
    pub value: String,
    /// What must stand there now.
    #[arg(long, value_name = "OLD")]
    pub from: Option<String>,
    /// The path is a regular expression whose first group is the value.
    #[arg(long)]
    pub pattern: bool,
    /// Only the tag of an image reference.
    #[arg(long)]
    pub tag: bool,
}

#[derive(Debug, Args)]
pub struct Completions {
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct Supervise {
    /// The environment's folder on this machine.
    #[arg(long = "state", value_name = "DIR")]
    pub state: std::path::PathBuf,
}

#[derive(Debug, Args)]
pub struct Sample {
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// The address to listen on; in a pod that others reach it is `0.0.0.0`.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: core::net::IpAddr,
    /// The file of the release with name, version and behaviours.
    #[arg(long, required_unless_present = "idle")]
    pub file: Option<std::path::PathBuf>,
    /// Another service that `/work` asks for its part.
    #[arg(long, value_name = "URL")]
    pub call: Vec<String>,
    /// Do nothing until killed.
    #[arg(long)]
    pub idle: bool,
}

/// Why a command cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Usage(String),
    /// Policy says no: exit code 4.
    #[error("{0}")]
    Policy(String),
}

/// Refuses a component that the pipeline does not have.
pub fn known(component: &ComponentName, pipeline: &Pipeline) -> Result<(), Refusal> {
    if pipeline.components.contains_key(component) {
        return Ok(());
    }
    let names = pipeline.components.keys().map(ComponentName::as_str).collect::<Vec<_>>().join("`, `");
    Err(Refusal::Usage(format!("unknown component `{component}`; known are `{names}`")))
}

/// Every intervention says why.
pub fn reason(text: &str) -> Result<String, Refusal> {
    // It is shown in terminals: control characters have no business there.
    let unseen = |c: char| c.is_whitespace() || c.is_control();
    let line = text.split(unseen).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.is_empty() {
        true => Err(Refusal::Usage("the reason is empty; say why in a few words: `--reason \"…\"`".to_owned())),
        false => Ok(line),
    }
}

#[cfg(test)]
mod tests;
