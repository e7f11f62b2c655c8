//! Any commands: what a team with `helm upgrade` or a deploy script uses.

mod config;
mod live;
mod memory;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use futures_util::future::BoxFuture;
use serde_json::Value;

use self::memory::{Held, Memory};
pub use self::{config::Config, live::shares_of};
use super::{
    Act, Difference, Done, Entry, Live, Rehearsal, Sights, Site, Target, TargetError, checkouts, compare::compare,
    template,
};
use crate::{
    clients::process::{Program, Ran, RanEnding, last_lines},
    model::{Portion, Release, Share, TreeId},
    pipeline::{Kind, Splits, TargetKind, checked},
};

/// The kind `command`.
pub const ENTRY: Entry = Entry {
    kind: TargetKind {
        kind: Kind {
            name: "command",
            about: "runs your own commands to deploy, to move users, and to go back",
            help: HELP,
            example: EXAMPLE,
            check: checked::<Config>,
            schema: |generator| generator.subschema_for::<Config>(),
        },
        splits,
    },
    build: |config, site| Ok(Box::new(CommandTarget::new(config, site)?)),
};

const HELP: &str = "\
Each command runs in a checkout of the release, with a clean environment, the listed `secrets`, and a time-out after which
all of its process group is killed. Every command may be run twice for the same release and must be fine with that.

`apply` deploys a release. With `weight`, which moves a share of the users, it is run first and must leave all users
where they are; then canary steps by share are possible. Without `weight`, `apply` is what moves users: it is run when they
are to be moved. With `members` (clusters, hubs) they are moved some at a time; a command that contains `${member}` is run
once for each, another one once with all of them in PITON_MEMBERS.

`rehearse` tries whether the release could be deployed again, without doing it (images that are there, a dry run); it runs before
a release becomes the only way back, and every day. Exit code 0: it could; 75: unknown; any other: its output says what is missing.

`rollback` goes back to PITON_TREE from PITON_FROM; without it, `apply` is run with the old release. `settle` takes down what the new
release replaced.

`live` prints what is really live, a line for each:
  TREE SHARE             such as `4b825dc642cb6eb9a060e54bf8d69288fbee4904 10%`
  member NAME TREE       with `members`
  fact KEY=VALUE         for gates: `${KEY}`, such as `fact url=https://hub.example`
  version NAME VERSION   a component's version, as it says itself
With it, drift is found: users elsewhere, or a version other than deployed. Without it, piton tells what it did last on
this machine. It runs in the folder of the release applied last on this machine.

Variables: PITON_ENVIRONMENT, PITON_TREE, PITON_SOURCE (the commit), PITON_SHARE (percent, such as `10` or `0.5`), PITON_MEMBERS (with spaces),
PITON_FENCE (grows with every new lease; a deploy that can compare it should refuse a lower one), PITON_RELEASE_DIR,
PITON_STATE_DIR (stays on this machine), PITON_FROM, and PITON_VERSION_COMPONENT for each component. In the commands themselves:
`${environment}`, `${tree}`, `${source}`, `${share}`, `${members}`, `${member}`, `${release}`, `${version.COMPONENT}`.

Exit code 75 means that the world around is at fault and trying again is worth it; any other but 0 from `apply` blames the release.";

const EXAMPLE: &str = "\
command:
  apply: [helm, upgrade, hub, ./chart, --install, --wait, --set, 'image.tag=${version.hub}']
  live: [./scripts/live.sh, '${environment}']
  secrets: [KUBECONFIG]
  timeout: 15m
";

/// By convention of sysexits: a temporary failure.
const TRY_AGAIN: i32 = 75;
/// How many checkouts stay on the disk.
const CHECKOUTS_KEPT: usize = 5;

fn splits(config: &Value) -> Splits {
    // The configuration was checked before; one that was not splits nothing.
    let config: Option<Config> = serde_json::from_value(config.clone()).ok();
    let by_share = config.as_ref().is_some_and(|config| config.weight.is_some());
    Splits { by_share, members: config.map(|config| config.members).unwrap_or_default(), ..Splits::default() }
}

