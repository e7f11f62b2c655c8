use std::collections::BTreeMap;

use super::{
    Attempt, Rollback, State, Tries, Watch,
    guard::{self, Sound},
    leftover, pause,
};
use crate::{
    judge::{self, Circumstances, GateLog},
    model::{
        AttemptId, Blame, Cause, Effect, GateName, GateSpec, Guard, Limits, OnFail, Plan, Portion, Quarantine,
        Quarantined, Rule, Span, Stamp, Step, Verdict, What, headline,
    },
};

/// What to do now, and when to ask again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Next {
    /// Wishes to the world; each gives exactly one event.
    pub effects: Vec<Effect>,
    /// Facts to write down now: decisions that need nothing from the world.
    pub decisions: Vec<What>,
    /// When something is due that no event announces.
    pub wake: Option<Stamp>,
    pub waits: Vec<Wait>,
    /// A promotion waits for people to decide on drift, or to bring a way back.
    pub held: bool,
}

/// A wait says on what, since when, until when, and who can change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub on: String,
    pub since: Stamp,
    pub until: Option<Stamp>,
    pub who: String,
}

/// What the engine must know of its runner.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Whether there is anyone to tell.
    pub tells: bool,
    /// What it can watch over while nothing happens.
    pub guard: Guard,
    /// When it began: whoever comes anew looks anew before it says that something is in the way.
    pub begun: Stamp,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { tells: false, guard: Guard::default(), begun: Stamp(0) }
    }
}

/// Says what to do in this state at this moment.
pub fn next(state: &State, now: Stamp, setup: Setup) -> Next {
    let mut next = Next::default();
    if setup.tells {
        next.effects.extend(state.outbox.iter().map(|notice| Effect::Tell { notice: notice.clone() }));
    }
    if let Some(rollback) = &state.rollback {
        go_back(state, rollback, now, &mut next);
    } else if let Some(attempt) = &state.attempt {
        go_on(state, attempt, now, setup, &mut next);
    } else {
        if let Some(watch) = state.watches.last() {
            look_on(state, watch, now, &mut next);
        }
        leftover::take_down(state, now, setup, &mut next);
        pause::rest(state, now, &mut next);
        guard::stand(state, now, setup.guard, &mut next);
    }
    next
}

