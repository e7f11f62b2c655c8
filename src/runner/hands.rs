use std::collections::BTreeMap;

use futures_util::future::{BoxFuture, Either, FutureExt, select};

use crate::{
    channels::Channel,
    clients::clock::Clock,
    engine::State,
    gates::{Gate, Scene},
    model::{
        AttemptId, Blame, Effect, EnvironmentName, GateName, GateSpec, Guard, Notice, Plan, Portion, Reading,
        Rehearsal, Release, Saw, Span, Stamp, Traces, What,
    },
    targets::{Act, Done, Target, TargetError},
};

/// Everything outside, behind the sockets.
pub trait Sockets: Send + Sync {
    fn target(&self) -> &dyn Target;

    /// Makes the gate that a plan names; the error is a sentence.
    fn gate(&self, spec: &GateSpec) -> Result<Box<dyn Gate>, String>;

    fn channels(&self) -> &[Box<dyn Channel>];

    fn tells(&self) -> bool {
        !self.channels().is_empty()
    }

    /// What is watched over while nothing happens, and how often.
    fn guard(&self) -> Guard {
        Guard::default()
    }

    /// Gates that look on at every look for drift.
    fn guard_gates(&self) -> &[(GateName, GateSpec)] {
        &[]
    }
}

/// Performs effects, one function each; each gives exactly one event.
#[derive(Clone)]
pub struct Hands<'a> {
    pub environment: EnvironmentName,
    pub sockets: &'a dyn Sockets,
    pub clock: &'a dyn Clock,
}

impl<'a> Hands<'a> {
    /// Something that changes the world. Without an answer `within` that time it counts as failed, and is done again.
    pub fn act(self, effect: Effect, fence: u64, within: Option<Span>) -> BoxFuture<'a, What> {
        let failed = within.and_then(|within| unanswered(&effect, within));
        let (Some(within), Some(failed)) = (within, failed) else { return self.act_at_leisure(effect, fence) };
        let clock = self.clock;
        async move {
            let until = clock.now() + within;
            match select(self.act_at_leisure(effect, fence), wait_until(clock, until)).await {
                Either::Left((what, _)) => what,
                Either::Right(((), _)) => failed,
            }
        }
        .boxed()
    }

    fn act_at_leisure(self, effect: Effect, fence: u64) -> BoxFuture<'a, What> {
        async move {
            match effect {
                Effect::Apply { attempt, release } => self.apply(attempt, release, fence).await,
                Effect::Shift { attempt, release, to } => self.shift(attempt, release, to, fence).await,
                Effect::Retreat { attempt, from, to } => self.retreat(attempt, from, to, fence).await,
                Effect::Settle { attempt, keep } => self.settle(attempt, keep, fence).await,
                Effect::Look { attempt, gate } => no_plan(attempt, gate, self.clock),
                Effect::Tell { notice } => self.tell(notice).await,
                // Not acts: the runner has its own hands for them.
                Effect::LookForDrift { release } => {
                    What::LookedForDrift { tree: release.tree, blind: Some("nobody looked".to_owned()) }
                }
                Effect::Rehearse { release } => {
                    let blind = Some("nobody looked".to_owned());
                    What::Rehearsed { tree: release.tree, rehearsal: Rehearsal { blind, ..Rehearsal::default() } }
                }
            }
        }
        .boxed()
    }

    async fn apply(&self, attempt: AttemptId, release: Release, fence: u64) -> What {
        match self.perform(Act::Apply { release }, fence).await {
            Ok(done) => What::Applied { attempt, note: done.note, renderer: done.renderer },
            Err(error) => {
                What::ApplyFailed { attempt, blame: blame(&error), traces: traces(&error), why: sentence(&error) }
            }
        }
    }

    async fn shift(&self, attempt: AttemptId, release: Release, to: Portion, fence: u64) -> What {
        match self.perform(Act::Shift { release, to: to.clone() }, fence).await {
            Ok(done) => What::Shifted { attempt, to, note: done.note, renderer: done.renderer },
            Err(error) => {
                What::ShiftFailed { attempt, to, blame: blame(&error), traces: traces(&error), why: sentence(&error) }
            }
        }
    }

    async fn retreat(&self, attempt: AttemptId, from: Release, to: Option<Release>, fence: u64) -> What {
        match self.perform(Act::Retreat { from, to }, fence).await {
            Ok(done) => What::Retreated { attempt, note: done.note, renderer: done.renderer },
            Err(error) => What::RetreatFailed { attempt, why: sentence(&error) },
        }
    }

    async fn settle(&self, attempt: AttemptId, keep: Option<Release>, fence: u64) -> What {
        match self.perform(Act::Settle { keep }, fence).await {
            Ok(done) => What::Settled { attempt, note: done.note, renderer: done.renderer },
            Err(error) => What::SettleFailed { attempt, why: sentence(&error) },
        }
    }

    async fn perform(&self, act: Act, fence: u64) -> Result<Done, TargetError> {
        self.sockets.target().perform(&act, fence).await
    }

    /// One look of one gate.
    pub fn look(self, state: &State, attempt: AttemptId, gate: &GateName) -> BoxFuture<'a, What> {
        let attempted = state.attempt.as_ref().filter(|a| a.id == attempt).map(|a| a.plan.clone());
        let watched = || state.watches.iter().find(|w| w.attempt == attempt).map(|w| w.plan.clone());
        let plan = attempted.or_else(watched);
        let gate = gate.clone();
        async move {
            let spec = plan.as_ref().and_then(|plan| plan.gates.get(&gate));
            let (Some(plan), Some(spec)) = (&plan, spec) else { return no_plan(attempt, gate, self.clock) };
            let before = self.clock.now();
            let saw = match self.sockets.gate(spec) {
                Ok(socket) => {
                    let scene = self.scene(plan, spec, attempt).await;
                    socket.look(&scene).await
                }
                Err(why) => Saw::Blind(why),
            };
            let at = self.clock.now();
            What::Read { attempt, reading: Reading { gate, at, took: at.since(before), saw } }
        }
        .boxed()
    }

    async fn scene(&self, plan: &Plan, spec: &GateSpec, attempt: AttemptId) -> Scene {
        let mut facts = self.facts(&plan.release, spec.timeout).await;
        facts.insert("attempt".to_owned(), attempt.0.to_string());
        Scene {
            environment: self.environment.clone(),
            candidate: plan.release.clone(),
            stable: plan.back.clone(),
            facts,
            timeout: spec.timeout,
        }
    }

    /// What the target says of itself, if it does so within the time of a look, and what the release is.
    pub(super) async fn facts(&self, release: &Release, within: Span) -> BTreeMap<String, String> {
        let until = self.clock.now() + within;
        let live = select(self.sockets.target().live(), wait_until(self.clock, until)).await;
        let mut facts: BTreeMap<String, String> = match live {
            Either::Left((Ok(live), _)) => live.facts,
            // The gate then says which fact it misses.
            Either::Left((Err(_), _)) | Either::Right(_) => BTreeMap::new(),
        };
        facts.insert("environment".to_owned(), self.environment.to_string());
        for (component, version) in &release.versions {
            facts.insert(format!("version.{component}"), version.to_string());
        }
        facts
    }

    /// Tells every channel; one that fails or does not answer is a warning.
    pub fn tell(self, notice: Notice) -> BoxFuture<'a, What> {
        async move {
            let until = self.clock.now() + TELL_PATIENCE;
            let mut failures = Vec::new();
            for channel in self.sockets.channels() {
                let told = channel.tell(&self.environment, &notice);
                match select(told, wait_until(self.clock, until)).await {
                    Either::Left((Ok(()), _)) => {}
                    Either::Left((Err(why), _)) => failures.push(why),
                    Either::Right(_) => failures.push(format!("no answer within {TELL_PATIENCE}")),
                }
            }
            match failures.is_empty() {
                true => What::Told { notice: notice.id },
                false => What::TellFailed { notice: notice.id, why: failures.join("; ") },
            }
        }
        .boxed()
    }
}

