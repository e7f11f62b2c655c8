use std::{collections::BTreeMap, sync::Arc};

use super::{AttemptLine, Deed, GateLine, Grown, Look, Mark, RollbackLine, StepLine, Story};
use crate::{
    judge::{self, Circumstances, GateLog},
    model::{
        AttemptId, Cause, Counts, Ending, EnvironmentName, Event, GateName, Plan, Portion, Quarantine, Quarantined,
        Reading, Rule, Saw, Share, Stamp, Step, Verdict, What,
    },
};

/// The story that these events tell; they may begin anywhere in an environment's history.
pub fn story<'a>(environment: EnvironmentName, events: impl IntoIterator<Item = &'a Event>) -> Story {
    let mut teller =
        Teller { story: Story { environment, attempts: Vec::new(), deeds: Vec::new() }, logs: BTreeMap::new() };
    for event in events {
        teller.take(event);
    }
    teller.story
}

struct Teller {
    story: Story,
    /// What the judge remembers of each gate in the step under way.
    logs: BTreeMap<GateName, GateLog>,
}

impl Teller {
    fn take(&mut self, event: &Event) {
        let at = event.at;
        if let Some(id) = attempt_of(&event.what) {
            self.number(id);
        }
        self.rendered(event);
        match &event.what {
            What::Started { plan } => self.started(event, plan),
            What::Read { attempt, reading } => self.read(*attempt, reading),
            What::StepPassed { attempt, .. } | What::Applied { attempt, .. } => self.step_over(*attempt, at),
            What::ApplyFailed { attempt, why, .. } => self.trouble(*attempt, at, format!("deploy failed: {why}")),
            What::ShiftFailed { attempt, why, .. } => self.trouble(*attempt, at, format!("moving users failed: {why}")),
            What::SettleFailed { attempt, why } => self.settle_failed(*attempt, at, why),
            What::RetreatFailed { attempt, why } => self.trouble(*attempt, at, format!("going back failed: {why}")),
            What::Shifted { attempt, to, .. } => self.shifted(*attempt, at, to),
            What::Promoted { attempt } => self.promoted(*attempt, at),
            What::Settled { attempt, .. } => self.settled(*attempt, at),
            What::WatchEnded { attempt } => self.watch_ended(*attempt, at),
            What::Refused { attempt, cause, paused_until } => self.refused(*attempt, at, cause, *paused_until),
            What::RollbackBegan { attempt, cause, quarantine, .. } => {
                self.rollback_began(*attempt, at, cause);
                self.keep_out(*attempt, quarantine);
            }
            What::RollbackOrdered { reason, quarantine, .. } => self.rollback_ordered(event, reason, quarantine),
            What::RollbackWidened { attempt, .. } => {
                if let Some(rollback) = self.line(*attempt, at).and_then(|line| line.rollback.as_mut()) {
                    rollback.widened = true;
                }
            }
            What::Retreated { attempt, .. } => {
                if let Some(rollback) = self.line(*attempt, at).and_then(|line| line.rollback.as_mut()) {
                    rollback.back = Some(at);
                }
            }
            What::RolledBack { attempt, paused_until } => self.rolled_back(*attempt, at, *paused_until),
            What::Stuck { attempt, at: place, live, advice } => {
                let ending = Ending::Stuck { at: place.clone(), live: live.clone(), advice: advice.clone() };
                self.end(*attempt, at, ending);
            }
            What::Pinned { .. }
            | What::Unpinned { .. }
            | What::Quarantined { .. }
            | What::Unquarantined { .. }
            | What::Frozen { .. }
            | What::Unfrozen { .. }
            | What::Approved { .. }
            | What::Extended { .. }
            | What::Aborted { .. }
            | What::Drifted { .. }
            | What::DriftEnded { .. }
            | What::WayBackWaived { .. } => self.deed(event),
            What::Rehearsed { rehearsal, .. } if !rehearsal.obstacles.is_empty() => self.deed(event),
            What::LookedForDrift { .. } | What::Rehearsed { .. } => {}
            What::Leased { .. } | What::Released { .. } | What::Told { .. } | What::TellFailed { .. } => {}
        }
    }

