//! Waits until the GitOps tool has taken our commit, or says why it did not.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt, stream};
use kube::runtime::{WatchStreamExt, watcher};
use tokio::{sync::watch, time::Instant};

use super::{
    GitOpsTarget,
    apps::{self, Seen},
    config::Unit,
    inventory, note,
    pods::Pods,
    world,
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
    /// Its pods, where they can be looked at.
    pub pods: Option<Pods<'a>>,
    /// Whether what the tool changes is already our commit: on the way back it may still be at work on the one before.
    pub over_shoulder: bool,
    /// Whether this is what was good before: the tool's first look at it may still see what the release before has left.
    pub back: bool,
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
    /// Ends with the tool healthy at our commit, and its pods ready; gives what there is to note.
    pub async fn run(&self, watched: Vec<ObjectId>) -> Result<String, TargetError> {
        let pods = self.to_the_end(watched).await?.map_or_else(String::new, |note| format!(", {note}"));
        let (unit, commit) = (self.unit, self.commit.short());
        Ok(format!("{unit}: healthy at commit {commit} of `{}`{pods}", unit.branch))
    }

    async fn to_the_end(&self, watched: Vec<ObjectId>) -> Result<Option<String>, TargetError> {
        let (tell, told) = watch::channel(BTreeSet::new());
        let broken = async {
            match &self.pods {
                Some(pods) if self.over_shoulder => pods.broken(told).await,
                Some(_) | None => std::future::pending().await,
            }
        };
        let seen = tokio::select! {
            biased;
            seen = self.tool_says(watched, &tell) => seen?,
            trouble = broken => return Err(self.of_unit(trouble.into_error())),
        };
        match (&self.pods, seen.object(self.unit)) {
            (Some(pods), Some(object)) => pods.settled(object).await.map_err(|error| self.of_unit(error)),
            (Some(_) | None, _) => Ok(None),
        }
    }

    /// Ends with the tool healthy at our commit; `tell` hears what it lists.
    async fn tool_says(
        &self,
        watched: Vec<ObjectId>,
        tell: &watch::Sender<BTreeSet<ObjectId>>,
    ) -> Result<Seen, TargetError> {
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
            let at_ours = seen.commit(self.unit).as_deref() == Some(self.commit.as_str());
            if let Some(object) = seen.object(self.unit).filter(|_| at_ours) {
                tell.send_replace(inventory::objects(self.unit, object));
            }
            let health = seen.health(self.unit, Some(self.commit.as_str()));
            let said = match &health {
                Health::Broken(trouble) | Health::Doubtful(trouble) => Some(trouble.headline()),
                Health::Ready | Health::Progressing { .. } => None,
            };
            let is_old = said.is_some() && said == old_trouble;
            if !is_old && at_ours {
                old_trouble = None;
            }
            match health {
                Health::Ready => return Ok(seen),
                Health::Broken(trouble) | Health::Doubtful(trouble) if is_old => why = trouble.headline(),
                // It looks again by itself.
                Health::Broken(trouble) | Health::Doubtful(trouble) if self.back => why = trouble.headline(),
                Health::Broken(trouble) => return Err(self.broken(*trouble)),
                Health::Doubtful(trouble) => {
                    why = trouble.headline();
                    doubt.get_or_insert_with(|| (Instant::now(), trouble));
                    continue;
                }
                Health::Progressing { why: now } => why = now + &self.source_says(&seen),
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
        let what = format!("{unit}: it did not take up our commit {ours} within {within}: {why}");
        TargetError::World { what, source: None }
    }

    fn of_unit(&self, error: TargetError) -> TargetError {
        let unit = self.unit;
        match error {
            TargetError::Release(why) => TargetError::Release(format!("{unit}: {why}")),
            TargetError::World { what, source } => TargetError::World { what: format!("{unit}: {what}"), source },
            TargetError::Unreached { what, source } => {
                TargetError::Unreached { what: format!("{unit}: {what}"), source }
            }
            fenced @ TargetError::Fenced { .. } => fenced,
        }
    }

    /// Why its source does not have our commit, if it says so.
    fn source_says(&self, seen: &Seen) -> String {
        let Some(id) = seen.object(self.unit).and_then(|object| apps::source(self.unit, object)) else {
            return String::new();
        };
        let complaint = seen.0.get(&id).and_then(apps::complaint);
        complaint.map_or_else(String::new, |said| format!("; its {id} says: {said}"))
    }
}
