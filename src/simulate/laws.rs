use std::collections::{BTreeMap, BTreeSet};

use crate::{
    engine::{Attempt, State},
    ledger::Page,
    model::{
        AttemptId, Cause, CommitId, Event, GateName, GateSpec, Lease, OnFail, Quarantined, Reading, Release, Rule, Saw,
        Span, Stamp, Step, TreeId, What,
    },
    targets::Act,
};

/// What must hold whatever happens; the first breach is kept.
#[derive(Debug, Default)]
pub(super) struct Laws {
    pub broken: Option<String>,
    wanted: BTreeSet<(u64, String)>,
    fences: BTreeMap<u64, String>,
    fence_landed: u64,
    served: bool,
    /// Somebody looks for drift and tries the way back.
    pub guarded: bool,
    shift_landed: u64,
    /// Releases of which the target said that they are to blame.
    at_fault: BTreeSet<TreeId>,
    step: Watched,
    tries: (Place, u32),
}

/// Where and when an event lands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moment {
    pub tick: u64,
    pub elapsed: Span,
    pub jumped: Span,
}

/// What was seen of the step at hand.
#[derive(Debug, Default)]
struct Watched {
    place: Option<(AttemptId, usize, bool)>,
    begun: Moment,
    looks: BTreeMap<GateName, Vec<Saw>>,
}

type Place = (Option<(AttemptId, usize, bool, bool)>, Option<(Stamp, Option<TreeId>, bool)>);

/// Pending answers may wait so long for company before they are in the ledger.
const LATE_MAX: Span = Span::seconds(20);

impl Laws {
    fn breach(&mut self, what: impl FnOnce() -> String) {
        if self.broken.is_none() {
            self.broken = Some(what());
        }
    }