    /// Another renderer than the one that it was planned with, or that made what is gone back to.
    fn rendered(&mut self, event: &Event) {
        let (attempt, by) = match &event.what {
            What::Applied { attempt, renderer: Some(by), .. }
            | What::Shifted { attempt, renderer: Some(by), .. }
            | What::Settled { attempt, renderer: Some(by), .. }
            | What::Retreated { attempt, renderer: Some(by), .. } => (*attempt, by),
            _ => return,
        };
        let back = match &event.what {
            What::Retreated { .. } => self.line(attempt, event.at).and_then(|line| line.plan.as_ref()?.back.clone()),
            _ => None,
        };
        let made = |line: &&AttemptLine| line.plan.as_ref().map(|p| &p.release.tree) == back.as_ref().map(|r| &r.tree);
        let before = match &back {
            Some(_) => self.story.attempts.iter().rev().filter(made).find_map(|line| line.renderer.clone()),
            None => self.line(attempt, event.at).and_then(|line| line.renderer.replace(by.clone())),
        };
        if let Some(before) = before.filter(|before| before != by) {
            let when = if back.is_some() { "when it was live" } else { "when it was planned" };
            self.trouble(attempt, event.at, format!("rendered by {by}, and by {before} {when}"));
        }
    }

    /// The attempt with this number, which was heard of at this moment.
    fn line(&mut self, id: AttemptId, at: Stamp) -> Option<&mut AttemptLine> {
        let line = self.story.attempts.iter_mut().rev().find(|line| line.id == id)?;
        line.seen = line.seen.max(at);
        Some(line)
    }

    fn is_newest(&self, id: AttemptId) -> bool {
        self.story.attempts.last().is_some_and(|line| line.id == id)
    }

    /// The first event of an attempt does not say its number; a history that begins in the middle tells it later. Only
    /// the newest can have a number higher than any we know.
    fn number(&mut self, id: AttemptId) {
        if let Some(newest) = self.story.attempts.last_mut()
            && newest.id < id
        {
            newest.id = id;
        }
    }

    fn begin(&mut self, event: &Event, what: String, plan: Option<Arc<Plan>>) {
        let id = AttemptId(self.story.attempts.last().map_or(0, |line| line.id.0) + 1);
        self.logs.clear();
        self.story.attempts.push(AttemptLine {
            id,
            what,
            bumps: plan.as_ref().map_or(Vec::new(), |plan| plan.bumps.clone()),
            source: plan.as_ref().map(|plan| plan.release.source.clone()),
            by: event.by.clone(),
            started: event.at,
            exposed: None,
            promoted: None,
            ended: None,
            ending: None,
            steps: Vec::new(),
            gates: Vec::new(),
            rollback: None,
            paused_until: None,
            kept_out: Vec::new(),
            left_behind: None,
            troubles: Vec::new(),
            seen: event.at,
            renderer: plan.as_ref().and_then(|plan| plan.renderer.clone()),
            plan,
        });
    }

    fn started(&mut self, event: &Event, plan: &Arc<Plan>) {
        self.begin(event, plan.headline(), Some(plan.clone()));
        if let Some(line) = self.story.attempts.last_mut() {
            line.open_step(event.at);
        }
    }

    fn read(&mut self, id: AttemptId, reading: &Reading) {
        let fresh = self.is_newest(id);
        let Some(line) = self.story.attempts.iter_mut().rev().find(|line| line.id == id) else { return };
        line.seen = line.seen.max(reading.at);
        let Some(plan) = line.plan.clone() else { return };
        let Some(spec) = plan.gates.get(&reading.gate) else { return };
        // Only the newest attempt has steps under way; an older one is being watched, each look for itself.
        let mut own = GateLog::default();
        let log = if fresh { self.logs.entry(reading.gate.clone()).or_default() } else { &mut own };
        log.take(spec, reading);
        let approvals = Default::default();
        let circumstances = Circumstances { approvals: &approvals, author: None, freeze: None };
        let verdict = judge::verdict(spec, log, circumstances, reading.at);
        let look = look(reading, &verdict, line.steps.len().saturating_sub(1));
        let gate = line.gate(&reading.gate, &spec.kind);
        gate.grow(&reading.saw);
        gate.verdict = verdict;
        gate.looks.push(look);
    }

