//! The main job on this machine: a deploy repository with its origin, real processes, real traffic, good bumps and bad
//! ones.

mod repository;
mod summary;
mod traffic;

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::{
    answer::{Answer, Failure},
    desk::Desk,
    pin, promote, rollback,
    voice::Voice,
};
use crate::{
    commands::{Common, Demo, Pin, Promote, Rollback, To},
    model::{EnvironmentName, Span},
    runner::Sockets,
    targets,
};

use repository::Sandbox;
use traffic::Traffic;

/// How often production's address is looked for before its first release is up.
const LOOK_FOR_DOOR: std::time::Duration = std::time::Duration::from_millis(100);

/// `piton demo`
pub async fn run(common: &Common, args: &Demo, voice: &Voice) -> Result<Answer, Failure> {
    let dir = folder(args.dir.as_deref())?;
    let stop = super::stop_on_signals();
    let sandbox = Sandbox::make(&dir).await?;
    let common = Common {
        dir: Some(sandbox.clone.clone()),
        pipeline: None,
        state_dir: Some(dir.join("state")),
        actor: common.actor.clone().or_else(|| Some("demo".to_owned())),
        ..common.clone()
    };
    let desk = Desk::open(&common, voice.clone(), stop.clone())?;
    let played = play(&desk, &sandbox, &stop).await;
    desk.leave().await;
    // Whatever happened, nothing is left running unless that was asked for.
    if !args.keep || played.is_err() || stop.is_cancelled() {
        take_down(&desk).await;
    }
    let summary = played?;
    if stop.is_cancelled() {
        return Err(Failure::try_again("stopped", "the demo was stopped; nothing of it is running"));
    }
    goodbye(voice, &sandbox, &dir, args.keep);
    Ok(Answer::done("demo").with("dir", dir.display().to_string()).with("acts", summary))
}

async fn play(desk: &Desk, sandbox: &Sandbox, stop: &CancellationToken) -> Result<serde_json::Value, Failure> {
    let acts = Acts { desk, sandbox, stop };
    acts.title("A deploy repository, its origin, and two environments of three services each");
    acts.promote("staging").await?;
    // Users come as soon as there is a door.
    let traffic = Traffic::start(door(desk)?);
    acts.promote("production").await?;

    acts.title("A good bump: web 1.0.0 → 1.1.0");
    acts.bump("web", "1.1.0").await?;
    acts.promote("staging").await?;
    acts.promote("production").await?;

    acts.title("The page loads, the work fails: api 1.0.0 → 1.1.0 is stopped in staging");
    acts.bump("api", "1.1.0").await?;
    acts.promote("staging").await?;
    acts.promote("production").await?;

    acts.title("Fails only under production's traffic: store 1.0.0 → 1.1.0 goes back at its canary share");
    acts.bump("store", "1.1.0").await?;
    acts.promote("staging").await?;
    acts.promote("production").await?;

    acts.title("Meanwhile the next bump goes on: web 1.1.0 → 1.2.0");
    acts.bump("web", "1.2.0").await?;
    acts.promote("staging").await?;
    acts.promote("production").await?;

    acts.title("A pin: web exactly 1.1.0 in production, for two hours");
    acts.pin("web=1.1.0", "production", "the new menu confuses people").await?;

    acts.title("A person undoes production with one command");
    acts.rollback("production").await?;

    let served = traffic.stop().await;
    summary::show(desk, &served).await
}

/// The acts, each a command as a person would type it.
struct Acts<'a> {
    desk: &'a Desk,
    sandbox: &'a Sandbox,
    stop: &'a CancellationToken,
}

