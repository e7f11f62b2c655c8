use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use super::{
    answer::{Answer, Failure},
    anyway::Anyway,
    view::Watcher,
    voice::Voice,
};
use crate::{
    clients::clock::{Clock, SystemClock},
    commands::Common,
    engine::{Holder, State},
    ledger::{Freshness, GitLedger, Ledger, LedgerError, Opened, Repository},
    model::{Actor, EnvironmentName, Event, Span, Stamp, What},
    pipeline::{self, Environment, Pipeline},
    planner::Planned,
    rack::{self, AllKinds, Files, Outside, Upto},
    runner::{self, Goal, Outcome, PollPace, Runner, Seizure},
    targets::{Owner, Progress, Site},
};

/// Lost races in a row before a command gives up.
const RACES_MAX: usize = 50;
/// How long leaving may wait for pages that the origin does not have yet.
const FLUSH_WITHIN: Span = Span::seconds(20);

/// Everything a command works with.
pub struct Desk {
    pub voice: Voice,
    pub pipeline: Pipeline,
    pub repository: Repository,
    pub ledger: GitLedger,
    pub clock: SystemClock,
    pub me: Holder,
    pub stop: CancellationToken,
    state_dir: PathBuf,
    program: PathBuf,
    progress: Progress,
}

impl Desk {
    pub fn open(common: &Common, voice: Voice, stop: CancellationToken) -> Result<Desk, Failure> {
        let dir = common.dir.clone().unwrap_or_else(|| PathBuf::from("."));
        let (pipeline_file, pipeline) = read_pipeline(&dir, common.pipeline.as_deref())?;
        let home = pipeline_file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        let remote = remote_of(&home, &pipeline.source.remote);
        let repository = Repository::open(&home, remote.as_deref(), &pipeline.prefix)?;
        let ledger = GitLedger::new(repository.clone(), rack::settings(&pipeline));
        let me = runner::holder(actor(common, &home)?).map_err(|e| Failure::usage(format!("no randomness: {e}")))?;
        let state_dir = state_dir(common, &pipeline, &repository)?;
        let program = std::env::current_exe().map_err(|e| Failure::world("cannot find this program", &e))?;
        let clock = SystemClock;
        let progress = Progress::default();
        Ok(Desk { voice, pipeline, repository, ledger, clock, me, stop, state_dir, program, progress })
    }

    pub fn now(&self) -> Stamp {
        self.clock.now()
    }

    pub fn environment(&self, name: &EnvironmentName) -> Result<&Environment, Failure> {
        self.pipeline.environment(name).ok_or_else(|| {
            let known: Vec<&str> = self.pipeline.environments.iter().map(|e| e.name.as_str()).collect();
            Failure::usage(format!("unknown environment `{name}`; known are `{}`", known.join("`, `")))
        })
    }

    /// Reads where the environment stands, and says so when it is only the mirror's word.
    pub async fn read(&self, environment: &EnvironmentName) -> Result<Opened, Failure> {
        self.read_in(&self.ledger, environment).await
    }

    /// The same for the way back, which takes the mirror's word whatever is wrong with the origin.
    pub async fn read_anyway(&self, environment: &EnvironmentName) -> Result<Opened, Failure> {
        self.read_in(&Anyway(&self.ledger), environment).await
    }

    async fn read_in(&self, ledger: &dyn Ledger, environment: &EnvironmentName) -> Result<Opened, Failure> {
        let opened = ledger.open(environment).await?;
        if let Freshness::Mirror { why, unpushed } = &opened.freshness {
            let unpushed = if *unpushed > 0 { format!(", {unpushed} pages not pushed yet") } else { String::new() };
            self.voice.say(self.voice.warn(format!("from the mirror{unpushed}: {why}")));
        }
        Ok(opened)
    }

    /// Appends what the function makes of the state; a lost race asks it again.
    pub async fn append<F>(&self, environment: &EnvironmentName, make: F) -> Result<Opened, Failure>
    where
        F: FnMut(&State) -> Result<Vec<What>, Failure>,
    {
        let opened = self.read(environment).await?;
        self.append_in(&self.ledger, environment, opened, make).await
    }

    /// The same for the way back, after what was read.
    pub async fn append_anyway<F>(
        &self,
        environment: &EnvironmentName,
        opened: Opened,
        make: F,
    ) -> Result<Opened, Failure>
    where
        F: FnMut(&State) -> Result<Vec<What>, Failure>,
    {
        self.append_in(&Anyway(&self.ledger), environment, opened, make).await
    }