    /// The step under way is over; the next begins.
    fn step_over(&mut self, id: AttemptId, at: Stamp) {
        self.logs.clear();
        if let Some(line) = self.line(id, at) {
            line.pass_silent_gates();
            line.close_step(at, true);
            line.open_step(at);
        }
    }

    fn shifted(&mut self, id: AttemptId, at: Stamp, to: &Portion) {
        if let Some(line) = self.line(id, at)
            && *to != Portion::Share(Share::NONE)
        {
            line.exposed.get_or_insert(at);
        }
    }

    fn promoted(&mut self, id: AttemptId, at: Stamp) {
        if let Some(line) = self.line(id, at) {
            line.close_step(at, true);
            line.promoted = Some(at);
        }
        self.end(id, at, Ending::Promoted);
    }

    /// With the old release gone the watch begins.
    fn settled(&mut self, id: AttemptId, at: Stamp) {
        self.logs.clear();
        let Some(line) = self.line(id, at) else { return };
        // What was given up first is gone at last: the watch has begun long ago.
        if line.left_behind.take().is_some() && line.steps.iter().any(|step| step.name == WATCH) {
            return;
        }
        line.begin_watch(at);
    }

    /// After some tries it is left for later, and the watch begins.
    fn settle_failed(&mut self, id: AttemptId, at: Stamp, why: &str) {
        self.trouble(id, at, format!("taking down failed: {why}"));
        let Some(line) = self.line(id, at) else { return };
        line.left_behind = Some(why.to_owned());
        let failed = line.troubles.iter().filter(|(_, why)| why.starts_with("taking down failed")).count();
        let tries = line.plan.as_ref().map_or(0, |plan| plan.limits.rollback_tries as usize);
        if failed == tries {
            self.logs.clear();
        }
        if let Some(line) = self.line(id, at).filter(|_| failed == tries) {
            line.begin_watch(at);
        }
    }

    fn watch_ended(&mut self, id: AttemptId, at: Stamp) {
        if let Some(line) = self.line(id, at) {
            line.close_step(at, true);
        }
    }

    fn refused(&mut self, id: AttemptId, at: Stamp, cause: &Cause, paused_until: Option<Stamp>) {
        if let Some(line) = self.line(id, at) {
            line.paused_until = paused_until;
            line.close_step(at, false);
        }
        self.end(id, at, Ending::RolledBack { cause: cause.clone(), touched: false });
    }

    fn rollback_began(&mut self, id: AttemptId, at: Stamp, cause: &Cause) {
        let Some(line) = self.line(id, at) else { return };
        let place = line.place().to_owned();
        line.close_step(at, false);
        line.ended = None;
        line.ending = None;
        line.rollback = Some(RollbackLine { began: at, cause: cause.clone(), place, back: None, widened: false });
    }

    /// Of what is under way or stuck; when nothing is, it is an attempt of its own.
    fn rollback_ordered(&mut self, event: &Event, reason: &str, quarantine: &[Quarantine]) {
        let open = |line: &&AttemptLine| matches!(line.outcome(), super::Outcome::UnderWay | super::Outcome::Stuck);
        if self.story.attempts.last().filter(open).is_none() {
            self.begin(event, "rollback by hand".to_owned(), None);
        }
        let Some(id) = self.story.attempts.last().map(|line| line.id) else { return };
        self.rollback_began(id, event.at, &Cause::Ordered { reason: reason.to_owned() });
        self.keep_out(id, quarantine);
    }

    fn keep_out(&mut self, id: AttemptId, quarantine: &[Quarantine]) {
        let kept_out: Vec<Quarantined> = quarantine.iter().map(|q| q.what.clone()).collect();
        if let Some(line) = self.story.attempts.iter_mut().rev().find(|line| line.id == id) {
            line.kept_out.extend(kept_out);
        }
    }

    fn rolled_back(&mut self, id: AttemptId, at: Stamp, paused_until: Option<Stamp>) {
        if let Some(line) = self.line(id, at) {
            line.paused_until = paused_until;
        }
        let cause = self.line(id, at).and_then(|line| line.rollback.as_ref()).map(|rollback| rollback.cause.clone());
        let cause = cause.unwrap_or(Cause::Ordered { reason: "before this history begins".to_owned() });
        self.end(id, at, Ending::RolledBack { cause, touched: true });
    }

