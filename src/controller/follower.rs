//! One repository: looks at it by poll or by webhook, reads its pipeline files, and gives every environment its orders.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
};

use super::{
    clone::{self, CloneError},
    eyes::Eyes,
    house::House,
    pace::{chance, jittered},
    pipelines::{self, Known, Pipelines, PipelinesError},
    post::{Orders, Post},
};
use crate::{
    commands::Follow,
    ledger::{Glance, Repository, RepositoryError},
    model::{CommitId, EnvironmentName, Span},
    runner::sentence,
};

/// The prefix of branches is the pipelines' own; for the source branch it does not matter.
const ANY_PREFIX: &str = "piton";
/// Environments that are brought from the host in one go.
const BROUGHT_AT_ONCE: usize = 500;

/// Why a repository could not be looked at.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Clone(#[from] CloneError),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Pipelines(#[from] PipelinesError),
    #[error("cannot reach the git host: {0}")]
    Host(String),
}

/// Follows one repository.
pub struct Follower {
    house: Arc<House>,
    follow: Follow,
    home: PathBuf,
    glance: Glance,
    source: Option<(PathBuf, Repository)>,
    tip: Option<CommitId>,
    pipelines: Pipelines,
    /// By the prefix of the branch and the environment, whichever file it is in: a branch has one runner here.
    posts: BTreeMap<(String, EnvironmentName), Sent>,
    tasks: JoinSet<()>,
    /// What kept single pipelines from having all there is to know, in the last look.
    kept_back: Vec<String>,
    said: Vec<String>,
}

/// An environment that somebody stands at.
struct Sent {
    orders: watch::Sender<Orders>,
    task: AbortHandle,
    eyes: Arc<Eyes>,
    /// What its branch, and the good refs of those before it, were when it was looked at last.
    head: Option<String>,
    upstream: Vec<Option<String>>,
    tip: Option<CommitId>,
}

impl Follower {
    pub fn new(house: Arc<House>, follow: Follow) -> Follower {
        let home = house.state_dir.join(follow.name.as_str());
        let fresh = Span(house.pace.others.0 / 2);
        Follower {
            house,
            follow,
            home,
            glance: Glance::new(fresh),
            source: None,
            tip: None,
            pipelines: Pipelines::default(),
            posts: BTreeMap::new(),
            tasks: JoinSet::new(),
            kept_back: Vec::new(),
            said: Vec::new(),
        }
    }