    async fn append_in<F>(
        &self,
        ledger: &dyn Ledger,
        environment: &EnvironmentName,
        mut opened: Opened,
        mut make: F,
    ) -> Result<Opened, Failure>
    where
        F: FnMut(&State) -> Result<Vec<What>, Failure>,
    {
        for _ in 0..RACES_MAX {
            let what = make(&opened.state)?;
            if what.is_empty() && opened.head.is_some() {
                return Ok(opened);
            }
            let event = |what| Event { at: self.now(), by: self.me.actor.clone(), what };
            let page = runner::page(&opened, what.into_iter().map(event).collect());
            match ledger.append(environment, opened.head.as_ref(), page.clone()).await {
                Ok(appended) => return Ok(rack::after(opened, &page, &appended)),
                Err(LedgerError::Lost { .. }) => opened = self.read_in(ledger, environment).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::try_again("lost_race", format!("lost {RACES_MAX} races for `{environment}` in a row")))
    }

    /// Writes one decision of a person down, and says so.
    pub async fn decide(
        &self,
        environment: &EnvironmentName,
        make: impl FnMut(&State) -> Result<Vec<What>, Failure>,
        reason_code: &'static str,
        said: &str,
    ) -> Result<Answer, Failure> {
        self.environment(environment)?;
        self.append(environment, make).await?;
        self.voice.say(format!("{} {environment}: {said}", self.voice.good("✓")));
        Ok(Answer::done(reason_code).with("environment", environment.as_str()))
    }

    pub fn site(&self, environment: &EnvironmentName) -> Site {
        Site {
            environment: environment.clone(),
            owner: Owner { pipeline: self.pipeline.name.to_string(), branch: self.repository.branch(environment) },
            state_dir: self.state_dir.join(environment.as_str()),
            trees: Arc::new(Files(self.repository.clone())),
            program: self.program.clone(),
            progress: self.progress.clone(),
        }
    }

    pub fn outside(&self, environment: &Environment) -> Result<Outside, Failure> {
        Ok(Outside::new(environment, self.site(&environment.name))?)
    }

    /// Carries an environment on until the goal is reached, while people watch.
    pub async fn carry_on(
        &self,
        environment: &Environment,
        goal: Goal,
        seizure: Seizure,
    ) -> Result<(Outcome, State), Failure> {
        self.carry_on_from(None, environment, goal, seizure).await
    }

    /// The same from what was just written, where that is known.
    pub async fn carry_on_from(
        &self,
        opened: Option<Opened>,
        environment: &Environment,
        goal: Goal,
        seizure: Seizure,
    ) -> Result<(Outcome, State), Failure> {
        let outside = self.outside(environment)?;
        let view = Watcher::new(&self.voice, environment.name.clone(), &self.progress);
        let anyway = Anyway(&self.ledger);
        let runner = Runner {
            environment: environment.name.clone(),
            ledger: if seizure == Seizure::ForTheWayBack { &anyway } else { &self.ledger },
            sockets: &outside,
            clock: &self.clock,
            view: &view,
            me: self.me.clone(),
            stop: self.stop.clone(),
            pace: PollPace::default(),
        };
        let ended = match opened {
            Some(opened) => runner.run_from(opened, goal, seizure).await,
            None => runner.run(goal, seizure).await,
        };
        view.end();
        Ok(ended?)
    }

    /// Reads where the environment stands, and up to where the next step may lead.
    pub async fn read_both(
        &self,
        environment: &EnvironmentName,
        to: Option<&str>,
    ) -> Result<(Opened, Result<Upto, Failure>), Failure> {
        match to {
            // Two questions to the host that need not wait for each other.
            None => {
                let (opened, upto) = tokio::join!(self.read(environment), self.upto(None));
                Ok((opened?, upto))
            }
            Some(_) => Ok((self.read(environment).await?, self.upto(to).await)),
        }
    }

    async fn upto(&self, to: Option<&str>) -> Result<Upto, Failure> {
        match to {
            Some(text) => Ok(Upto::Named(rack::resolve(&self.repository, &self.pipeline, text).await?)),
            None => Ok(Upto::Newest(self.repository.tip_of_source(&self.pipeline.source.branch).await?)),
        }
    }

    /// The next step into an environment.
    pub async fn plan(&self, environment: &Environment, state: &State, upto: &Upto) -> Result<Planned, Failure> {
        let mut upstream = Vec::new();
        for name in &environment.after {
            upstream.push((name.clone(), self.read(name).await?.state));
        }
        let (repository, now) = (&self.repository, self.now());
        let planned = rack::next_step(repository, &self.pipeline, environment, state, &upstream, upto, now).await?;
        // Who only plans need not reach what is outside.
        Ok(match self.outside(environment) {
            Ok(outside) => rack::with_renderer(planned, &outside).await,
            Err(_) => planned,
        })
    }

    /// Sees to it that what was written here reaches the origin.
    pub async fn leave(&self) {
        for environment in &self.pipeline.environments {
            match self.ledger.flush(&environment.name, FLUSH_WITHIN).await {
                Ok(0) => {}
                Ok(left) => self.voice.say(self.voice.warn(format!(
                    "{}: {left} pages are only here so far; the next command pushes them",
                    environment.name
                ))),
                Err(error) => self.voice.say(self.voice.warn(format!("{}: {error}", environment.name))),
            }
        }
    }
}

/// Reads and checks a pipeline file; without a name, the only one in `pipelines/`.
pub fn read_pipeline(dir: &Path, named: Option<&Path>) -> Result<(PathBuf, Pipeline), Failure> {
    let file = match named {
        Some(file) => dir.join(file),
        None => only_pipeline(dir)?,
    };
    let bytes = std::fs::read(&file).map_err(|e| Failure::world(&format!("cannot read {}", file.display()), &e))?;
    let all = AllKinds::known();
    let pipeline = pipeline::parse(&file.display().to_string(), &bytes, &all.kinds())?;
    Ok((file, pipeline))
}

fn only_pipeline(dir: &Path) -> Result<PathBuf, Failure> {
    let mut at = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let hint = "run this inside the deploy repository, or name the file with `--pipeline FILE`";
    loop {
        let folder = at.join("pipelines");
        if folder.is_dir() {
            let mut files = yaml_files(&folder);
            return match (files.pop(), files.is_empty()) {
                (Some(file), true) => Ok(file),
                (None, _) => Err(Failure::usage(format!("{} holds no pipeline file", folder.display())).hint(hint)),
                (Some(_), false) => {
                    Err(Failure::usage(format!("{} holds several pipeline files", folder.display())).hint(hint))
                }
            };
        }
        if !at.pop() {
            return Err(Failure::usage("there is no `pipelines` folder here or above").hint(hint));
        }
    }
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let yaml = |p: &PathBuf| p.extension().is_some_and(|e| e == "yaml" || e == "yml");
    entries.filter(yaml).collect()
}

/// The remote that the pipeline names; a repository without it is its own origin.
fn remote_of(home: &Path, wanted: &str) -> Option<String> {
    let repo = git2::Repository::discover(home).ok()?;
    let known = repo.find_remote(wanted).is_ok();
    let address = wanted.contains('/') || wanted.contains(':');
    (known || address).then(|| wanted.to_owned())
}

fn actor(common: &Common, home: &Path) -> Result<Actor, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    let from_git = || {
        let repo = git2::Repository::discover(home).ok()?;
        repo.config().ok()?.get_string("user.name").ok().filter(|name| !name.trim().is_empty())
    };
    let name = common.actor.clone();
    let name = name.or_else(|| variable("GITHUB_ACTOR")).or_else(|| variable("GITLAB_USER_LOGIN"));
    let name = name.or_else(from_git).or_else(|| variable("USER")).unwrap_or_else(|| "unknown".to_owned());
    Actor::new(name.trim()).map_err(|e| Failure::usage(e.to_string()))
}

