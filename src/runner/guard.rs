//! Standing guard: looks for drift and rehearsals of the way back. They change nothing, need no lease, and what they find
//! out again and again is written once.

use std::collections::BTreeMap;

use futures_util::future::{BoxFuture, Either, FutureExt, select};

use super::{
    Belief, Runner, RunnerError,
    hands::{Hands, Sockets, sentence, wait_until},
};
use crate::{
    clients::clock::Clock,
    gates::Scene,
    model::{Difference, EnvironmentName, Event, GateName, GateSpec, Rehearsal, Release, Saw, Span, TreeId, What},
    targets::TargetError,
};

/// The longest that one look for drift may take.
const LOOK_PATIENCE: Span = Span::minutes(1);
/// The longest that a rehearsal may take: registries are asked for every image.
const REHEARSAL_PATIENCE: Span = Span::minutes(5);

/// What is under way, so that it is not begun twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Errand {
    Drift(TreeId),
    Rehearsal(TreeId),
}

/// What came of it.
pub(super) enum Found {
    Drift(Result<Vec<Difference>, String>),
    Rehearsal(Rehearsal),
}

/// One look of a person's command: what differs from the release, or why nothing could be seen.
pub async fn differences(
    sockets: &dyn Sockets,
    environment: &EnvironmentName,
    clock: &dyn Clock,
    release: &Release,
    digests: &BTreeMap<String, String>,
) -> Result<Vec<Difference>, String> {
    let hands = Hands { environment: environment.clone(), sockets, clock };
    match hands.look_for_drift(release.clone(), digests.clone()).await {
        Found::Drift(found) => found,
        Found::Rehearsal(_) => Err("nobody looked".to_owned()),
    }
}

impl<'a> Hands<'a> {
    /// One look at whether live is as the release says.
    pub(super) fn look_for_drift(self, release: Release, digests: BTreeMap<String, String>) -> BoxFuture<'a, Found> {
        async move {
            let until = self.clock.now() + LOOK_PATIENCE;
            let look = seen(&self, &release, &digests).boxed();
            Found::Drift(match select(look, wait_until(self.clock, until)).await {
                Either::Left((found, _)) => found,
                Either::Right(_) => Err(format!("no answer within {LOOK_PATIENCE}")),
            })
        }
        .boxed()
    }

    /// Tries whether the release could be deployed again.
    pub(super) fn rehearse(self, release: Release) -> BoxFuture<'a, Found> {
        async move {
            let until = self.clock.now() + REHEARSAL_PATIENCE;
            let rehearsal = self.sockets.target().rehearse(&release);
            let blind = |why: String| Rehearsal { blind: Some(why), ..Rehearsal::default() };
            Found::Rehearsal(match select(rehearsal, wait_until(self.clock, until)).await {
                Either::Left((Ok(rehearsal), _)) => rehearsal,
                Either::Left((Err(error @ TargetError::Release(_)), _)) => {
                    Rehearsal { obstacles: vec![sentence(&error)], ..Rehearsal::default() }
                }
                Either::Left((Err(error), _)) => blind(sentence(&error)),
                Either::Right(_) => blind(format!("no answer within {REHEARSAL_PATIENCE}")),
            })
        }
        .boxed()
    }
}

/// What the target sees, and what the services say of themselves through the gates that stand guard.
async fn seen(
    hands: &Hands<'_>,
    release: &Release,
    digests: &BTreeMap<String, String>,
) -> Result<Vec<Difference>, String> {
    let found = hands.sockets.target().drift(release, digests).await;
    let mut differences = found.map_err(|error| sentence(&error))?;
    for (name, spec) in hands.sockets.guard_gates() {
        differences.extend(said(hands, release, name, spec).await?);
    }
    Ok(differences)
}