    pub fn holds(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.breach(what);
        }
    }

    // ---- the target

    pub fn asked(&mut self, act: &Act, fence: u64) {
        let asked = self.wanted.contains(&(fence, super::act_name(act)));
        self.holds(asked, || format!("no page under fence {fence} asks to {}", super::act_name(act)));
    }

    pub fn landed(&mut self, fence: u64) {
        let newest = self.fence_landed;
        self.holds(fence >= newest, || format!("an act of fence {fence} landed after one of {newest}"));
        self.fence_landed = newest.max(fence);
    }

    pub fn is_at_fault(&mut self, tree: &TreeId) {
        self.at_fault.insert(tree.clone());
    }

    pub fn shift_landed(&mut self, tick: u64) {
        self.shift_landed = tick;
    }

    pub fn world_changed(&mut self, state: &State, up: &BTreeSet<TreeId>, users: &BTreeMap<TreeId, u16>) {
        self.served |= !users.is_empty();
        let down = users.iter().find(|(tree, share)| **share > 0 && !up.contains(*tree));
        self.holds(down.is_none(), || {
            format!("users are sent to {}, which is not up", down.map_or("nothing", |(tree, _)| tree.as_str()))
        });
        let all: u32 = users.values().map(|share| u32::from(*share)).sum();
        let nothing_to_serve = state.live.is_none() && state.rollback.as_ref().is_none_or(|r| r.to.is_none());
        let served = !self.served || all == 10_000 || (all == 0 && nothing_to_serve);
        self.holds(served, || format!("only {all} of 10000 users are served"));
        self.idle_world(state, users);
    }

    /// When nothing is under way, users get what is live, and that is not in quarantine.
    fn idle_world(&mut self, state: &State, users: &BTreeMap<TreeId, u16>) {
        if state.is_busy() || state.stuck.is_some() {
            return;
        }
        let expected = state.live.iter().map(|live| (live.tree.clone(), 10_000)).collect::<BTreeMap<_, _>>();
        self.holds(*users == expected, || format!("nothing is under way, but users are on {users:?}"));
        let versions = state.live.iter().flat_map(|live| &live.versions);
        for (name, version) in versions {
            let out = |q: &Quarantined| matches!(q, Quarantined::Version { component, version: v } if component == name && v == version);
            let kept_out = state.quarantines.iter().any(|q| out(&q.what));
            self.holds(!kept_out, || format!("users are on {name} {version}, which is in quarantine"));
        }
    }

    // ---- the ledger

    pub fn page_begins(&mut self, seen: Option<&CommitId>, head: Option<&CommitId>) {
        self.holds(seen == head, || format!("a page that saw {seen:?} was written over {head:?}"));
    }

    /// One event, before it is believed.
    pub fn event(&mut self, state: &State, event: &Event, users: &BTreeMap<TreeId, u16>, now: Moment) {
        match &event.what {
            What::Leased { lease } => self.leased(state, event.at, lease),
            What::Read { attempt, reading } => self.read(state, *attempt, reading),
            What::StepPassed { attempt, step } => {
                let under_way = state.attempt.as_ref().filter(|a| a.id == *attempt);
                match under_way.filter(|a| a.step == *step) {
                    Some(attempt) => self.step_passed(state, attempt, event.at, users, now),
                    None => self.breach(|| format!("step {step} of {attempt} passed out of its turn")),
                }
            }
            What::Promoted { attempt } => {
                let all = state.attempt.as_ref().filter(|a| a.id == *attempt && a.current().is_none());
                self.holds(all.is_some(), || format!("{attempt} was promoted with steps open"));
                if let Some(attempt) = all {
                    self.way_back_is_proven(state, attempt, Some(&attempt.plan.release));
                }
                let there = all.is_some_and(|a| users.get(&a.plan.release.tree) == Some(&10_000));
                self.holds(there, || format!("{attempt} was promoted while users are on {users:?}"));
            }
            What::RollbackBegan { attempt, cause, quarantine, .. } if !quarantine.is_empty() => {
                self.innocence(state, *attempt, cause);
            }
            What::RollbackBegan { cause, quarantine, .. } => {
                let kept = !cause.blames_the_change() || !quarantine.is_empty();
                self.holds(kept, || format!("a rollback blames the change and keeps nothing out: {cause:?}"));
            }
            What::Started { .. } => {
                let rests = state.paused(event.at).is_some() && event.by.as_str().starts_with("runner-");
                self.holds(!rests, || "automation tried again while it was to rest".to_owned());
                let idle = !state.is_busy();
                self.holds(idle, || "a promotion started while another was under way".to_owned());
            }
            _ => {}
        }
    }

    /// One event, after it was believed.
    pub fn moved(&mut self, state: &State, now: Moment) {
        let place = state.attempt.as_ref().map(|a| (a.id, a.step, a.acted.is_some()));
        if place != self.step.place {
            let tick = if place.is_some_and(|(_, _, acted)| acted) { self.shift_landed } else { now.tick };
            self.step = Watched { place, begun: Moment { tick, ..now }, looks: BTreeMap::new() };
        }
        let attempt = state.attempt.as_ref();
        let rollback = state.rollback.as_ref();
        let place: Place = (
            attempt.map(|a| (a.id, a.step, a.acted.is_some(), a.promoted.is_some())),
            rollback.map(|r| (r.since, r.to.as_ref().map(|to| to.tree.clone()), r.retreated.is_some())),
        );
        let failed = rollback.map(|r| r.tries.failed).or(attempt.map(|a| a.tries.failed)).unwrap_or(0);
        let (before, failed_before) = std::mem::replace(&mut self.tries, (place, failed));
        let fewer = before == self.tries.0 && failed < failed_before;
        self.holds(!fewer, || format!("{failed_before} failed tries became {failed} without a success"));
    }

    pub fn page_ends(&mut self, before: &State, after: &State, page: &Page, users: &BTreeMap<TreeId, u16>) {
        let moves_good = |e: &Event| matches!(e.what, What::Promoted { .. } | What::RolledBack { .. });
        let good = before.good == after.good || page.events.iter().any(moves_good);
        self.holds(good, || format!("the last known good moved by `{}`", page.subject));
        if let Some(expected) = tree_of(after) {
            let as_said = page.tree == expected;
            self.holds(as_said, || format!("`{}` holds tree {}, not {expected}", page.subject, page.tree));
        }
        self.idle_world(after, users);
        if let Some(act) = wants(after) {
            self.wanted.insert((after.fence, super::act_name(&act)));
        }
    }

    fn leased(&mut self, state: &State, at: Stamp, lease: &Lease) {
        let holder = self.fences.entry(lease.fence).or_insert_with(|| lease.nonce.clone()).clone();
        self.holds(holder == lease.nonce, || format!("fence {} has two holders", lease.fence));
        let theirs = state.lease.as_ref().filter(|held| held.nonce != lease.nonce);
        let newer = theirs.is_none() || lease.fence > state.fence;
        self.holds(newer, || format!("a new holder took the old fence {}", lease.fence));
        let free = theirs.is_none_or(|held| !held.is_live(at)) || state.rollback.is_some();
        self.holds(free, || "a lease was taken from its holder without a rollback".to_owned());
    }

    fn read(&mut self, state: &State, id: AttemptId, reading: &Reading) {
        if state.attempt.as_ref().is_none_or(|a| a.id != id) {
            return;
        }
        if let Saw::Good(began) | Saw::Bad(began) = &reading.saw {
            let began: u64 = began.parse().unwrap_or(0);
            let belongs = began >= self.step.begun.tick;
            self.holds(belongs, || format!("a look of {} began before the step it counts for", reading.gate));
        }
        self.step.looks.entry(reading.gate.clone()).or_default().push(reading.saw.clone());
    }

    fn step_passed(&mut self, state: &State, attempt: &Attempt, at: Stamp, users: &BTreeMap<TreeId, u16>, now: Moment) {
        let Some(step) = attempt.current() else { return };
        let since = attempt.acted.unwrap_or(attempt.step_since);
        let passed = Span(now.elapsed.0 - self.step.begun.elapsed.0 + now.jumped.0 - self.step.begun.jumped.0);
        let full = at.since(since) >= step.soak() && passed.0 + LATE_MAX.0 >= step.soak().0;
        self.holds(full, || format!("{step:?} passed after {passed}"));
        for gate in step.gates() {
            if let Some(fault) = self.unproven(attempt, gate, step.soak()) {
                self.breach(|| format!("{step:?} passed although gate {gate} {fault}"));
            }
        }
        match step {
            Step::Check { .. } => {
                let frozen = state.frozen(at).is_some();
                self.holds(!frozen, || "a preflight passed during a freeze".to_owned());
                let drift = state.drift.is_some() && self.guarded;
                self.holds(!drift, || "a preflight passed while drift stood".to_owned());
                self.way_back_is_proven(state, attempt, attempt.plan.back.as_ref());
            }
            Step::Shift { to, .. } => {
                let share = match to {
                    crate::model::Portion::Share(share) => share.hundredths(),
                    crate::model::Portion::Members(_) => 10_000,
                };
                // The first release has nobody to share with.
                let share = if attempt.plan.back.is_none() { 10_000 } else { share };
                let there = users.get(&attempt.plan.release.tree) == Some(&share);
                self.holds(there, || format!("{to} of the users should have been moved, but they are on {users:?}"));
            }
            Step::Deploy | Step::Prove { .. } | Step::Bake { .. } => {}
        }
    }

    /// Where somebody stands guard, what becomes the only way back was seen to be one during this attempt.
    fn way_back_is_proven(&mut self, state: &State, attempt: &Attempt, release: Option<&Release>) {
        let Some(release) = release.filter(|_| self.guarded) else { return };
        let proven = state.ways_back.get(&release.tree).and_then(|way| way.proven);
        let holds = proven.is_some_and(|at| at >= attempt.started) || attempt.way_back_waived.is_some();
        self.holds(holds, || format!("{} went on without a proven way back to {}", attempt.id, release.tree));
    }

    /// A version is kept out only for what it did itself: what the world could not do says nothing about it.
    fn innocence(&mut self, state: &State, id: AttemptId, cause: &Cause) {
        let Some(attempt) = state.attempt.as_ref().filter(|a| a.id == id) else { return };
        let failed = match cause {
            Cause::ApplyFailed { .. } | Cause::ShiftFailed { .. } => true,
            Cause::Deadline { .. } => attempt.tries.failed > 0,
            Cause::Blind { .. } | Cause::Unseen { .. } => {
                return self.breach(|| format!("{id} is kept out although nobody saw anything bad: {cause:?}"));
            }
            Cause::Gate { .. } | Cause::Investigated { .. } | Cause::Ordered { .. } => false,
        };
        let tree = &attempt.plan.release.tree;
        let innocent = failed && !self.at_fault.contains(tree);
        self.holds(!innocent, || format!("{id} is kept out for the world's fault: {cause:?}"));
    }

    /// What is missing before the gate may count as passed.
    fn unproven(&self, attempt: &Attempt, gate: &GateName, time: Span) -> Option<String> {
        let Some(spec) = attempt.plan.gates.get(gate) else { return Some("is not in the plan".to_owned()) };
        if let Rule::Approval { people, .. } = &spec.rule {
            let by_others = attempt.approvals.iter().filter(|who| Some(*who) != attempt.plan.author.as_ref()).count();
            return (by_others < *people as usize).then(|| "was not approved".to_owned());
        }
        let looks = self.step.looks.get(gate).map(Vec::as_slice).unwrap_or_default();
        let needed = (time.0 / spec.every.0.max(1)).clamp(1, 3) as usize;
        if looks.len() < needed {
            return Some(format!("was looked at {} times of {needed}", looks.len()));
        }
        match looks.last() {
            Some(Saw::Good(_)) => too_bad(spec, looks),
            Some(Saw::Counts(_)) => None,
            last => Some(format!("last saw {last:?}")),
        }
    }
}

