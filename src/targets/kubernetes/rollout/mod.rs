//! Watches objects until they are all ready, or one is visibly broken, or the time is over.

mod config;
mod eye;
pub mod feed;
mod free;
mod hall;
mod judge;
mod log;
mod picture;
mod related;
mod selector;
mod slim;
mod standing;
#[cfg(test)]
mod tests;
pub mod touched;
mod wanted;
mod watched;

use tokio::time::Instant;

pub use self::{
    config::Config,
    selector::Selector,
    standing::{Glance, Standing},
    watched::Watched,
};
use self::{eye::Eye, feed::Pace, judge::Judged};
use super::health::Trouble;
use crate::{
    clients::kube::{Cluster, ObjectId},
    model::Span,
    targets::{Progress, TargetError},
};

/// Missing objects that a sentence names at most.
const NAMED_MAX: usize = 3;

/// How a rollout ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    Ready {
        note: String,
    },
    /// The first thing that was found broken.
    Broken(Box<Trouble>),
    /// The time is over; what was still missing.
    TimeOut {
        after: Span,
        missing: Vec<(ObjectId, String)>,
    },
    /// Nobody knows: we could not look, or were not allowed to.
    Unknown {
        why: String,
    },
}

impl Ended {
    /// As a target answers: a note, or whose fault it is.
    pub fn into_result(self) -> Result<String, TargetError> {
        match self {
            Ended::Ready { note } => Ok(note),
            Ended::Broken(trouble) => Err(trouble.into_error()),
            Ended::TimeOut { after, missing } => {
                Err(TargetError::Release(format!("not ready within {after}: {}", in_words(&missing))))
            }
            Ended::Unknown { why } => Err(TargetError::World { what: why, source: None }),
        }
    }
}

/// Watches until the end. It touches only one thing: on the way back a pod of the revision that is left is evicted where it
/// is not ready and holds up its StatefulSet, see `free.rs`. Lives through an API server that is away for a while.
pub async fn watch(cluster: &Cluster, watched: impl Into<Watched>, config: &Config, progress: &Progress) -> Ended {
    let ended = until_the_end(cluster, watched.into(), config, progress).await;
    progress.clear();
    match ended {
        Ended::Broken(trouble) if config.logs => Ended::Broken(Box::new(log::with_log(cluster, *trouble).await)),
        other => other,
    }
}

async fn until_the_end(cluster: &Cluster, watched: Watched, config: &Config, progress: &Progress) -> Ended {
    let deadline = Instant::now() + config.within.as_duration();
    let mut eye = Eye::new(cluster, watched, config, Pace::ROLLOUT);
    loop {
        let (mut missing, again) = match eye.judge() {
            Judged::Ready { note } => return Ended::Ready { note },
            Judged::Broken(trouble) => return Ended::Broken(trouble),
            Judged::Forbidden { why } => return Ended::Unknown { why },
            Judged::Open { missing, again } => (missing, again),
        };
        missing.splice(..0, eye.who_stay());
        if Instant::now() >= deadline {
            return match eye.blind() {
                Some(why) => Ended::Unknown { why },
                None => Ended::TimeOut { after: config.within, missing },
            };
        }
        // Something is in doubt, or all but proven.
        match again {
            Some(_) => progress.alarm(in_words(&missing)),
            None => progress.say(in_words(&missing)),
        }
        let ripe = eye.make_way(progress).await;
        let again = again.into_iter().chain(ripe).min();
        eye.change(again.map_or(deadline, |again| again.min(deadline))).await;
    }
}

/// `deployment web: 2 of 3 replicas are available; job migrate: 0 of 1 done`
fn in_words(missing: &[(ObjectId, String)]) -> String {
    let say = |(id, why): &(ObjectId, String)| format!("{} {}: {why}", id.kind.to_lowercase(), id.name);
    let mut words: Vec<String> = missing.iter().take(NAMED_MAX).map(say).collect();
    if missing.len() > NAMED_MAX {
        words.push(format!("and {} more", missing.len() - NAMED_MAX));
    }
    words.join("; ")
}