impl Next {
    pub(super) fn wake_at(&mut self, at: Stamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    pub(super) fn wait(&mut self, on: impl Into<String>, since: Stamp, until: Option<Stamp>, who: &str) {
        self.waits.push(Wait { on: on.into(), since, until, who: who.to_owned() });
        if let Some(until) = until {
            self.wake_at(until);
        }
    }
}

// ---- a promotion

fn go_on(state: &State, attempt: &Attempt, now: Stamp, setup: Setup, next: &mut Next) {
    if attempt.promoted.is_some() {
        return settle(attempt, now, next);
    }
    if let Some(cause) = broken_off(attempt, now, next) {
        return next.decisions.push(undo(state, attempt, cause, now));
    }
    if let Some(foreign) = &state.foreign {
        let on = format!("what {} wrote on the branch by hand ({}) to be undone", foreign.author, foreign.why);
        return next.wait(on, foreign.at, None, "`piton rollback`");
    }
    let Some(step) = attempt.current() else {
        return match guard::before_good(state, attempt, now, setup, next) {
            Sound::Yes => next.decisions.push(What::Promoted { attempt: attempt.id }),
            Sound::NotYet => {}
            Sound::Never(cause) => next.decisions.push(undo(state, attempt, cause, now)),
        };
    };
    match step {
        Step::Check { gates } => check(state, attempt, gates, now, setup, next),
        Step::Deploy => deploy(state, attempt, now, next),
        Step::Shift { to, hold, gates } => shift(state, attempt, to, *hold, gates, now, next),
        Step::Prove { gates } => soak(state, attempt, Span(0), gates, attempt.step_since, now, next),
        Step::Bake { time, gates } => soak(state, attempt, *time, gates, attempt.step_since, now, next),
    }
    if next.decisions.is_empty() && attempt.is_in_its_last_step() {
        // What is found is decided on at the end; the looking need not wait for it.
        let held = next.held;
        guard::before_good(state, attempt, now, setup, next);
        next.held = held;
    }
}

/// Reasons to stop that hold in every step.
fn broken_off(attempt: &Attempt, now: Stamp, next: &mut Next) -> Option<Cause> {
    if let Some(reason) = &attempt.aborted {
        return Some(Cause::Ordered { reason: reason.clone() });
    }
    let limits = &attempt.plan.limits;
    let (since, after) = match attempt.touched {
        Some(touched) => (touched, limits.deadline),
        None => (attempt.started, limits.preflight),
    };
    if now >= since + after {
        let blame = if attempt.tries.failed > 0 { attempt.tries.blame } else { Blame::Unknown };
        return Some(Cause::Deadline { after, blame });
    }
    next.wake_at(since + after);
    overdue(&attempt.plan, &attempt.gates, attempt.extended, now, next)
}

/// The investigation deadline and the end of the patience with blind gates.
fn overdue(
    plan: &Plan,
    gates: &BTreeMap<GateName, GateLog>,
    extended: Option<Stamp>,
    now: Stamp,
    next: &mut Next,
) -> Option<Cause> {
    // Bad signs first: a gate that cannot see must not hide one that does.
    for (gate, log) in gates {
        if let Some(since) = log.bad_since {
            let until = (since + plan.limits.investigate).max(extended.unwrap_or(Stamp(i64::MIN)));
            if now >= until {
                let after = now.since(since);
                return Some(Cause::Investigated { after, gate: gate.clone(), why: log.note.clone() });
            }
            next.wait(
                format!("gate `{gate}` to recover, or back: {}", headline(&log.note)),
                since,
                Some(until),
                "`piton extend` gives it more time, `piton rollback` goes back at once",
            );
        }
    }
    for (gate, log) in gates {
        if let Some(since) = log.blind_since {
            let until = since + plan.limits.blind;
            if now >= until {
                return Some(Cause::Blind { after: now.since(since), gate: gate.clone(), why: log.note.clone() });
            }
            next.wait(
                format!("gate `{gate}` to see again: {}", headline(&log.note)),
                since,
                Some(until),
                "whoever runs what it looks at",
            );
        }
    }
    None
}

fn undo(state: &State, attempt: &Attempt, cause: Cause, now: Stamp) -> What {
    let gave_up = matches!(cause, Cause::ApplyFailed { .. } | Cause::ShiftFailed { .. });
    if attempt.touched.is_none() || (gave_up && attempt.left_no_trace(state.fence)) {
        let paused_until = state.rest(&attempt.plan, &cause).map(|rest| now + rest);
        return What::Refused { attempt: attempt.id, cause, paused_until };
    }
    back_from(state, attempt.id, &attempt.plan, cause, now)
}

/// The decision to go back from a plan's release; what is blamed is kept out in the same commit.
fn back_from(state: &State, id: AttemptId, plan: &Plan, cause: Cause, now: Stamp) -> What {
    let quarantine = if cause.blames_the_change() { quarantines(state, plan, &cause, now) } else { Vec::new() };
    What::RollbackBegan { attempt: id, cause, to: plan.back.clone(), quarantine }
}

fn quarantines(state: &State, plan: &Plan, cause: &Cause, now: Stamp) -> Vec<Quarantine> {
    let by = state.attempt.as_ref().map(|a| a.by.clone()).or_else(|| state.lease.as_ref().map(|l| l.holder.clone()));
    let Some(by) = by.or_else(|| plan.author.clone()) else { return Vec::new() };
    let until = plan.limits.quarantine.map(|span| now + span);
    let entry = |what| Quarantine { what, reason: cause.headline(), by: by.clone(), since: now, until };
    let versions = plan.bumps.iter().filter_map(|bump| {
        let version = bump.to.clone()?;
        Some(entry(Quarantined::Version { component: bump.component.clone(), version }))
    });
    let content = (!plan.content.is_empty()).then(|| {
        let files = plan.content.clone();
        entry(Quarantined::Content { commit: plan.release.source.clone(), files })
    });
    versions.chain(content).collect()
}

fn check(state: &State, attempt: &Attempt, gates: &[GateName], now: Stamp, setup: Setup, next: &mut Next) {
    if let Some(freeze) = state.frozen(now) {
        next.wait(format!("the freeze to end: {}", freeze.reason), freeze.since, freeze.until, freeze.by.as_str());
    }
    // What runs may be what should have been taken down: nothing new is built upon it.
    leftover::take_down(state, now, setup, next);
    next.held |= state.leftover.is_some();
    let judged = judge_all(state, attempt, gates, attempt.step_since, now, next);
    let sound = guard::preflight(state, attempt, now, setup, next);
    match (judged, sound) {
        (Judged::Failed(cause), _) | (_, Sound::Never(cause)) => {
            next.decisions.push(undo(state, attempt, cause, now));
        }
        (Judged::Passed, Sound::Yes) if state.frozen(now).is_none() && state.leftover.is_none() => {
            next.decisions.push(What::StepPassed { attempt: attempt.id, step: attempt.step });
        }
        (Judged::Passed | Judged::Open, Sound::Yes | Sound::NotYet) => {}
    }
}

fn deploy(state: &State, attempt: &Attempt, now: Stamp, next: &mut Next) {
    let limits = &attempt.plan.limits;
    if attempt.tries.are_over(limits) {
        let cause = Cause::ApplyFailed { why: attempt.tries.why.clone(), blame: attempt.tries.blame };
        return next.decisions.push(undo(state, attempt, cause, now));
    }
    if let Some(at) = pause(&attempt.tries, limits.rollback_pause, now) {
        let on = format!("the next try to deploy: {}", headline(&attempt.tries.why));
        return next.wait(on, attempt.step_since, Some(at), "nobody");
    }
    next.effects.push(Effect::Apply { attempt: attempt.id, release: attempt.plan.release.clone() });
}

fn shift(state: &State, attempt: &Attempt, to: &Portion, hold: Span, gates: &[GateName], now: Stamp, next: &mut Next) {
    let limits = &attempt.plan.limits;
    let Some(acted) = attempt.acted else {
        if attempt.tries.are_over(limits) {
            let cause = Cause::ShiftFailed { why: attempt.tries.why.clone(), blame: attempt.tries.blame };
            return next.decisions.push(undo(state, attempt, cause, now));
        }
        if let Some(at) = pause(&attempt.tries, limits.rollback_pause, now) {
            let on = format!("the next try to move users: {}", headline(&attempt.tries.why));
            return next.wait(on, attempt.step_since, Some(at), "nobody");
        }
        let release = attempt.plan.release.clone();
        return next.effects.push(Effect::Shift { attempt: attempt.id, release, to: to.clone() });
    };
    soak(state, attempt, hold, gates, acted, now, next);
}

/// The rest of a step: its time and its gates.
fn soak(state: &State, attempt: &Attempt, time: Span, gates: &[GateName], since: Stamp, now: Stamp, next: &mut Next) {
    let judged = judge_all(state, attempt, gates, since, now, next);
    let over = now >= since + time;
    if !over {
        let what = attempt.current().map_or("the step", step_name);
        next.wait(format!("{what} to be over"), since, Some(since + time), "nobody: it is never shortened");
    }
    match judged {
        Judged::Failed(cause) => next.decisions.push(undo(state, attempt, cause, now)),
        Judged::Passed if over && looked_enough(&attempt.plan, &attempt.gates, gates, time) => {
            next.decisions.push(What::StepPassed { attempt: attempt.id, step: attempt.step });
        }
        Judged::Passed | Judged::Open => {}
    }
}

fn step_name(step: &Step) -> &'static str {
    match step {
        Step::Check { .. } => "the preflight",
        Step::Deploy => "the deploy",
        Step::Shift { .. } => "the canary step",
        Step::Prove { .. } => "the proof",
        Step::Bake { .. } => "the bake",
    }
}

