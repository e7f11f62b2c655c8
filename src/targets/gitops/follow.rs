//! Waits until the GitOps tool has taken our commit, or says why it did not.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    GitOpsTarget,
    apps::{self, Seen},
    config::Unit,
    note, world,
};
use crate::{
    clients::kube::{Cluster, ObjectId},
    model::CommitId,
    targets::{
        TargetError,
        kubernetes::health::{Health, Trouble},
    },
};

/// How long something that may mend itself may last.
const DOUBT: Duration = Duration::from_secs(10);

/// What the tool said before anything was pushed.
#[derive(Debug, Clone, Default)]
pub struct Before {
    pub commit: Option<String>,
    /// It stays there for a moment, and is not our commit's.
    pub trouble: Option<String>,
}

/// One commit on its way into one unit.
pub struct Follow<'a> {
    pub target: &'a GitOpsTarget,
    pub cluster: &'a Cluster,
    pub unit: &'a Unit,
    pub commit: &'a CommitId,
    pub before: &'a Before,
    pub until: Instant,
}

impl Before {
    pub fn of(unit: &Unit, seen: &Seen) -> Before {
        let trouble = match seen.health(unit, None) {
            Health::Broken(trouble) | Health::Doubtful(trouble) => Some(trouble.headline()),
            Health::Ready | Health::Progressing { .. } => None,
        };
        Before { commit: seen.commit(unit), trouble }
    }
}

impl Follow<'_> {
    /// Ends with the tool healthy at our commit.
    pub async fn run(&self, watched: Vec<ObjectId>) -> Result<(), TargetError> {
        let mut streams = Vec::new();
        for id in watched {
            let api = self.cluster.api(&id).await;
            let api = api.map_err(|error| world(&format!("{}: cannot look at it", self.unit), error))?;
            let name = id.name.clone();
            streams.push(
                watcher::watch_object(api, &name).default_backoff().map(move |event| (id.clone(), event)).boxed(),
            );
        }
        let mut events = stream::select_all(streams);
        let mut seen = Seen::default();
        let mut old_trouble = self.before.trouble.clone();
        let mut doubt: Option<(Instant, Box<Trouble>)> = None;
        let mut why = "it was not looked at yet".to_owned();
        loop {
            let doubted = doubt.as_ref().map_or(self.until, |(since, _)| (*since + DOUBT).min(self.until));
            let event = match tokio::time::timeout_at(doubted, events.next()).await {
                Ok(event) => event,
                Err(_) if doubted < self.until => {
                    return Err(doubt.map_or_else(|| self.never(), |(_, trouble)| self.broken(*trouble)));
                }
                Err(_) => return Err(self.too_late(&seen, &why).await),
            };
            // A watch that breaks is begun again by the stream itself.
            let Some((id, Ok(found))) = event else { continue };
            match found.and_then(|object| serde_json::to_value(object).ok()) {
                Some(object) => seen.0.insert(id, object),
                None => seen.0.remove(&id),
            };
            self.superseded(&seen).await?;
            let health = seen.health(self.unit, Some(self.commit.as_str()));
            let said = match &health {
                Health::Broken(trouble) | Health::Doubtful(trouble) => Some(trouble.headline()),
                Health::Ready | Health::Progressing { .. } => None,
            };
            let is_old = said.is_some() && said == old_trouble;
            if !is_old && seen.commit(self.unit).as_deref() == Some(self.commit.as_str()) {
                old_trouble = None;
            }
            match health {
                Health::Ready => return Ok(()),
                Health::Broken(trouble) | Health::Doubtful(trouble) if is_old => why = trouble.headline(),
                Health::Broken(trouble) => return Err(self.broken(*trouble)),
                Health::Doubtful(trouble) => {
                    why = trouble.headline();
                    doubt.get_or_insert_with(|| (Instant::now(), trouble));
                    continue;
                }
                Health::Progressing { why: now } => why = now,
            }
            doubt = None;
            self.target.site.progress.say(format!("{}: {why}", self.unit));
        }
    }

    fn broken(&self, trouble: Trouble) -> TargetError {
        trouble.into_error()
    }

    fn never(&self) -> TargetError {
        TargetError::World { what: format!("{}: it gave no sign", self.unit), source: None }
    }

    /// The tool is at a commit that is neither ours nor the one before: somebody else pushed.
    async fn superseded(&self, seen: &Seen) -> Result<(), TargetError> {
        let at = seen.commit(self.unit);
        let foreign = at.filter(|at| at != self.commit.as_str() && Some(at) != self.before.commit.as_ref());
        match foreign {
            Some(_) => self.still_ours().await,
            None => Ok(()),
        }
    }

    async fn still_ours(&self) -> Result<(), TargetError> {
        let head = self.target.site.trees.head(&self.unit.branch).await?;
        match head {
            Some(head) if head.commit == *self.commit => Ok(()),
            Some(head) => {
                let (branch, ours) = (&self.unit.branch, self.commit.short());
                let what = format!(
                    "{}: our commit {ours} is superseded: `{branch}` is at {}, which another one pushed",
                    self.unit,
                    note::short(&head)
                );
                Err(TargetError::World { what, source: None })
            }
            None => {
                let what = format!("{}: the branch `{}` was deleted", self.unit, self.unit.branch);
                Err(TargetError::World { what, source: None })
            }
        }
    }

    /// Whose fault it is depends on whether the tool ever looked at our commit.
    async fn too_late(&self, seen: &Seen, why: &str) -> TargetError {
        if let Err(superseded) = self.still_ours().await {
            return superseded;
        }
        let (unit, ours, within) = (self.unit, self.commit.short(), self.target.config.within);
        if seen.commit(unit).as_deref() == Some(self.commit.as_str()) {
            return TargetError::Release(format!("{unit}: not healthy at {ours} within {within}: {why}"));
        }
        let source = match seen.object(unit).and_then(|object| apps::source(unit, object)) {
            Some(source) => self.source_says(&source).await,
            None => String::new(),
        };
        let what = format!("{unit}: it did not take up our commit {ours} within {within}: {why}{source}");
        TargetError::World { what, source: None }
    }

    async fn source_says(&self, source: &ObjectId) -> String {
        let Ok(Some(object)) = apps::get(self.cluster, source).await else {
            return format!("; its {source} is not there");
        };
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let bad = |c: &&Value| c["type"] == "Ready" && c["status"] != "True";
        let said = conditions.into_iter().find(bad).and_then(|c| c["message"].as_str());
        said.map_or_else(String::new, |said| format!("; its {source} says: {said}"))
    }
}