fn too_bad(spec: &GateSpec, looks: &[Saw]) -> Option<String> {
    let Rule::Expect { passes, tolerate } = &spec.rule else { return None };
    let bads = looks.iter().filter(|saw| matches!(saw, Saw::Bad(_))).count();
    let goods = looks.iter().rev().take_while(|saw| matches!(saw, Saw::Good(_))).count();
    if spec.on_fail == OnFail::Rollback && bads > *tolerate as usize {
        return Some(format!("was bad {bads} times"));
    }
    (goods < *passes as usize).then(|| format!("was good only {goods} times in a row"))
}

/// What the tree of a page must be, told once more in other words; `None` where nothing is.
fn tree_of(state: &State) -> Option<TreeId> {
    let being_given = state.attempt.as_ref().filter(|a| a.touched.is_some()).map(|a| &a.plan.release);
    let release = match &state.rollback {
        Some(rollback) => rollback.to.as_ref(),
        None => being_given.or(state.live.as_ref()),
    };
    release.map(|release| release.tree.clone())
}

/// The act that the ledger asks for, whatever time it is.
fn wants(state: &State) -> Option<Act> {
    if let Some(r) = &state.rollback {
        let from = r.from.clone().or_else(|| r.to.clone());
        return match r.retreated {
            None => from.map(|from| Act::Retreat { from, to: r.to.clone() }),
            Some(_) => Some(Act::Settle { keep: r.to.clone() }),
        };
    }
    let untouched = state.attempt.as_ref().is_none_or(|a| a.touched.is_none());
    if state.leftover.is_some() && untouched {
        return Some(Act::Settle { keep: state.live.clone() });
    }
    let attempt = state.attempt.as_ref()?;
    let release = attempt.plan.release.clone();
    if attempt.promoted.is_some() {
        return Some(Act::Settle { keep: Some(release) });
    }
    match attempt.current()? {
        Step::Deploy => Some(Act::Apply { release }),
        Step::Shift { to, .. } if attempt.acted.is_none() => Some(Act::Shift { release, to: to.clone() }),
        Step::Shift { .. } | Step::Check { .. } | Step::Prove { .. } | Step::Bake { .. } => None,
    }
}
