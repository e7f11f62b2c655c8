use std::{collections::BTreeMap, sync::Arc};

use super::{
    Attempt, Ended, Foreign, GOODS_MAX, Good, OUTBOX_MAX, PROVEN_SOURCES_MAX, PROVEN_VERSIONS_MAX, Rollback,
    RollbackLimits, State, Stuck, Tries, Watch, pause::rests_until,
};
use crate::model::{
    Actor, AttemptId, Cause, CommitId, ComponentName, Ending, Event, Lease, Limits, Notice, Plan, Portion, Quarantine,
    Reading, Release, Stamp, Step, Traces, Urgency, What,
};

impl State {
    /// Takes in one event of the commit that holds it. An event that does not fit the state, such as the answer to a
    /// question that was settled in the meantime, changes nothing.
    pub fn apply(&mut self, commit: &CommitId, event: &Event) {
        let at = event.at;
        match &event.what {
            What::Pinned { pin } => {
                self.pins.insert(pin.component.clone(), pin.clone());
            }
            What::Unpinned { component, .. } => {
                self.pins.remove(component);
            }
            What::Quarantined { quarantine } => self.add_quarantine(quarantine),
            What::Unquarantined { what, .. } => self.quarantines.retain(|q| q.what != *what),
            What::Frozen { freeze } => self.freeze = Some(freeze.clone()),
            What::Unfrozen { .. } => self.freeze = None,
            What::Approved { attempt, .. } => {
                if let Some(a) = self.attempt_mut(*attempt) {
                    a.approvals.insert(event.by.clone());
                }
            }
            What::Extended { attempt, until, .. } => self.extended(*attempt, *until),
            What::Aborted { attempt, reason } => {
                if let Some(a) = self.attempt_mut(*attempt) {
                    a.aborted = Some(reason.clone());
                }
            }
            What::RollbackOrdered { to, scope, quarantine, reason } => {
                self.rollback_ordered(at, to.as_ref(), scope.as_ref(), quarantine, reason);
            }
            What::Leased { lease } => self.leased(lease),
            What::Released { nonce } => self.lease = self.lease.take().filter(|lease| lease.nonce != *nonce),
            What::Started { plan } => self.started(at, &event.by, plan),
            What::Read { attempt, reading } => self.read(*attempt, reading),
            What::StepPassed { attempt, step } => self.step_passed(at, *attempt, *step),
            What::Applied { attempt, renderer, .. } => {
                self.rendered(at, *attempt, renderer.as_deref());
                self.applied(at, *attempt);
            }
            What::ApplyFailed { attempt, why, blame, traces } => {
                if let Some(a) = self.attempt_mut(*attempt).filter(|a| a.current() == Some(&Step::Deploy)) {
                    a.tried(*traces);
                    a.tries.failed(at, why);
                    a.tries.blame = *blame;
                }
            }
            What::Shifted { attempt, to, renderer, .. } => {
                self.rendered(at, *attempt, renderer.as_deref());
                if let Some(a) = self.attempt_mut(*attempt).filter(|a| a.is_shifting(to)) {
                    a.tried(Traces::Possible);
                    a.acted = Some(at);
                    a.tries = Tries::default();
                }
            }
            What::ShiftFailed { attempt, to, why, blame, traces } => {
                if let Some(a) = self.attempt_mut(*attempt).filter(|a| a.is_shifting(to)) {
                    a.tried(*traces);
                    a.tries.failed(at, why);
                    a.tries.blame = *blame;
                }
            }
            What::Promoted { attempt } => self.promoted(at, commit, *attempt),
            What::Settled { attempt, renderer, .. } => {
                self.rendered(at, *attempt, renderer.as_deref());
                self.settled(at, *attempt);
            }
            What::SettleFailed { attempt, why } => self.settle_failed(at, *attempt, why),
            What::Refused { attempt, cause, paused_until } => self.refused(at, *attempt, cause, *paused_until),
            What::WatchEnded { attempt } => self.watch_ended(at, *attempt),
            What::RollbackBegan { attempt, cause, to, quarantine } => {
                self.rollback_began(at, *attempt, cause, to.as_ref(), quarantine);
            }
            What::Retreated { attempt, renderer, .. } => {
                self.rendered(at, *attempt, renderer.as_deref());
                if let Some(r) = self.rollback_mut(*attempt) {
                    r.retreated = Some(at);
                    r.tries = Tries::default();
                }
            }
            What::RetreatFailed { attempt, why } => {
                if let Some(r) = self.rollback_mut(*attempt).filter(|r| r.retreated.is_none()) {
                    r.tries.failed(at, why);
                }
            }
            What::RollbackWidened { attempt, to } => {
                if let Some(r) = self.rollback_mut(*attempt) {
                    r.to = to.clone();
                    r.scope = None;
                    r.widened = true;
                    r.tries = Tries::default();
                }
            }
            What::RolledBack { attempt, paused_until } => self.rolled_back(at, *attempt, *paused_until),
            What::Stuck { attempt, at: place, live, advice } => self.got_stuck(at, *attempt, place, live, advice),
            What::LookedForDrift { tree, blind } => self.looked_for_drift(at, tree, blind.as_ref()),
            What::Drifted { tree, differences, count } => self.drifted(at, tree, differences, *count),
            What::DriftEnded { how } => self.drift_ended(at, how),
            What::Rehearsed { tree, rehearsal } => self.rehearsed(at, tree, rehearsal),
            What::WayBackWaived { attempt, reason } => {
                if let Some(a) = self.attempt_mut(*attempt) {
                    a.way_back_waived = Some(reason.clone());
                }
            }
            What::Told { notice } | What::TellFailed { notice, .. } => self.outbox.retain(|n| n.id != *notice),
        }
    }