    fn end(&mut self, id: AttemptId, at: Stamp, ending: Ending) {
        if let Some(line) = self.line(id, at) {
            line.ended = Some(at);
            line.ending = Some(ending);
        }
    }

    fn trouble(&mut self, id: AttemptId, at: Stamp, why: String) {
        if let Some(line) = self.line(id, at) {
            line.troubles.push((at, why));
        }
    }

    fn deed(&mut self, event: &Event) {
        if let Some(text) = deed(&event.what) {
            self.story.deeds.push(Deed { at: event.at, by: event.by.clone(), text });
        }
    }
}

/// What follows the steps of a promotion.
const WATCH: &str = "watch";

impl AttemptLine {
    fn begin_watch(&mut self, at: Stamp) {
        let watched = self.plan.as_ref().is_some_and(|plan| plan.watch.time.0 > 0);
        if watched && self.outcome() == super::Outcome::Promoted {
            self.steps.push(StepLine { name: WATCH.to_owned(), from: at, until: None, passed: false });
        }
    }

    /// The next step of the plan, if there is one.
    fn open_step(&mut self, at: Stamp) {
        let next = self.plan.as_ref().and_then(|plan| plan.steps.get(self.steps.len()));
        if let Some(step) = next {
            self.steps.push(StepLine { name: step_name(step), from: at, until: None, passed: false });
        }
    }

    fn close_step(&mut self, at: Stamp, passed: bool) {
        if let Some(step) = self.steps.last_mut().filter(|step| step.until.is_none()) {
            step.until = Some(at);
            step.passed = passed;
        }
    }

    fn gate(&mut self, name: &GateName, kind: &str) -> &mut GateLine {
        let at = self.gates.iter().position(|gate| gate.name == *name);
        let at = at.unwrap_or_else(|| {
            self.gates.push(GateLine {
                name: name.clone(),
                kind: kind.to_owned(),
                looks: Vec::new(),
                verdict: Verdict::Undecided("not looked at yet".to_owned()),
                grown: BTreeMap::new(),
                counts: None,
            });
            self.gates.len() - 1
        });
        &mut self.gates[at]
    }

    /// Gates that look at nothing but the ledger and the clock leave no reading: the step that passed is their pass.
    fn pass_silent_gates(&mut self) {
        let Some(plan) = self.plan.clone() else { return };
        let Some(step) = self.steps.len().checked_sub(1).and_then(|at| plan.steps.get(at)) else { return };
        for name in step.gates() {
            let Some(spec) = plan.gates.get(name).filter(|spec| spec.rule.needs_no_look()) else { continue };
            let said = match &spec.rule {
                Rule::Approval { .. } => "approved",
                Rule::Window(_) => "inside its window",
                Rule::Expect { .. } | Rule::ErrorShare { .. } | Rule::Latency { .. } => continue,
            };
            self.gate(name, &spec.kind).verdict = Verdict::Pass(said.to_owned());
        }
    }
}

impl GateLine {
    fn grow(&mut self, saw: &Saw) {
        let Saw::Counts(counts) = saw else { return };
        let base = self.counts.replace(counts.clone()).unwrap_or_else(|| counts.clone());
        for (arm, now) in &counts.arms {
            let grown = now.since(&before(&base, *arm));
            let sum: &mut Grown = self.grown.entry(*arm).or_default();
            sum.requests += grown.total();
            sum.failed += grown.failed;
        }
    }
}

fn before(base: &Counts, arm: crate::model::Arm) -> crate::model::ArmCounts {
    base.arms.get(&arm).cloned().unwrap_or_default()
}

fn look(reading: &Reading, verdict: &Verdict, step: usize) -> Look {
    let (mark, note) = match &reading.saw {
        Saw::Good(note) => (Mark::Good, note.clone()),
        Saw::Bad(note) => (Mark::Bad, note.clone()),
        Saw::Blind(note) => (Mark::Blind, note.clone()),
        Saw::Counts(_) => (Mark::of(verdict), verdict.why().to_owned()),
    };
    Look { at: reading.at, took: reading.took, step, mark, note }
}

fn step_name(step: &Step) -> String {
    match step {
        Step::Check { .. } => "preflight".to_owned(),
        Step::Deploy => "deploy".to_owned(),
        Step::Shift { to, .. } => to.to_string(),
        Step::Prove { .. } => "proof".to_owned(),
        Step::Bake { .. } => "bake".to_owned(),
    }
}

