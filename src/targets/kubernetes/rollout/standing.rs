//! The standing look at what is live: whether anything of it is visibly broken at this moment.

use std::sync::Mutex;

use tokio::{
    sync::watch,
    time::{Duration, Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Config,
    eye::Eye,
    feed::Pace,
    judge::{DELETED, Judged},
    log,
    watched::Watched,
};
use crate::{
    clients::kube::{Cluster, ObjectId},
    model::Blame,
};

/// Facts of a target: what of the release is visibly broken (empty when nothing is), that all is ready, what is not.
const BROKEN: &str = "broken";
const READY: &str = "ready";
const UNSETTLED: &str = "unsettled";

/// How long the first look may take before it is said that nothing is known.
const FIRST_LOOK_WITHIN: Duration = Duration::from_secs(10);
/// Without news it is judged again after as long, because doubts ripen.
const JUDGED_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What a standing look says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Glance {
    /// All is well: `3 objects with 5 pods ready`.
    Well { note: String },
    /// Under way, or not quite ready, and nothing that can be called broken.
    Unsettled { why: String },
    /// The pod, the reason and the node in a sentence, and below it the last lines of the log.
    Broken { why: String },
    /// Something around it is broken, such as a node: it may mend itself, and nobody here is to blame.
    Disturbed { why: String },
    /// Nobody knows.
    Unknown { why: String },
}

/// Looks at the same objects for as long as it lives, through watches that it opens at the first glance. A glance costs
/// nothing; only the objects that were named, and the pods they own, are remembered.
pub struct Standing {
    cluster: Cluster,
    config: Config,
    open: Mutex<Option<Open>>,
}

struct Open {
    watched: Watched,
    glances: watch::Receiver<Option<Glance>>,
    _task: AbortOnDropHandle<()>,
}

impl Standing {
    pub fn new(cluster: &Cluster, config: &Config) -> Standing {
        Standing { cluster: cluster.clone(), config: config.clone(), open: Mutex::default() }
    }

    /// How the objects are doing at this moment. Other objects than before begin a new look.
    pub async fn glance(&self, watched: impl Into<Watched>) -> Glance {
        let mut glances = self.glances(watched.into());
        let first = timeout(FIRST_LOOK_WITHIN, glances.wait_for(Option::is_some)).await;
        match first {
            Ok(Ok(glance)) => glance.clone().unwrap_or_else(|| unknown("nothing was seen")),
            Ok(Err(_)) => unknown("the look has ended"),
            Err(_) => unknown("the first look has not been answered"),
        }
    }

    fn glances(&self, watched: Watched) -> watch::Receiver<Option<Glance>> {
        let mut open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(open) = open.as_ref().filter(|open| open.watched == watched) {
            return open.glances.clone();
        }
        let (tell, glances) = watch::channel(None);
        let (cluster, config) = (self.cluster.clone(), self.config.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(look(cluster, config, watched.clone(), tell)));
        *open = Some(Open { watched, glances: glances.clone(), _task: task });
        glances
    }
}

fn unknown(why: &str) -> Glance {
    Glance::Unknown { why: why.to_owned() }
}

async fn look(cluster: Cluster, config: Config, watched: Watched, tell: watch::Sender<Option<Glance>>) {
    let mut eye = Eye::new(&cluster, watched, &config, Pace::STANDING);
    let mut before: Option<(String, String)> = None;
    loop {
        let mut again = Instant::now() + JUDGED_AGAIN_AFTER;
        let glance = match eye.judge() {
            Judged::Ready { note } => Some(Glance::Well { note }),
            Judged::Forbidden { why } => Some(Glance::Unknown { why }),
            Judged::Broken(trouble) => {
                // What somebody deleted does not come back by itself, whoever did it.
                let holds = trouble.blame == Blame::World && trouble.reason != DELETED;
                let headline = trouble.headline();
                // The log is asked for once for each trouble, however often it is seen.
                let why = match before.take().filter(|(known, _)| *known == headline) {
                    Some((_, why)) => why,
                    None if config.logs => log::with_log(&cluster, *trouble).await.to_string(),
                    None => headline.clone(),
                };
                before = Some((headline, why.clone()));
                Some(match holds {
                    true => Glance::Disturbed { why },
                    false => Glance::Broken { why },
                })
            }
            Judged::Open { missing, again: sooner } => {
                again = sooner.unwrap_or(again).min(again);
                open(&eye, &missing)
            }
        };
        if !matches!(glance, Some(Glance::Broken { .. } | Glance::Disturbed { .. })) {
            before = None;
        }
        tell.send_if_modified(|told| {
            let news = glance.is_some() && *told != glance;
            if news {
                *told = glance;
            }
            news
        });
        eye.change(again).await;
    }
}

/// Not all is ready; nothing is said before everything has been looked at once.
fn open(eye: &Eye, missing: &[(ObjectId, String)]) -> Option<Glance> {
    match eye.blind() {
        Some(why) => Some(Glance::Unknown { why }),
        None => eye.has_looked().then(|| Glance::Unsettled { why: super::in_words(missing) }),
    }
}

impl Glance {
    /// As facts of a target, for the gate `workload` and for people. Nothing, when nothing is known.
    pub fn facts(&self) -> Vec<(String, String)> {
        let fact = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let broken = |why: &str| fact(BROKEN, why);
        match self {
            Glance::Well { note } => vec![broken(""), fact(READY, note)],
            Glance::Unsettled { why } | Glance::Disturbed { why } => vec![broken(""), fact(UNSETTLED, why)],
            Glance::Broken { why } => vec![broken(why)],
            Glance::Unknown { why: _ } => Vec::new(),
        }
    }
}