/// A bake or a watch through which nobody looked is none, however long a dead runner let it last.
fn looked_enough(plan: &Plan, logs: &BTreeMap<GateName, GateLog>, gates: &[GateName], time: Span) -> bool {
    const LOOKS_MIN: u64 = 3;
    gates.iter().all(|gate| {
        let Some(spec) = plan.gates.get(gate).filter(|spec| !spec.rule.needs_no_look()) else { return true };
        let needed = (time.0 / spec.every.0.max(1)).min(LOOKS_MIN);
        logs.get(gate).is_some_and(|log| u64::from(log.looks) >= needed)
    })
}

fn settle(attempt: &Attempt, now: Stamp, next: &mut Next) {
    if let Some(at) = pause(&attempt.tries, attempt.plan.limits.rollback_pause, now) {
        let since = attempt.promoted.unwrap_or(attempt.started);
        return next.wait("the next try to take down what was replaced", since, Some(at), "nobody");
    }
    next.effects.push(Effect::Settle { attempt: attempt.id, keep: Some(attempt.plan.release.clone()) });
}

impl Tries {
    /// Another try would give the same, or there were enough.
    fn are_over(&self, limits: &Limits) -> bool {
        self.blame == Blame::Release || self.failed >= limits.deploy_tries.max(1)
    }
}