/// A target that is reached by commands.
pub struct CommandTarget {
    config: Config,
    site: Site,
}

/// One run of one command.
struct Run<'a> {
    /// The key in the configuration.
    name: &'static str,
    argv: &'a [String],
    release: &'a Release,
    from: Option<&'a TreeId>,
    share: Option<Share>,
    members: Vec<String>,
    fence: u64,
}

impl CommandTarget {
    /// Takes a checked configuration.
    pub fn new(config: &Value, mut site: Site) -> Result<CommandTarget, TargetError> {
        let config = serde_json::from_value(config.clone())
            .map_err(|error| world("cannot read the configuration of the target `command`", error))?;
        site.state_dir = std::path::absolute(&site.state_dir)
            .map_err(|error| world(&format!("cannot find the folder {}", site.state_dir.display()), error))?;
        Ok(CommandTarget { config, site })
    }

    async fn perform_act(&self, act: &Act, fence: u64) -> Result<Done, TargetError> {
        let mut held = memory::hold(&self.site.state_dir, fence).await?;
        let note = match act {
            Act::Apply { release } => self.apply(release, fence, &mut held).await?,
            Act::Shift { release, to } => self.shift(release, to, fence, &mut held).await?,
            Act::Retreat { from, to: Some(to) } => self.retreat(from, to, fence, &mut held).await?,
            Act::Retreat { from, to: None } => self.take_out(from, fence, &mut held).await?,
            Act::Settle { keep } => self.settle(keep.as_ref(), fence, &mut held).await?,
        };
        self.prune(&held.memory).await;
        Ok(Done { note, renderer: None })
    }

    async fn apply(&self, release: &Release, fence: u64, held: &mut Held) -> Result<String, TargetError> {
        self.folder(&release.tree).await?;
        held.memory.trial = Some(release.tree.clone());
        held.keep()?;
        if self.config.weight.is_none() {
            return Ok(format!("release {} is checked out; its users move with `apply`", release.tree.short()));
        }
        let run = Run { members: self.config.members.clone(), ..Run::new("apply", &self.config.apply, release, fence) };
        self.run(run, held).await
    }

    async fn shift(&self, release: &Release, to: &Portion, fence: u64, held: &mut Held) -> Result<String, TargetError> {
        let done = match (to, &self.config.weight) {
            (Portion::Share(share), Some(weight)) => {
                let run = Run { share: Some(*share), ..Run::new("weight", weight, release, fence) };
                let done = self.run(run, held).await?;
                held.memory.shift(&release.tree, *share);
                done
            }
            (Portion::Share(share), None) if *share == Share::WHOLE => {
                let members = held.memory.members_without(&self.config.members, &release.tree);
                let run = Run { members, share: Some(*share), ..Run::new("apply", &self.config.apply, release, fence) };
                let done = self.run_unless_done(run, held).await?;
                held.memory.all_on(&release.tree, &self.config.members);
                done
            }
            (Portion::Share(share), None) => {
                let what = format!("cannot move {share} of the users: the target has no `weight` command");
                return Err(TargetError::World { what, source: None });
            }
            (Portion::Members(names), _) => {
                self.known_members(names)?;
                let run = Run { members: names.clone(), ..Run::new("apply", &self.config.apply, release, fence) };
                let done = self.run(run, held).await?;
                held.memory.members.extend(names.iter().map(|name| (name.clone(), release.tree.clone())));
                done
            }
        };
        held.keep()?;
        Ok(done)
    }

