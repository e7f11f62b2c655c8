//! The open watches, and the picture they paint.

use std::collections::BTreeMap;

use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Instant, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Config,
    feed::{Change, Need, Pace},
    free::{self, InTheWay},
    hall,
    judge::{Judge, Judged},
    picture::Picture,
    watched::Watched,
};
use crate::{
    clients::kube::{Cluster, ObjectId},
    targets::Progress,
};

/// Changes that may be on their way; a watch waits when there are more.
const CHANGES_WAITING_MAX: usize = 256;

pub(super) struct Eye {
    cluster: Cluster,
    picture: Picture,
    judge: Judge,
    in_the_way: Option<InTheWay>,
    pace: Pace,
    feeds: BTreeMap<Need, AbortOnDropHandle<()>>,
    told: Receiver<(Need, Change)>,
    tell: Sender<(Need, Change)>,
}

impl Eye {
    pub fn new(cluster: &Cluster, watched: Watched, config: &Config, pace: Pace) -> Eye {
        let (tell, told) = channel(CHANGES_WAITING_MAX);
        let in_the_way = watched.makes_way.then(InTheWay::default);
        let (picture, judge) = (Picture::new(watched), Judge::new(config));
        let (cluster, feeds) = (cluster.clone(), BTreeMap::new());
        let mut eye = Eye { cluster, picture, judge, in_the_way, pace, feeds, told, tell };
        eye.open_feeds();
        eye
    }

    pub fn judge(&mut self) -> Judged {
        self.judge.judge(&self.picture, Instant::now())
    }

    /// Evicts what holds up its StatefulSet, where that is wanted; when to do so again.
    pub async fn make_way(&mut self, progress: &Progress) -> Option<Instant> {
        let in_the_way = self.in_the_way.as_mut()?;
        let (stuck, mut again) = in_the_way.ripe(&self.picture, Instant::now());
        for pod in &stuck {
            let name = &pod.id.name;
            progress.say(format!("pod {name} of the revision before holds up its StatefulSet: it is evicted"));
            in_the_way.answered(pod, free::evict(&self.cluster, pod).await, Instant::now());
            again = Some(Instant::now());
        }
        again
    }

    /// Pods that hold up their StatefulSet and cannot be evicted, with the reason.
    pub fn who_stay(&self) -> Vec<(ObjectId, String)> {
        self.in_the_way.iter().flat_map(InTheWay::who_stay).cloned().collect()
    }

    /// Why nothing is heard of something that is waited for.
    pub fn blind(&self) -> Option<String> {
        let lost = |id: &ObjectId| self.picture.lost(id).map(|(error, _)| format!("cannot look at {id}: {error}"));
        self.picture.wanted.iter().find_map(lost)
    }

    /// Whether everything that was named has been looked for once.
    pub fn has_looked(&self) -> bool {
        self.picture.has_looked()
    }

    /// Waits for news, but not for longer than until then, and takes all that has come.
    pub async fn change(&mut self, until: Instant) {
        let Ok(Some((need, change))) = timeout_at(until, self.told.recv()).await else { return };
        self.learn(need, change);
        while let Ok((need, change)) = self.told.try_recv() {
            self.learn(need, change);
        }
        self.open_feeds();
    }

    fn learn(&mut self, need: Need, change: Change) {
        // What a watch that is closed by now still had to say is old.
        if self.feeds.contains_key(&need) {
            self.picture.learn(need, change);
        }
    }

    fn open_feeds(&mut self) {
        let needs = self.picture.needs();
        self.feeds.retain(|need, _| needs.contains(need));
        self.picture.keep(&needs);
        for need in needs {
            let (cluster, pace, tell) = (&self.cluster, self.pace, &self.tell);
            self.feeds.entry(need).or_insert_with_key(|need| hall::open(cluster, need.clone(), pace, tell.clone()));
        }
    }
}