impl Acts<'_> {
    fn title(&self, text: &str) {
        if !self.stop.is_cancelled() {
            self.desk.voice.say("");
            self.desk.voice.say(self.desk.voice.bold(format!("── {text}")));
        }
    }

    fn typed(&self, words: &str) {
        self.desk.voice.say(format!("{} {words}", self.desk.voice.note("$")));
    }

    fn go_on(&self) -> Result<(), Failure> {
        match self.stop.is_cancelled() {
            true => Err(Failure::try_again("stopped", "the demo was stopped; nothing of it is running")),
            false => Ok(()),
        }
    }

    async fn bump(&self, component: &str, version: &str) -> Result<(), Failure> {
        self.go_on()?;
        self.typed(&format!("piton edit services/{component}.yaml version {version} && git commit && git push"));
        self.sandbox.bump(component, version).await
    }

    /// A promotion that is rolled back is a part of the story, and its exit code says so.
    async fn promote(&self, environment: &str) -> Result<(), Failure> {
        self.go_on()?;
        self.typed(&format!("piton promote {environment}"));
        let args = Promote {
            environment: name(environment)?,
            to: None,
            wait: false,
            watch: false,
            all: false,
            now: true,
            no_wait: false,
            without_way_back: None,
        };
        let answer = promote::run(self.desk, &args).await?;
        self.desk.voice.say(self.desk.voice.dim(format!("  exit code {} ({})", answer.code, answer.reason_code)));
        self.go_on()
    }

    async fn pin(&self, what: &str, environment: &str, reason: &str) -> Result<(), Failure> {
        self.typed(&format!("piton pin {what} --in {environment} --until 2h --reason {reason:?}"));
        let args = Pin {
            what: what.parse().map_err(Failure::usage)?,
            environment: name(environment)?,
            until: Some(crate::commands::Until::In(Span::hours(2))),
            forever: false,
            reason: reason.to_owned(),
            no_deploy: false,
        };
        pin::run(self.desk, &args).await?;
        self.go_on()
    }

    async fn rollback(&self, environment: &str) -> Result<(), Failure> {
        self.typed(&format!("piton rollback {environment}"));
        let args = Rollback {
            environment: name(environment)?,
            to: To::Good,
            component: None,
            reason: "rolled back by hand".to_owned(),
            dry_run: false,
            no_quarantine: false,
            accept_rewritten: false,
        };
        rollback::run(self.desk, &args).await?;
        self.go_on()
    }
}

fn name(text: &str) -> Result<EnvironmentName, Failure> {
    EnvironmentName::new(text).map_err(|e| Failure::usage(e.to_string()))
}

/// Where production's users come in, once it is there.
fn door(desk: &Desk) -> Result<impl Future<Output = String> + Send + 'static, Failure> {
    let production = name("production")?;
    let outside = desk.outside(desk.environment(&production)?)?;
    Ok(async move {
        loop {
            if let Ok(live) = outside.target().live().await
                && let Some(url) = live.facts.get("url").filter(|_| live.releases.values().any(|share| *share > 0))
            {
                return url.clone();
            }
            tokio::time::sleep(LOOK_FOR_DOOR).await;
        }
    })
}

async fn take_down(desk: &Desk) {
    for environment in &desk.pipeline.environments {
        if let Err(error) = targets::process::shutdown(&desk.site(&environment.name).state_dir, false).await {
            desk.voice.say(desk.voice.warn(format!("{}: {error}", environment.name)));
        }
    }
}

/// A new folder, or the empty one that was named.
fn folder(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let dir = match named {
        Some(dir) => dir.to_owned(),
        None => {
            let mut bytes = [0_u8; 4];
            getrandom::fill(&mut bytes).map_err(|e| Failure::usage(format!("no randomness: {e}")))?;
            let suffix: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            std::env::temp_dir().join(format!("piton-demo-{suffix}"))
        }
    };
    let cannot = |e: std::io::Error| Failure::world(&format!("cannot use the folder {}", dir.display()), &e);
    std::fs::create_dir_all(&dir).map_err(cannot)?;
    if std::fs::read_dir(&dir).map_err(cannot)?.next().is_some() {
        return Err(Failure::usage(format!("the folder {} is not empty", dir.display())));
    }
    std::fs::canonicalize(&dir).map_err(cannot)
}

fn goodbye(voice: &Voice, sandbox: &Sandbox, dir: &Path, kept: bool) {
    voice.say("");
    voice.say(voice.bold("── Yours to play with"));
    let state = dir.join("state");
    voice.say(format!("  cd {}", sandbox.clone.display()));
    voice.say(format!("  export PITON_STATE_DIR={}", state.display()));
    for (words, what) in [
        ("piton status", "where both environments stand, what is pinned and in quarantine"),
        ("piton history production", "what happened"),
        ("piton show production 3 --svg gates.svg", "one promotion, and a picture of its gates"),
        ("git log --oneline origin/piton/production", "the same with plain git"),
        ("piton edit services/web.yaml version 1.3.0 && git commit -am 'web 1.3.0' && git push", "a bump of yours"),
        ("piton promote staging && piton promote production", "takes it live"),
        ("piton rollback production --to 1m --dry-run", "what going back a minute would do"),
    ] {
        voice.say(format!("  {:<60} {}", words, voice.dim(what)));
    }
    let running = if kept {
        "The services are still running."
    } else {
        "Nothing is left running; the next promote or rollback starts what it needs."
    };
    voice.say(voice.dim(format!("  {running} `rm -r {}` removes everything.", dir.display())));
}