/// A gate that says no to what is live is a difference.
async fn said(
    hands: &Hands<'_>,
    release: &Release,
    name: &GateName,
    spec: &GateSpec,
) -> Result<Option<Difference>, String> {
    let blind = |why: String| format!("gate `{name}`: {why}");
    let gate = hands.sockets.gate(spec).map_err(blind)?;
    let scene = Scene {
        environment: hands.environment.clone(),
        candidate: release.clone(),
        stable: None,
        facts: hands.facts(release, spec.timeout).await,
        timeout: spec.timeout,
    };
    match gate.look(&scene).await {
        Saw::Good(_) | Saw::Counts(_) => Ok(None),
        Saw::Blind(why) => Err(blind(why)),
        Saw::Bad(why) => Ok(Some(Difference {
            object: format!("gate {name}"),
            field: String::new(),
            wanted: Some("good".into()),
            live: Some(why.into()),
            by: None,
            at: None,
            source: None,
        })),
    }
}

impl Runner<'_> {
    /// What was found is written at once where it is news, and else only known here until the next look.
    pub(super) async fn stood_guard(
        &self,
        belief: &mut Belief,
        errand: Errand,
        found: Found,
    ) -> Result<(), RunnerError> {
        let now = self.clock.now();
        let what = match (errand, found) {
            (Errand::Drift(tree), Found::Drift(found)) => belief.state.compared(&tree, found, now),
            (Errand::Rehearsal(tree), Found::Rehearsal(rehearsal)) => What::Rehearsed { tree, rehearsal },
            (Errand::Drift(_), Found::Rehearsal(_)) | (Errand::Rehearsal(_), Found::Drift(_)) => return Ok(()),
        };
        let was_blind = belief.state.drift_look.as_ref().is_some_and(|look| look.blind.is_some());
        let is_news = is_news(&what, was_blind, belief);
        belief.take_quietly(self.event(what));
        if is_news && !self.decides(belief) {
            self.note(belief).await?;
        }
        Ok(())
    }

    /// Writes what is pending without taking a lease; where somebody else acts, it is theirs to find out.
    async fn note(&self, belief: &mut Belief) -> Result<(), RunnerError> {
        let now = self.clock.now();
        let acts_elsewhere = belief.state.lease.as_ref().is_some_and(|l| l.is_live(now) && l.nonce != self.me.nonce);
        if acts_elsewhere {
            return Ok(());
        }
        self.write(belief, Vec::new()).await.map(drop)
    }
}

/// Whether others must know it at once.
fn is_news(what: &What, was_blind: bool, belief: &Belief) -> bool {
    match what {
        // How long a promotion has been held up by blindness must not be forgotten with this runner.
        What::LookedForDrift { blind, .. } => belief.state.attempt.is_some() && blind.is_some() != was_blind,
        What::Rehearsed { tree, rehearsal } => {
            let before = belief.state.ways_back.get(tree);
            let knew_blind = before.is_some_and(|way| way.blind.is_some());
            rehearsal.blind.is_none() || !knew_blind || !rehearsal.obstacles.is_empty()
        }
        _ => true,
    }
}

/// Whether it may be lost: it is looked at again soon enough.
pub(super) fn is_quiet(event: &Event) -> bool {
    match &event.what {
        What::LookedForDrift { .. } => true,
        What::Rehearsed { rehearsal, .. } => rehearsal.blind.is_some() && rehearsal.obstacles.is_empty(),
        _ => false,
    }
}

impl Belief {
    /// Knows it without being in a hurry to write it. Of looks with the same outcome the first and the last are kept.
    fn take_quietly(&mut self, event: Event) {
        if let Some(head) = &self.opened.head {
            self.state.apply(head, &event);
        }
        let outcome = |event: &Event| match &event.what {
            What::LookedForDrift { blind, .. } => Some(blind.is_some()),
            _ => None,
        };
        let same = |event: &&Event, new: &Event| outcome(event).is_some() && outcome(event) == outcome(new);
        let repeated = self.pending.iter().rev().take(2).filter(|e| same(e, &event)).count() == 2;
        if repeated {
            self.pending.pop();
        }
        self.pending.push(event);
    }
}