    /// Takes in a commit that piton did not write, or whose events cannot be read.
    pub fn apply_foreign(&mut self, commit: &CommitId, at: Stamp, author: &Actor, why: &str) {
        self.foreign = Some(Foreign { commit: commit.clone(), at, author: author.clone(), why: why.to_owned() });
    }

    /// Another renderer, or another version of it, may make other objects of the same files: that is said, never refused.
    fn rendered(&mut self, at: Stamp, id: AttemptId, by: Option<&str>) {
        let Some(by) = by else { return };
        if let Some(rollback) = self.rollback.as_ref().filter(|r| r.attempt == id) {
            let to = rollback.to.as_ref().map(|to| &to.tree);
            let goods = self.good.iter().chain(self.earlier_goods.iter().rev());
            let before = goods.filter(|good| Some(&good.release.tree) == to).find_map(|good| good.renderer.clone());
            let Some(before) = before.filter(|before| before != by) else { return };
            let text = format!("{id} goes back with {by} to what {before} had rendered");
            return self.notice(at, Urgency::Warning, text);
        }
        let Some(a) = self.attempt_mut(id) else { return };
        let before = a.renderer.replace(by.to_owned()).or(a.plan.renderer.clone());
        let promoted = a.promoted.is_some();
        if let Some(good) = self.good.as_mut().filter(|good| promoted && good.attempt == id) {
            good.renderer = Some(by.to_owned());
        }
        if let Some(before) = before.filter(|before| before != by) {
            self.notice(at, Urgency::Warning, format!("{id} was planned with {before} and is rendered by {by}"));
        }
    }

    /// Two who write at the same moment ask for the same number, and a page that waited lands after others: a new holder's
    /// number is higher than every one before, whatever it asked for.
    fn leased(&mut self, lease: &Lease) {
        let renewed = self.lease.as_ref().is_some_and(|held| held.nonce == lease.nonce);
        let lowest = if renewed { self.fence } else { self.fence + 1 };
        self.fence = lease.fence.max(lowest);
        self.lease = Some(Lease { fence: self.fence, ..lease.clone() });
    }