    async fn retreat(&self, from: &Release, to: &Release, fence: u64, held: &mut Held) -> Result<String, TargetError> {
        let members = held.memory.members_without(&self.config.members, &to.tree);
        let whole = Some(Share::WHOLE);
        let done = match (&self.config.rollback, &self.config.weight) {
            (Some(rollback), _) => {
                let run =
                    Run { from: Some(&from.tree), members, share: whole, ..Run::new("rollback", rollback, to, fence) };
                self.run(run, held).await?
            }
            (None, Some(weight)) => {
                // What is up already needs only the weight; `apply` says nothing new to it.
                let apply = Run { from: Some(&from.tree), members, ..Run::new("apply", &self.config.apply, to, fence) };
                let applied =
                    if held.memory.is_up(&to.tree) { String::new() } else { self.run(apply, held).await? + "; " };
                let run = Run { from: Some(&from.tree), share: whole, ..Run::new("weight", weight, to, fence) };
                applied + &self.run(run, held).await?
            }
            (None, None) => {
                let apply = Run::new("apply", &self.config.apply, to, fence);
                self.run_unless_done(Run { from: Some(&from.tree), members, share: whole, ..apply }, held).await?
            }
        };
        held.memory.all_on(&to.tree, &self.config.members);
        held.keep()?;
        Ok(done)
    }

    /// There is nothing to go back to.
    async fn take_out(&self, from: &Release, fence: u64, held: &mut Held) -> Result<String, TargetError> {
        let run = match (&self.config.rollback, &self.config.weight) {
            (Some(rollback), _) => Run { from: Some(&from.tree), ..Run::new("rollback", rollback, from, fence) },
            (None, Some(weight)) => Run { share: Some(Share::NONE), ..Run::new("weight", weight, from, fence) },
            (None, None) if held.memory.has_users(&from.tree) => {
                let what = "there is no release to go back to, and no `rollback` command that takes this one down";
                return Err(TargetError::World { what: what.to_owned(), source: None });
            }
            (None, None) => return Ok(format!("release {} never had users", from.tree.short())),
        };
        let done = self.run(run, held).await?;
        held.memory.forget(&from.tree);
        held.keep()?;
        Ok(done)
    }

    async fn settle(&self, keep: Option<&Release>, fence: u64, held: &mut Held) -> Result<String, TargetError> {
        let (Some(keep), Some(settle)) = (keep, &self.config.settle) else {
            if let Some(keep) = keep {
                held.memory.all_on(&keep.tree, &self.config.members);
            }
            held.keep()?;
            return Ok("nothing to take down".to_owned());
        };
        let members = self.config.members.clone();
        let done = self.run(Run { members, ..Run::new("settle", settle, keep, fence) }, held).await?;
        held.memory.all_on(&keep.tree, &self.config.members);
        held.keep()?;
        Ok(done)
    }

    fn known_members(&self, names: &[String]) -> Result<(), TargetError> {
        let Some(unknown) = names.iter().find(|name| !self.config.members.contains(name)) else { return Ok(()) };
        let known = self.config.members.join("`, `");
        Err(TargetError::World { what: format!("there is no member `{unknown}`; there are `{known}`"), source: None })
    }

    /// With members, there may be none left to do.
    async fn run_unless_done(&self, run: Run<'_>, held: &mut Held) -> Result<String, TargetError> {
        if run.members.is_empty() && !self.config.members.is_empty() {
            return Ok(format!("all members have release {} already", run.release.tree.short()));
        }
        self.run(run, held).await
    }

    /// Runs one command, for each member on its own where it names `${member}`.
    async fn run(&self, run: Run<'_>, held: &mut Held) -> Result<String, TargetError> {
        let dir = self.folder(&run.release.tree).await?;
        held.memory.doing = Some(format!("{} of release {}", run.name, run.release.tree.short()));
        held.keep()?;
        let per_member = run.argv.iter().any(|text| template::variables(text).unwrap_or_default().contains(&"member"));
        let notes = if per_member {
            let mut notes = Vec::new();
            for member in &run.members {
                notes.push(self.run_once(&run, Some(member), &dir).await?);
                held.memory.members.insert(member.clone(), run.release.tree.clone());
                held.keep()?;
            }
            notes
        } else {
            vec![self.run_once(&run, None, &dir).await?]
        };
        held.memory.doing = None;
        Ok(notes.join("; "))
    }