    /// Follows until the stop, and comes back when everybody has come home.
    pub async fn follow(mut self, mut nudges: mpsc::Receiver<()>) {
        let mut standing = self.house.standing.clone();
        while !self.house.stop.is_cancelled() {
            let looked = self.look().await.map_err(|error| sentence(&error));
            self.report(looked);
            while let Some(ended) = self.tasks.try_join_next() {
                drop(ended);
            }
            let pause = jittered(self.house.poll.as_duration(), chance());
            tokio::select! {
                biased;
                () = self.house.stop.cancelled() => {}
                // Without an election it never changes.
                Ok(()) = standing.changed() => {}
                _ = nudges.recv() => {
                    // Several pushes make one look.
                    while nudges.try_recv().is_ok() {}
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
        while self.tasks.join_next().await.is_some() {}
        self.leave().await;
    }

    fn report(&mut self, looked: Result<(), String>) {
        let mut wrong = self.pipelines.faults();
        wrong.extend(self.kept_back.iter().cloned());
        self.house.pulse(&self.follow.name, looked.clone(), wrong.clone());
        if looked.is_ok() {
            self.house.metrics.looked_at(&self.follow.name, wrong.len());
        }
        wrong.extend(looked.err());
        if wrong != self.said {
            for sentence in wrong.iter().filter(|sentence| !self.said.contains(sentence)) {
                tracing::error!(repository = %self.follow.name, "{sentence}");
            }
            self.said = wrong;
        }
    }

    async fn look(&mut self) -> Result<(), LookError> {
        self.kept_back.clear();
        let (clone, source) = match &self.source {
            Some(source) => source.clone(),
            None => {
                let clone = clone::make(&self.home, &self.follow)?;
                let source = pipelines::open(&clone, ANY_PREFIX, &self.glance)?;
                self.source.insert((clone, source)).clone()
            }
        };
        self.glance.forget().await;
        let (tip, host) = tip(&source, &self.follow.branch).await?;
        if self.tip.as_ref() != Some(&tip) || self.pipelines.is_unread() {
            self.pipelines.read(&source, &clone, &self.glance, &tip)?;
            self.tip = Some(tip);
        }
        let brought = match host {
            None => self.bring().await,
            Some(unreachable) => Err(unreachable.into()),
        };
        // A host that is away is no reason to leave what is under way alone: it goes on from what this clone has.
        if self.house.leads() {
            self.send_out(brought.as_ref().unwrap_or(&BTreeSet::new())).await;
        }
        brought.map(drop)
    }

    /// What all environments come to is brought in few questions, however many there are. It comes back with the files of
    /// the pipelines that this can be said of.
    async fn bring(&mut self) -> Result<BTreeSet<String>, LookError> {
        let (mut brought, mut failed) = (BTreeSet::new(), Vec::new());
        let mut failing = Duration::ZERO;
        for (file, known, _) in self.pipelines.known() {
            // A host that lets everybody wait is not asked for one pipeline after the other.
            if failing > FAILING_MAX {
                break;
            }
            let began = Instant::now();
            match bring_one(known).await {
                Ok(()) => {
                    brought.insert(file.clone());
                }
                Err(why) => {
                    failing += began.elapsed();
                    failed.push((file.clone(), why));
                }
            }
        }
        match failed.first() {
            Some((_, why)) if brought.is_empty() => Err(LookError::Host(why.clone())),
            Some(_) | None => {
                let said =
                    |(file, why)| format!("pipelines/{file}: cannot bring what its environments have come to: {why}");
                self.kept_back.extend(failed.into_iter().map(said));
                Ok(brought)
            }
        }
    }

    /// Sends somebody to every environment, tells the news of the pipelines that can have any, and calls home who stands
    /// where nothing is. What is wrong with one pipeline keeps nobody else waiting.
    async fn send_out(&mut self, brought: &BTreeSet<String>) {
        let known: Vec<(String, Known, bool)> =
            self.pipelines.known().map(|(file, known, sound)| (file.clone(), known.clone(), sound)).collect();
        let mut wanted = Vec::new();
        for (file, known, sound) in known {
            let key = |name: &EnvironmentName| (known.pipeline.prefix.clone(), name.clone());
            wanted.extend(known.environments.iter().map(key));
            let Some((tip, sound)) = self.source_tip(&file, &known, sound).await else { continue };
            let refs = self.glance.seen().await;
            for name in &known.environments {
                let signs = Signs::of(&known, name, &refs, &tip);
                match self.posts.get_mut(&key(name)).filter(|sent| !sent.task.is_finished()) {
                    Some(sent) if brought.contains(&file) => sent.tell(&known, sound, signs),
                    Some(_) => {}
                    None => {
                        let sent = self.send(&known, name, sound, signs);
                        self.posts.insert(key(name), sent);
                    }
                }
            }
        }
        self.posts.retain(|key, sent| wanted.contains(key) || sent.dismiss());
        self.house.metrics.environments(&self.follow.name, self.posts.len());
    }

    /// Up to where a pipeline's steps may lead, and whether any may begin. Without its source branch none may, and what is
    /// under way is carried on all the same: for this the commit that was seen last is as good as any.
    async fn source_tip(&mut self, file: &str, known: &Known, sound: bool) -> Option<(CommitId, bool)> {
        let source = &known.pipeline.source.branch;
        if let Some(read_at) = self.tip.clone().filter(|_| *source == self.follow.branch) {
            return Some((read_at, sound));
        }
        match tip(&known.repository, source).await {
            Ok((tip, _)) => Some((tip, sound)),
            Err(error) => {
                self.kept_back.push(format!("pipelines/{file}: nothing new can begin: {}", sentence(&error)));
                known.repository.resolve(source).ok().or(self.tip.clone()).map(|tip| (tip, false))
            }
        }
    }

    fn send(&mut self, known: &Known, name: &EnvironmentName, sound: bool, signs: Signs) -> Sent {
        let place = self.house.metrics.place(&known.pipeline.name, name);
        let eyes = Arc::new(Eyes::new(self.house.clone(), place.clone()));
        let (orders, receiver) = watch::channel(Orders {
            pipeline: known.pipeline.clone(),
            ledger: known.ledger.clone(),
            repository: known.repository.clone(),
            tip: signs.tip.clone(),
            may_begin: sound,
            dismissed: false,
            source_news: 0,
            head_news: 0,
        });
        let state_dir = self.home.join("targets").join(known.pipeline.name.as_str()).join(name.as_str());
        let post = Post::new(self.house.clone(), name.clone(), state_dir, receiver, eyes.clone(), place);
        let task = self.tasks.spawn(post.stand());
        Sent { orders, task, eyes, head: signs.head, upstream: signs.upstream, tip: Some(signs.tip) }
    }

    /// Sees to it that what was written here reaches the origin.
    async fn leave(&self) {
        for (_, known, _) in self.pipelines.known() {
            for name in &known.environments {
                match known.ledger.flush(name, FLUSH_WITHIN).await {
                    Ok(0) => {}
                    Ok(left) => tracing::warn!(environment = %name, "{left} pages are only in this clone so far"),
                    Err(error) => tracing::warn!(environment = %name, %error, "what was written here is not pushed"),
                }
            }
        }
    }
}

/// How long questions to the host may fail before the rest of them is left for the next look.
const FAILING_MAX: Duration = Duration::from_secs(60);

async fn bring_one(known: &Known) -> Result<(), String> {
    for some in known.environments.chunks(BROUGHT_AT_ONCE) {
        known.ledger.prepare(some).await?;
    }
    Ok(())
}

/// How long leaving may wait for pages of one environment that the origin does not have yet.
const FLUSH_WITHIN: Span = Span::seconds(5);

/// By what news is told.
struct Signs {
    head: Option<String>,
    upstream: Vec<Option<String>>,
    tip: CommitId,
}

impl Signs {
    fn of(known: &Known, name: &EnvironmentName, refs: &BTreeMap<String, String>, tip: &CommitId) -> Signs {
        let prefix = &known.pipeline.prefix;
        let head = refs.get(&format!("refs/heads/{prefix}/{name}")).cloned();
        let after = known.pipeline.environment(name).map(|e| e.after.clone()).unwrap_or_default();
        let good = |name: &EnvironmentName| refs.get(&format!("refs/{prefix}/{name}/good")).cloned();
        Signs { head, upstream: after.iter().map(good).collect(), tip: tip.clone() }
    }
}

/// The tip of the source branch; where the host cannot be asked, the one that was seen last, and why.
async fn tip(repository: &Repository, branch: &str) -> Result<(CommitId, Option<RepositoryError>), RepositoryError> {
    match repository.tip_of_source(branch).await {
        Ok(tip) => Ok((tip, None)),
        Err(away @ RepositoryError::Unreachable { .. }) => match repository.resolve(branch) {
            Ok(seen) => Ok((seen, Some(away))),
            // A clone that was never filled has nothing to go on from.
            Err(_) => Err(away),
        },
        Err(error) => Err(error),
    }
}

impl Sent {
    /// Sends it home when what is under way has ended. False: it has left.
    fn dismiss(&self) -> bool {
        self.orders.send_if_modified(|orders| {
            orders.source_news += u64::from(!orders.dismissed);
            !std::mem::replace(&mut orders.dismissed, true)
        });
        !self.task.is_finished()
    }

    fn tell(&mut self, known: &Known, sound: bool, signs: Signs) {
        let source = self.tip.as_ref() != Some(&signs.tip) || self.upstream != signs.upstream;
        let wrote_it = |head: &String| self.eyes.wrote_it(head);
        let head = self.head != signs.head && !signs.head.as_ref().is_some_and(wrote_it);
        self.orders.send_if_modified(|orders| {
            let again = std::mem::take(&mut orders.dismissed);
            let file = again || !Arc::ptr_eq(&orders.pipeline, &known.pipeline) || orders.may_begin != sound;
            (orders.pipeline, orders.ledger) = (known.pipeline.clone(), known.ledger.clone());
            (orders.repository, orders.may_begin) = (known.repository.clone(), sound);
            orders.tip = signs.tip.clone();
            orders.source_news += u64::from(source || file);
            orders.head_news += u64::from(head);
            source || file || head
        });
        (self.head, self.upstream, self.tip) = (signs.head, signs.upstream, Some(signs.tip));
    }
}