    fn attempt_mut(&mut self, id: AttemptId) -> Option<&mut Attempt> {
        self.attempt.as_mut().filter(|a| a.id == id)
    }

    fn rollback_mut(&mut self, id: AttemptId) -> Option<&mut Rollback> {
        self.rollback.as_mut().filter(|r| r.attempt == id)
    }

    fn add_quarantine(&mut self, quarantine: &Quarantine) {
        self.quarantines.retain(|q| q.what != quarantine.what);
        self.quarantines.push(quarantine.clone());
    }

    fn extended(&mut self, id: AttemptId, until: Stamp) {
        if let Some(a) = self.attempt_mut(id) {
            a.extended = Some(until);
        }
        if let Some(w) = self.watches.iter_mut().find(|w| w.attempt == id) {
            w.extended = Some(until);
        }
    }

    fn started(&mut self, at: Stamp, by: &Actor, plan: &Arc<Plan>) {
        if self.is_busy() || self.stuck.is_some() {
            return;
        }
        self.attempts += 1;
        self.limits = Some(RollbackLimits::of(&plan.limits));
        let id = AttemptId(self.attempts);
        let mut attempt = Attempt {
            id,
            plan: plan.clone(),
            by: by.clone(),
            started: at,
            touched: None,
            step: 0,
            step_since: at,
            acted: None,
            tries: Tries::default(),
            gates: BTreeMap::new(),
            approvals: Default::default(),
            extended: None,
            aborted: None,
            way_back_waived: None,
            promoted: None,
            renderer: None,
            traceless: None,
        };
        attempt.mark_touched(at);
        self.attempt = Some(attempt);
    }

    fn read(&mut self, id: AttemptId, reading: &Reading) {
        let (plan, gates) = if let Some(a) = self.attempt.as_mut().filter(|a| a.id == id) {
            (&a.plan, &mut a.gates)
        } else if let Some(w) = self.watches.iter_mut().find(|w| w.attempt == id) {
            (&w.plan, &mut w.gates)
        } else {
            return;
        };
        if let Some(spec) = plan.gates.get(&reading.gate) {
            gates.entry(reading.gate.clone()).or_default().take(spec, reading);
        }
    }

    fn step_passed(&mut self, at: Stamp, id: AttemptId, step: usize) {
        let fence = self.fence;
        if let Some(a) = self.attempt_mut(id).filter(|a| a.step == step) {
            let untouched = a.touched.is_none();
            a.advance(at);
            if untouched && a.touched.is_some() {
                a.traceless = Some(fence);
            }
        }
    }

    fn applied(&mut self, at: Stamp, id: AttemptId) {
        if let Some(a) = self.attempt_mut(id).filter(|a| a.current() == Some(&Step::Deploy)) {
            a.tried(Traces::Possible);
            a.advance(at);
        }
    }

    fn promoted(&mut self, at: Stamp, commit: &CommitId, id: AttemptId) {
        let passed_all = |a: &Attempt| a.current().is_none() && a.promoted.is_none();
        let Some(a) = self.attempt_mut(id).filter(|a| passed_all(a)) else { return };
        a.promoted = Some(at);
        a.tries = Tries::default();
        let plan = a.plan.clone();
        let good = Good {
            commit: commit.clone(),
            release: plan.release.clone(),
            at,
            attempt: id,
            renderer: a.renderer.clone(),
        };
        if let Some(before) = self.good.replace(good) {
            push_capped(&mut self.earlier_goods, before, GOODS_MAX);
        }
        self.live = Some(plan.release.clone());
        self.seen_afresh();
        if plan.completes_source {
            self.source_done = Some(plan.release.source.clone());
        }
        self.remember_proven(&plan.release);
        self.pause = None;
        self.last = Some(Ended { attempt: id, at, ending: Ending::Promoted });
        self.notice(at, Urgency::Info, format!("promoted {}", plan.headline()));
    }