    async fn run_once(&self, run: &Run<'_>, member: Option<&String>, dir: &Path) -> Result<String, TargetError> {
        let variables = self.variables(run, member, dir);
        let expand = |text: &String| template::expand(text, |name| variables.template.get(name).cloned());
        let argv: Result<Vec<String>, String> = run.argv.iter().map(expand).collect();
        let argv = argv.map_err(|why| TargetError::World { what: format!("`{}`: {why}", run.name), source: None })?;
        let program = self.program(argv, variables.environment, dir);
        let ran = program.run().await.map_err(|error| world(&format!("cannot run `{}`", run.name), error))?;
        let of_member = member.map_or_else(String::new, |member| format!(" for {member}"));
        let what = format!("`{}` of release {}{of_member}", run.name, run.release.tree.short());
        if ran.succeeded() {
            return Ok(format!("{what} is done"));
        }
        Err(failure(run.name, &what, &program, &ran))
    }

    fn program(&self, argv: Vec<String>, environment: BTreeMap<String, String>, dir: &Path) -> Program {
        let mut program = Program::new(argv, self.config.timeout).in_dir(dir);
        program.env = self.config.env.clone().into_iter().chain(environment).collect();
        program.secrets = self.config.secrets.clone();
        program
    }

    async fn folder(&self, tree: &TreeId) -> Result<PathBuf, TargetError> {
        checkouts::bring(&self.site, &checkouts::Build::default(), tree).await
    }

    fn variables(&self, run: &Run<'_>, member: Option<&String>, dir: &Path) -> Variables {
        let members = member.map_or_else(|| run.members.join(" "), Clone::clone);
        let share = run.share.map(|share| share.to_string().trim_end_matches('%').to_owned());
        let mut template = BTreeMap::from([
            ("environment".to_owned(), self.site.environment.to_string()),
            ("tree".to_owned(), run.release.tree.to_string()),
            ("source".to_owned(), run.release.source.to_string()),
            ("members".to_owned(), members),
            ("release".to_owned(), dir.display().to_string()),
            ("share".to_owned(), share.unwrap_or_default()),
        ]);
        template.extend(member.map(|member| ("member".to_owned(), member.clone())));
        let mut environment: BTreeMap<String, String> =
            template.iter().map(|(name, value)| (format!("PITON_{}", name.to_uppercase()), value.clone())).collect();
        environment.remove("PITON_RELEASE");
        environment.insert("PITON_RELEASE_DIR".to_owned(), dir.display().to_string());
        environment.insert("PITON_STATE_DIR".to_owned(), self.site.state_dir.display().to_string());
        environment.insert("PITON_FENCE".to_owned(), run.fence.to_string());
        environment.extend(run.from.map(|from| ("PITON_FROM".to_owned(), from.to_string())));
        for (component, version) in &run.release.versions {
            template.insert(format!("version.{component}"), version.to_string());
            let name: String =
                component.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            environment.insert(format!("PITON_VERSION_{}", name.to_uppercase()), version.to_string());
        }
        Variables { template, environment }
    }

    async fn look(&self) -> Result<Live, TargetError> {
        let memory = memory::read(&self.site.state_dir)?;
        let Some(argv) = &self.config.live else { return memory.live() };
        let dir = match memory.trial.as_ref().or(memory.stable.as_ref()) {
            Some(tree) => self.folder(tree).await?,
            None => {
                std::fs::create_dir_all(&self.site.state_dir)
                    .map_err(|error| world(&format!("cannot make {}", self.site.state_dir.display()), error))?;
                self.site.state_dir.clone()
            }
        };
        let environment = self.site.environment.to_string();
        let value = |name: &str| (name == "environment").then(|| environment.clone());
        let argv: Result<Vec<String>, String> = argv.iter().map(|text| template::expand(text, value)).collect();
        let argv = argv.map_err(|why| TargetError::World { what: format!("`live`: {why}"), source: None })?;
        let variables = BTreeMap::from([
            ("PITON_ENVIRONMENT".to_owned(), environment),
            ("PITON_STATE_DIR".to_owned(), self.site.state_dir.display().to_string()),
        ]);
        let program = self.program(argv, variables, &dir);
        let ran = program.run().await.map_err(|error| world("cannot run `live`", error))?;
        if !ran.succeeded() {
            return Err(failure("live", "`live`", &program, &ran));
        }
        live::parse(&ran.stdout).map_err(|what| TargetError::World { what, source: None })
    }