fn attempt_of(what: &What) -> Option<AttemptId> {
    match what {
        What::Approved { attempt, .. }
        | What::Extended { attempt, .. }
        | What::Aborted { attempt, .. }
        | What::Read { attempt, .. }
        | What::StepPassed { attempt, .. }
        | What::Applied { attempt, .. }
        | What::ApplyFailed { attempt, .. }
        | What::Shifted { attempt, .. }
        | What::ShiftFailed { attempt, .. }
        | What::Promoted { attempt }
        | What::Settled { attempt, .. }
        | What::SettleFailed { attempt, .. }
        | What::Refused { attempt, .. }
        | What::WatchEnded { attempt }
        | What::RollbackBegan { attempt, .. }
        | What::Retreated { attempt, .. }
        | What::RetreatFailed { attempt, .. }
        | What::RollbackWidened { attempt, .. }
        | What::RolledBack { attempt, .. }
        | What::WayBackWaived { attempt, .. }
        | What::Stuck { attempt, .. } => Some(*attempt),
        What::Pinned { .. }
        | What::Unpinned { .. }
        | What::Quarantined { .. }
        | What::Unquarantined { .. }
        | What::Frozen { .. }
        | What::Unfrozen { .. }
        | What::RollbackOrdered { .. }
        | What::Leased { .. }
        | What::Released { .. }
        | What::Started { .. }
        | What::LookedForDrift { .. }
        | What::Drifted { .. }
        | What::DriftEnded { .. }
        | What::Rehearsed { .. }
        | What::Told { .. }
        | What::TellFailed { .. } => None,
    }
}

fn deed(what: &What) -> Option<String> {
    let until = |until: Option<Stamp>| until.map_or("for ever".to_owned(), |until| format!("until {until}"));
    Some(match what {
        What::Pinned { pin } => {
            format!("pinned {} to {} {}: {}", pin.component, pin.version, until(pin.until), pin.reason)
        }
        What::Unpinned { component, reason } => format!("unpinned {component}: {reason}"),
        What::Quarantined { quarantine: q } => {
            format!("quarantined {} {}: {}", kept_out(&q.what), until(q.until), q.reason)
        }
        What::Unquarantined { what, reason } => format!("let {} in again: {reason}", kept_out(what)),
        What::Frozen { freeze } => format!("froze {}: {}", until(freeze.until), freeze.reason),
        What::Unfrozen { reason } => format!("unfroze: {reason}"),
        What::Approved { attempt, reason } => match reason {
            Some(reason) => format!("approved {attempt}: {reason}"),
            None => format!("approved {attempt}"),
        },
        What::Extended { attempt, until, reason } => format!("gave {attempt} time until {until}: {reason}"),
        What::Aborted { attempt, reason } => format!("aborted {attempt}: {reason}"),
        What::LookedForDrift { .. }
        | What::Drifted { .. }
        | What::DriftEnded { .. }
        | What::Rehearsed { .. }
        | What::WayBackWaived { .. } => return super::standing(what),
        What::RollbackOrdered { .. }
        | What::Leased { .. }
        | What::Released { .. }
        | What::Started { .. }
        | What::Read { .. }
        | What::StepPassed { .. }
        | What::Applied { .. }
        | What::ApplyFailed { .. }
        | What::Shifted { .. }
        | What::ShiftFailed { .. }
        | What::Promoted { .. }
        | What::Settled { .. }
        | What::SettleFailed { .. }
        | What::Refused { .. }
        | What::WatchEnded { .. }
        | What::RollbackBegan { .. }
        | What::Retreated { .. }
        | What::RetreatFailed { .. }
        | What::RollbackWidened { .. }
        | What::RolledBack { .. }
        | What::Stuck { .. }
        | What::Told { .. }
        | What::TellFailed { .. } => return None,
    })
}

/// What a quarantine keeps out, in a few words.
pub(super) fn kept_out(what: &Quarantined) -> String {
    match what {
        Quarantined::Version { component, version } => format!("{component} {version}"),
        Quarantined::Content { commit, files } => {
            let n = files.len();
            format!("{n} file{} of {}", if n == 1 { "" } else { "s" }, commit.short())
        }
    }
}