    fn remember_proven(&mut self, release: &Release) {
        if self.proven_sources.back() != Some(&release.source) {
            self.proven_sources.retain(|s| *s != release.source);
            push_capped(&mut self.proven_sources, release.source.clone(), PROVEN_SOURCES_MAX);
        }
        for (component, version) in &release.versions {
            let versions = self.proven.entry(component.clone()).or_default();
            if !versions.contains(version) {
                push_capped(versions, version.clone(), PROVEN_VERSIONS_MAX);
            }
        }
    }

    fn settled(&mut self, at: Stamp, id: AttemptId) {
        if let Some(r) = self.rollback_mut(id).filter(|r| r.retreated.is_some()) {
            r.settled = true;
            return self.tidied_up(at);
        }
        if self.attempt.as_ref().is_some_and(|a| a.id == id && a.promoted.is_some()) {
            self.begin_watch(at);
            return self.tidied_up(at);
        }
        if self.leftover_mut(id).is_some() {
            self.tidied_up(at);
        }
    }

    fn begin_watch(&mut self, at: Stamp) {
        let Some(a) = self.attempt.take() else { return };
        if a.plan.watch.time.0 == 0 {
            return;
        }
        let until = at + a.plan.watch.time;
        self.watches.push(Watch {
            attempt: a.id,
            plan: a.plan,
            since: at,
            until,
            gates: BTreeMap::new(),
            extended: None,
        });
    }

    fn settle_failed(&mut self, at: Stamp, id: AttemptId, why: &str) {
        if let Some(r) = self.rollback_mut(id).filter(|r| r.retreated.is_some()) {
            r.tries.failed(at, why);
            let given_up = r.tries.failed >= r.limits.tries;
            r.settled |= given_up;
            if given_up {
                self.left_behind(at, id, why);
            }
            return;
        }
        if let Some(leftover) = self.leftover_mut(id) {
            (leftover.tries, leftover.last, leftover.why) = (leftover.tries + 1, at, why.to_owned());
            return;
        }
        let Some(a) = self.attempt_mut(id).filter(|a| a.promoted.is_some()) else { return };
        a.tries.failed(at, why);
        if a.tries.failed >= a.plan.limits.rollback_tries {
            self.left_behind(at, id, why);
            self.begin_watch(at);
        }
    }

    fn refused(&mut self, at: Stamp, id: AttemptId, cause: &Cause, paused_until: Option<Stamp>) {
        let fence = self.fence;
        let untouched = |a: &mut Attempt| a.id == id && (a.touched.is_none() || a.left_no_trace(fence));
        let Some(a) = self.attempt.take_if(untouched) else { return };
        let (what, why) = (a.plan.headline(), cause.sentence());
        self.notice(at, Urgency::Warning, format!("refused {what}: {why}{}", rests_until(paused_until)));
        if let Some(until) = paused_until {
            self.paused_after(at, id, cause, until);
        }
        let ending = Ending::RolledBack { cause: cause.clone(), touched: false };
        self.last = Some(Ended { attempt: id, at, ending });
    }

    fn rollback_began(
        &mut self,
        at: Stamp,
        id: AttemptId,
        cause: &Cause,
        to: Option<&Release>,
        quarantine: &[Quarantine],
    ) {
        let plan = if self.attempt.as_ref().is_some_and(|a| a.id == id) {
            self.attempt.take().map(|a| a.plan)
        } else if self.is_busy() {
            None
        } else {
            let watch = self.watches.iter().position(|w| w.attempt == id);
            watch.map(|i| self.watches.remove(i).plan)
        };
        let Some(plan) = plan else { return };
        let pause = self.rest(&plan, cause);
        quarantine.iter().for_each(|q| self.add_quarantine(q));
        self.notice(at, Urgency::Alarm, format!("rolling back {}: {}", plan.headline(), cause.sentence()));
        let from = Some(plan.release.clone());
        let limits = RollbackLimits::of(&plan.limits);
        let rollback = Rollback::new(id, cause.clone(), from, to.cloned(), None, at, limits);
        self.rollback = Some(Rollback { pause, ..rollback });
    }