    /// Runs the team's own rehearsal: what it prints, when it says no, is the obstacle.
    async fn try_out(&self, release: &Release) -> Result<Rehearsal, TargetError> {
        let Some(argv) = &self.config.rehearse else { return Ok(Rehearsal::default()) };
        let dir = self.folder(&release.tree).await?;
        let members = self.config.members.clone();
        let run = Run { members, ..Run::new("rehearse", argv, release, 0) };
        match self.run_once(&run, None, &dir).await {
            Ok(_) => Ok(Rehearsal::default()),
            Err(TargetError::Release(why)) => Ok(Rehearsal { obstacles: vec![why], ..Rehearsal::default() }),
            Err(error) => Err(error),
        }
    }

    /// Old checkouts go; a failure costs disk space and is told at the next full disk.
    async fn prune(&self, memory: &Memory) {
        let needed: BTreeSet<&TreeId> =
            memory.stable.iter().chain(&memory.trial).chain(memory.members.values()).collect();
        let needed: Vec<std::ffi::OsString> = needed.into_iter().map(|tree| tree.as_str().into()).collect();
        let state_dir = self.site.state_dir.clone();
        let pruned = tokio::task::spawn_blocking(move || checkouts::prune(&state_dir, &needed, CHECKOUTS_KEPT)).await;
        if let Ok(Err(error)) = pruned {
            tracing::warn!(%error, "cannot remove old checkouts in {}", self.site.state_dir.display());
        }
    }
}

/// What a command is told: in its arguments and in its environment.
struct Variables {
    template: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
}

impl<'a> Run<'a> {
    fn new(name: &'static str, argv: &'a [String], release: &'a Release, fence: u64) -> Run<'a> {
        Run { name, argv, release, from: None, share: None, members: Vec::new(), fence }
    }
}

impl Target for CommandTarget {
    fn perform<'a>(&'a self, act: &'a Act, fence: u64) -> BoxFuture<'a, Result<Done, TargetError>> {
        Box::pin(self.perform_act(act, fence))
    }

    fn live(&self) -> BoxFuture<'_, Result<Live, TargetError>> {
        Box::pin(self.look())
    }

    fn sights(&self) -> Sights {
        // Without a command that looks, all we could compare is our own memory.
        Sights { drift: self.config.live.is_some(), way_back: self.config.rehearse.is_some() }
    }

    fn drift<'a>(
        &'a self,
        release: &'a Release,
        _digests: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<Vec<Difference>, TargetError>> {
        Box::pin(async move { Ok(compare(&self.look().await?, release)) })
    }

    fn rehearse<'a>(&'a self, release: &'a Release) -> BoxFuture<'a, Result<Rehearsal, TargetError>> {
        Box::pin(self.try_out(release))
    }
}

fn failure(name: &str, what: &str, program: &Program, ran: &Ran) -> TargetError {
    let output = last_lines(&format!("{}\n{}", ran.stdout, ran.stderr));
    let output =
        output.map_or_else(|| "it printed nothing".to_owned(), |lines| format!("its output ends with: {lines}"));
    let how = match &ran.ending {
        RanEnding::Exit(code) => format!("exited with {code}"),
        RanEnding::Signal(signal) => format!("was killed by signal {signal}"),
        RanEnding::TimedOut(after) => format!("was killed after its time-out of {after}"),
    };
    let sentence = format!("{what} failed: `{}` {how}; {output}", program.name());
    match (name, &ran.ending) {
        ("apply" | "rehearse", ending) if *ending != RanEnding::Exit(TRY_AGAIN) => TargetError::Release(sentence),
        _ => TargetError::World { what: sentence, source: None },
    }
}

fn world(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> TargetError {
    TargetError::World { what: what.to_owned(), source: Some(Box::new(source)) }
}