/// The same repository gives the same folder on a machine, whichever clone the command runs in.
fn state_dir(common: &Common, pipeline: &Pipeline, repository: &Repository) -> Result<PathBuf, Failure> {
    if let Some(dir) = &common.state_dir {
        return std::path::absolute(dir).map_err(|e| Failure::world("cannot use the state folder", &e));
    }
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    let home = home.ok_or_else(|| {
        Failure::usage("neither XDG_STATE_HOME nor HOME is set").hint("name a folder with `--state-dir DIR`")
    })?;
    Ok(home.join("piton").join(format!("{}-{}", pipeline.name, identity(repository))))
}

/// Eight hexadecimal digits of the origin's address, or of this repository's folder when it is the origin.
fn identity(repository: &Repository) -> String {
    let address = repository.remote().and_then(|remote| {
        let repo = git2::Repository::open(repository.git_dir()).ok()?;
        let found = repo.find_remote(remote).ok()?;
        found.url().ok().map(str::to_owned)
    });
    let address = address.unwrap_or_else(|| repository.git_dir().display().to_string());
    let hash = git2::Oid::hash_object(git2::ObjectType::Blob, address.as_bytes());
    hash.map_or_else(|_| "unknown".to_owned(), |oid| oid.to_string().chars().take(8).collect())
}