    fn rollback_ordered(
        &mut self,
        at: Stamp,
        to: Option<&Release>,
        scope: Option<&ComponentName>,
        quarantine: &[Quarantine],
        reason: &str,
    ) {
        quarantine.iter().for_each(|q| self.add_quarantine(q));
        let limits = self.limits_of_the_way_back();
        let left = self.leaving();
        let (id, from) = left.map(|(id, from)| (id, from.cloned())).unwrap_or_else(|| {
            let from = self.live.clone();
            self.attempts += 1;
            (AttemptId(self.attempts), from)
        });
        self.attempt = None;
        self.stuck = None;
        self.notice(at, Urgency::Alarm, format!("rolling back by hand: {reason}"));
        let cause = Cause::Ordered { reason: reason.to_owned() };
        self.rollback = Some(Rollback::new(id, cause, from, to.cloned(), scope.cloned(), at, limits));
    }

    /// As the plan says that is under way, or else was the last one: a second order is no reason to wait longer.
    fn limits_of_the_way_back(&self) -> RollbackLimits {
        let plan = self.attempt.as_ref().map(|a| &a.plan).or(self.watches.last().map(|w| &w.plan));
        match (&self.rollback, plan) {
            (Some(rollback), _) => rollback.limits,
            (None, Some(plan)) => RollbackLimits::of(&plan.limits),
            (None, None) => self.limits.unwrap_or_else(|| RollbackLimits::of(&Limits::default())),
        }
    }

    fn rolled_back(&mut self, at: Stamp, id: AttemptId, paused_until: Option<Stamp>) {
        let Some(r) = self.rollback.take_if(|r| r.attempt == id && r.retreated.is_some()) else { return };
        // Going from a trial to an earlier release leaves what was live, too. Of what is not to blame, nothing is known.
        let trial = r.from.filter(|_| r.cause.blames_the_change());
        for left in [trial, self.live.take()] {
            self.condemn(left.as_ref(), r.to.as_ref());
        }
        let after = at.since(r.since);
        self.notice(at, Urgency::Warning, format!("rolled back {id} after {after}{}", rests_until(paused_until)));
        match paused_until {
            Some(until) => self.paused_after(at, id, &r.cause, until),
            // The world took a release and what was before it: it is not to blame any more.
            None => self.pause = None,
        }
        self.watch_again(r.to.as_ref());
        self.live = r.to;
        self.foreign = None;
        self.seen_afresh();
        let ending = Ending::RolledBack { cause: r.cause, touched: true };
        self.last = Some(Ended { attempt: id, at, ending });
    }

    /// A quiet watch over the newest release is one over those before it, too: they are no longer what users get.
    fn watch_ended(&mut self, at: Stamp, id: AttemptId) {
        let Some(newest) = self.watches.iter().position(|w| w.attempt == id) else { return };
        for (gate, log) in &self.watches[newest].gates.clone() {
            if log.bad_since.is_some() {
                self.notice(at, Urgency::Alarm, format!("gate `{gate}` is bad at the end of the watch: {}", log.note));
            }
        }
        self.watches.drain(..=newest);
    }

    /// What was watched when `to` was live is looked at again, with fresh eyes; a watch over anything else is of no use.
    fn watch_again(&mut self, to: Option<&Release>) {
        let watched = self.watches.iter().rposition(|w| to.is_some_and(|to| to.tree == w.plan.release.tree));
        self.watches.truncate(watched.map_or(0, |last| last + 1));
        if let Some(watch) = self.watches.last_mut() {
            watch.gates.clear();
        }
    }