/// When the next try may be made; nothing when it may be made now. A clock that went back must not hold up the way back.
fn pause(tries: &Tries, pause: Span, now: Stamp) -> Option<Stamp> {
    tries.last.filter(|last| now >= *last).map(|last| last + pause).filter(|at| now < *at)
}

// ---- gates

enum Judged {
    Passed,
    Open,
    Failed(Cause),
}

fn judge_all(
    state: &State,
    attempt: &Attempt,
    gates: &[GateName],
    since: Stamp,
    now: Stamp,
    next: &mut Next,
) -> Judged {
    let circumstances = Circumstances {
        approvals: &attempt.approvals,
        author: attempt.plan.author.as_ref(),
        freeze: state.frozen(now),
    };
    judge_gates(&attempt.plan, attempt.id, &attempt.gates, gates, circumstances, since, now, next)
}

#[expect(clippy::too_many_arguments, reason = "the pieces of an attempt or a watch, which share no type")]
fn judge_gates(
    plan: &Plan,
    id: AttemptId,
    logs: &BTreeMap<GateName, GateLog>,
    gates: &[GateName],
    circumstances: Circumstances,
    since: Stamp,
    now: Stamp,
    next: &mut Next,
) -> Judged {
    let unseen = GateLog::default();
    let mut all_passed = true;
    for gate in gates {
        let Some(spec) = plan.gates.get(gate) else {
            all_passed = false;
            next.wait(format!("gate `{gate}`, which the plan does not have"), since, None, "nobody: it cannot pass");
            continue;
        };
        let log = logs.get(gate).unwrap_or(&unseen);
        match judge::verdict(spec, log, circumstances, now) {
            Verdict::Pass(_) => {}
            Verdict::Fail(why) if spec.on_fail == OnFail::Rollback => {
                return Judged::Failed(Cause::Gate { gate: gate.clone(), why });
            }
            // Waiting for people after a bad sign, and for sight, is said where their ends are known.
            Verdict::Fail(_) | Verdict::Blind(_) => all_passed = false,
            Verdict::Undecided(why) => {
                all_passed = false;
                let until = opening(spec, now);
                next.wait(format!("gate `{gate}`: {why}"), since, until, changed_by(spec));
            }
        }
        look(spec, log, gate, id, since, now, next);
    }
    if all_passed { Judged::Passed } else { Judged::Open }
}

fn look(spec: &GateSpec, log: &GateLog, gate: &GateName, id: AttemptId, since: Stamp, now: Stamp, next: &mut Next) {
    if spec.rule.needs_no_look() {
        return;
    }
    let due = log.due(spec, since);
    // A clock that went back must not stop the looking.
    if now >= due || log.last_at.is_some_and(|last| last > now + spec.every) {
        next.effects.push(Effect::Look { attempt: id, gate: gate.clone() });
    } else {
        next.wake_at(due);
    }
}

fn opening(spec: &GateSpec, now: Stamp) -> Option<Stamp> {
    match &spec.rule {
        Rule::Window(window) => judge::next_opening(window, now),
        Rule::Expect { .. } | Rule::ErrorShare { .. } | Rule::Latency { .. } | Rule::Approval { .. } => None,
    }
}

fn changed_by(spec: &GateSpec) -> &'static str {
    match &spec.rule {
        Rule::Approval { .. } => "`piton approve`",
        Rule::Window(_) => "the pipeline file",
        Rule::Expect { .. } => "the next look",
        Rule::ErrorShare { .. } | Rule::Latency { .. } => "more requests",
    }
}

// ---- the watch