/// How long all channels together may take over one notice: at the end of a run somebody waits for them.
const TELL_PATIENCE: Span = Span::seconds(10);

pub(super) fn wait_until(clock: &dyn Clock, until: Stamp) -> BoxFuture<'_, ()> {
    async move {
        while clock.now() < until {
            clock.wait(until).await;
        }
    }
    .boxed()
}

/// What is written when an act gives no answer; nothing for those that the promotion's own deadline ends.
fn unanswered(effect: &Effect, within: Span) -> Option<What> {
    let why = format!("no answer within {within}");
    match effect {
        Effect::Retreat { attempt, .. } => Some(What::RetreatFailed { attempt: *attempt, why }),
        Effect::Settle { attempt, .. } => Some(What::SettleFailed { attempt: *attempt, why }),
        Effect::Apply { .. }
        | Effect::Shift { .. }
        | Effect::Look { .. }
        | Effect::Tell { .. }
        | Effect::LookForDrift { .. }
        | Effect::Rehearse { .. } => None,
    }
}

fn no_plan(attempt: AttemptId, gate: GateName, clock: &dyn Clock) -> What {
    let saw = Saw::Blind("the plan does not have this gate".to_owned());
    What::Read { attempt, reading: Reading { gate, at: clock.now(), took: Span(0), saw } }
}

/// Whose fault a target's error is.
fn blame(error: &TargetError) -> Blame {
    match error {
        TargetError::Release(_) => Blame::Release,
        TargetError::World { .. } | TargetError::Unreached { .. } | TargetError::Fenced { .. } => Blame::World,
    }
}

fn traces(error: &TargetError) -> Traces {
    match error {
        TargetError::Unreached { .. } => Traces::None,
        // Who is fenced off may have been in the middle of it.
        TargetError::Release(_) | TargetError::World { .. } | TargetError::Fenced { .. } => Traces::Possible,
    }
}

/// An error with all its causes, on one line.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clients::clock::SystemClock,
        targets::{Live, Sights},
    };

    /// A target that never answers.
    struct Mute;

    impl Target for Mute {
        fn perform<'a>(&'a self, _: &'a Act, _: u64) -> BoxFuture<'a, Result<Done, TargetError>> {
            std::future::pending().boxed()
        }

        fn live(&self) -> BoxFuture<'_, Result<Live, TargetError>> {
            std::future::pending().boxed()
        }

        fn sights(&self) -> Sights {
            Sights::default()
        }
    }

    impl Sockets for Mute {
        fn target(&self) -> &dyn Target {
            self
        }

        fn gate(&self, _: &GateSpec) -> Result<Box<dyn Gate>, String> {
            Err("there is none".to_owned())
        }

        fn channels(&self) -> &[Box<dyn Channel>] {
            &[]
        }
    }

    #[tokio::test]
    async fn a_gate_looks_although_the_target_says_nothing() {
        let id = "a".repeat(40);
        let release = Release {
            tree: id.parse().expect("a tree"),
            source: id.parse().expect("a commit"),
            versions: [("web".parse().expect("a name"), "1".parse().expect("a version"))].into(),
        };
        let hands = Hands { environment: "staging".parse().expect("a name"), sockets: &Mute, clock: &SystemClock };
        let facts = hands.facts(&release, Span(20)).await;
        assert_eq!(facts.into_keys().collect::<Vec<_>>(), ["environment", "version.web"]);
    }
}