    /// A release that was left is not good any more.
    fn condemn(&mut self, from: Option<&Release>, to: Option<&Release>) {
        let Some(from) = from.filter(|from| Some(&from.tree) != to.map(|to| &to.tree)) else { return };
        self.earlier_goods.retain(|good| good.release.tree != from.tree);
        if self.good.as_ref().is_some_and(|good| good.release.tree == from.tree) {
            self.good = self.earlier_goods.pop_back();
            self.unprove(from, to);
        }
    }

    /// The versions that were condemned here must not go on to the next environment.
    fn unprove(&mut self, from: &Release, to: Option<&Release>) {
        self.proven_sources.retain(|source| *source != from.source || to.is_some_and(|to| to.source == *source));
        for (component, version) in &from.versions {
            let kept = to.and_then(|to| to.versions.get(component)) == Some(version);
            if let Some(versions) = self.proven.get_mut(component).filter(|_| !kept) {
                versions.retain(|v| v != version);
            }
        }
    }

    fn got_stuck(&mut self, at: Stamp, id: AttemptId, place: &str, live: &str, advice: &str) {
        let Some(r) = self.rollback.take_if(|r| r.attempt == id) else { return };
        self.notice(at, Urgency::Alarm, format!("stuck {place}: {advice}"));
        let stuck = Stuck {
            attempt: id,
            since: at,
            at: place.to_owned(),
            live: live.to_owned(),
            advice: advice.to_owned(),
            from: r.from,
            to: r.to,
            cause: Some(r.cause),
        };
        let ending = Ending::Stuck { at: stuck.at.clone(), live: stuck.live.clone(), advice: stuck.advice.clone() };
        self.stuck = Some(stuck);
        self.last = Some(Ended { attempt: id, at, ending });
    }

    pub(super) fn notice(&mut self, at: Stamp, urgency: Urgency, text: String) {
        self.notices += 1;
        push_capped(&mut self.outbox, Notice { id: self.notices, at, urgency, text }, OUTBOX_MAX);
    }
}

impl Attempt {
    fn advance(&mut self, at: Stamp) {
        self.step += 1;
        self.step_since = at;
        self.acted = None;
        self.tries = Tries::default();
        self.gates.clear();
        self.mark_touched(at);
    }

    /// Whether this weight change is the one that is to be done: the answer to an earlier one moves nothing on.
    fn is_shifting(&self, portion: &Portion) -> bool {
        self.acted.is_none() && matches!(self.current(), Some(Step::Shift { to, .. }) if to == portion)
    }

    /// From the moment a deploy may be tried, the world may have been touched: the answer can be lost.
    fn mark_touched(&mut self, at: Stamp) {
        if self.touched.is_none() && matches!(self.current(), Some(Step::Deploy | Step::Shift { .. })) {
            self.touched = Some(at);
        }
    }
}

impl Attempt {
    /// Something was tried: what may have left a trace is never traceless again.
    fn tried(&mut self, traces: Traces) {
        self.traceless = self.traceless.filter(|_| traces == Traces::None);
    }
}

impl Tries {
    fn failed(&mut self, at: Stamp, why: &str) {
        self.failed += 1;
        self.last = Some(at);
        self.why = why.to_owned();
    }
}

impl Rollback {
    fn new(
        attempt: AttemptId,
        cause: Cause,
        from: Option<Release>,
        to: Option<Release>,
        scope: Option<ComponentName>,
        since: Stamp,
        limits: RollbackLimits,
    ) -> Rollback {
        Rollback {
            attempt,
            cause,
            from,
            to,
            scope,
            since,
            limits,
            tries: Tries::default(),
            widened: false,
            retreated: None,
            settled: false,
            pause: None,
        }
    }
}

impl RollbackLimits {
    fn of(limits: &Limits) -> RollbackLimits {
        RollbackLimits { within: limits.rollback, tries: limits.rollback_tries, pause: limits.rollback_pause }
    }
}

fn push_capped<T>(queue: &mut std::collections::VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}