fn look_on(state: &State, watch: &Watch, now: Stamp, next: &mut Next) {
    let cause = overdue(&watch.plan, &watch.gates, watch.extended, now, next);
    // Unknown is not sick: a watch that cannot see goes on until its end and blames nobody.
    let bad = cause.filter(|cause| !matches!(cause, Cause::Blind { .. }));
    let has_a_way_back = watch.plan.back.is_some();
    if let Some(cause) = bad.clone().filter(|_| has_a_way_back) {
        return next.decisions.push(back_from(state, watch.attempt, &watch.plan, cause, now));
    }
    let nobody = Default::default();
    let circumstances = Circumstances { approvals: &nobody, author: None, freeze: None };
    let gates = &watch.plan.watch.gates;
    let judged = judge_gates(&watch.plan, watch.attempt, &watch.gates, gates, circumstances, watch.since, now, next);
    let failed = match judged {
        Judged::Failed(cause) => Some(cause),
        Judged::Passed | Judged::Open => bad,
    };
    let known_bad = failed.is_some();
    match failed {
        Some(cause) if has_a_way_back => {
            return next.decisions.push(back_from(state, watch.attempt, &watch.plan, cause, now));
        }
        // Taking down the only release there is helps nobody.
        Some(cause) => next.wait(
            format!("something to go back to, or a release that mends it: {}", cause.headline()),
            watch.since,
            Some(watch.until).filter(|until| now < *until),
            "`piton promote` with the next release",
        ),
        None => {}
    }
    let over = now >= watch.until;
    if over && (known_bad || looked_enough(&watch.plan, &watch.gates, gates, watch.plan.watch.time)) {
        return next.decisions.push(What::WatchEnded { attempt: watch.attempt });
    }
    let on = if over { "the looks that the watch still lacks" } else { "the watch to be over" };
    next.wait(on, watch.since, Some(watch.until).filter(|_| !over), "nobody: nothing waits for it");
}

// ---- the way back

fn go_back(state: &State, rollback: &Rollback, now: Stamp, next: &mut Next) {
    if rollback.retreated.is_none() {
        return retreat(state, rollback, now, next);
    }
    if rollback.settled {
        let paused_until = rollback.pause.map(|rest| now + rest);
        return next.decisions.push(What::RolledBack { attempt: rollback.attempt, paused_until });
    }
    if let Some(at) = pause(&rollback.tries, rollback.limits.pause, now) {
        return next.wait("the next try to take the bad release down", rollback.since, Some(at), "nobody");
    }
    next.effects.push(Effect::Settle { attempt: rollback.attempt, keep: rollback.to.clone() });
}

fn retreat(state: &State, rollback: &Rollback, now: Stamp, next: &mut Next) {
    let limits = &rollback.limits;
    let exhausted = rollback.tries.failed >= limits.tries.max(1);
    let late = now >= rollback.since + limits.within && rollback.tries.failed > 0;
    if exhausted || late {
        return next.decisions.push(give_way(state, rollback));
    }
    if let Some(at) = pause(&rollback.tries, limits.pause, now) {
        return next.wait(
            format!("the next try to go back: {}", rollback.tries.why),
            rollback.since,
            Some(at),
            "nobody",
        );
    }
    // Without a release to leave there is nothing to take out of the traffic: the destination stands for itself.
    let Some(from) = rollback.from.clone().or_else(|| rollback.to.clone()) else {
        return next.decisions.push(What::Retreated { attempt: rollback.attempt, note: String::new(), renderer: None });
    };
    next.effects.push(Effect::Retreat { attempt: rollback.attempt, from, to: rollback.to.clone() });
}

/// The destination cannot be reached: the whole last known good when that is another one, else a person.
fn give_way(state: &State, rollback: &Rollback) -> What {
    let reached_for = rollback.to.as_ref().map(|to| &to.tree);
    let good = state.known_good_besides(rollback.from.as_ref()).filter(|good| Some(&good.tree) != reached_for);
    match good {
        Some(good) if !rollback.widened => What::RollbackWidened { attempt: rollback.attempt, to: Some(good.clone()) },
        Some(_) | None => What::Stuck {
            attempt: rollback.attempt,
            at: format!("going back to {}", rollback.to.as_ref().map_or("nothing", |to| to.tree.short())),
            live: "unknown: part of the users may still be on the release that failed".to_owned(),
            advice: format!(
                "{}; mend that and say `piton rollback`, or name another commit with `--to`",
                rollback.tries.why
            ),
        },
    }
}
