#![doc = include_str!("README.md")]

mod window;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::{Actor, Arm, ArmCounts, Counts, Freeze, GateSpec, OnFail, Reading, Rule, Saw, Span, Stamp, Verdict};

pub use window::{next_opening, validate as validate_window};

/// What is remembered of one gate within one step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GateLog {
    pub looks: u32,
    /// Good looks since the last bad or blind one.
    pub good_run: u32,
    pub bads: u32,
    /// Bad looks since the last good one.
    pub bad_run: u32,
    /// The first of the bad looks that no sufficient run of good ones has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_since: Option<Stamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind_since: Option<Stamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Stamp>,
    /// What the last look said; a bad one stays until a good one comes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Counts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Counts>,
}

/// What the ledger and the clock say, for gates that look at nothing else.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    pub approvals: &'a BTreeSet<Actor>,
    pub author: Option<&'a Actor>,
    pub freeze: Option<&'a Freeze>,
}

impl GateLog {
    /// Takes in one reading.
    pub fn take(&mut self, spec: &GateSpec, reading: &Reading) {
        self.looks += 1;
        self.last_at = Some(reading.at);
        if !matches!(reading.saw, Saw::Blind(_)) {
            self.blind_since = None;
        }
        match &reading.saw {
            Saw::Good(note) => {
                self.good_run += 1;
                self.bad_run = 0;
                self.note.clone_from(note);
                if self.good_run >= passes(spec) {
                    self.bad_since = None;
                }
            }
            Saw::Bad(note) => {
                self.bads += 1;
                self.bad_run += 1;
                self.good_run = 0;
                self.note.clone_from(note);
                self.bad_since.get_or_insert(reading.at);
            }
            Saw::Blind(note) => {
                self.good_run = 0;
                self.note.clone_from(note);
                self.blind_since.get_or_insert(reading.at);
            }
            Saw::Counts(counts) => {
                self.base.get_or_insert_with(|| counts.clone());
                self.latest = Some(counts.clone());
                self.bad_since = match compare(spec, self) {
                    Compared::Above(_) => self.bad_since.or(Some(reading.at)),
                    Compared::Within(_) | Compared::TooFew(_) => None,
                };
            }
        }
    }

    /// When the next look is due.
    pub fn due(&self, spec: &GateSpec, since: Stamp) -> Stamp {
        self.last_at.map_or(since, |last| last + spec.every)
    }

    /// Whether the last look is too long ago to say anything about now.
    fn is_stale(&self, spec: &GateSpec, now: Stamp) -> bool {
        let fresh_for = Span(spec.every.0.saturating_mul(2).saturating_add(spec.timeout.0));
        self.last_at.is_none_or(|last| now.since(last) > fresh_for)
    }
}

fn passes(spec: &GateSpec) -> u32 {
    match spec.rule {
        Rule::Expect { passes, .. } => passes.max(1),
        Rule::ErrorShare { .. } | Rule::Latency { .. } | Rule::Approval { .. } | Rule::Window(_) => 1,
    }
}

/// What the gate says at this moment.
pub fn verdict(spec: &GateSpec, log: &GateLog, circumstances: Circumstances, now: Stamp) -> Verdict {
    match &spec.rule {
        Rule::Approval { people, not_author } => approval(*people, *not_author, circumstances),
        Rule::Window(window) => window::verdict(window, now),
        Rule::Expect { passes, tolerate } => expect(spec, log, *passes, *tolerate, now),
        Rule::ErrorShare { .. } | Rule::Latency { .. } => counted(spec, log, now),
    }
}

fn expect(spec: &GateSpec, log: &GateLog, passes: u32, tolerate: u32, now: Stamp) -> Verdict {
    // A person who was asked may mend the world outside: then what counts is whether it is bad now.
    let bads = match spec.on_fail {
        OnFail::Rollback => log.bads,
        OnFail::Ask => log.bad_run,
    };
    if bads > tolerate {
        return Verdict::Fail(log.note.clone());
    }
    if log.blind_since.is_some() {
        return Verdict::Blind(log.note.clone());
    }
    if log.looks == 0 {
        return Verdict::Undecided("not looked at yet".to_owned());
    }
    if log.is_stale(spec, now) {
        return Verdict::Undecided("the last look is too long ago".to_owned());
    }
    if log.good_run < passes.max(1) {
        return Verdict::Undecided(format!("{} of {} good looks in a row; last: {}", log.good_run, passes, log.note));
    }
    Verdict::Pass(log.note.clone())
}

fn counted(spec: &GateSpec, log: &GateLog, now: Stamp) -> Verdict {
    if log.blind_since.is_some() {
        return Verdict::Blind(log.note.clone());
    }
    if log.latest.is_none() {
        return Verdict::Undecided("not looked at yet".to_owned());
    }
    match compare(spec, log) {
        Compared::Above(why) => Verdict::Fail(why),
        Compared::TooFew(why) => Verdict::Undecided(why),
        Compared::Within(_) if log.is_stale(spec, now) => {
            Verdict::Undecided("the last look is too long ago".to_owned())
        }
        Compared::Within(why) => Verdict::Pass(why),
    }
}

enum Compared {
    Above(String),
    Within(String),
    TooFew(String),
}

fn compare(spec: &GateSpec, log: &GateLog) -> Compared {
    match &spec.rule {
        Rule::ErrorShare { arm, max, requests_min } => {
            let grown = growth(log, *arm);
            let judged = grown.ok + grown.failed;
            let share = if judged == 0 { 0.0 } else { grown.failed as f64 / judged as f64 };
            let said = format!(
                "{} of {judged} requests of the {} failed ({:.2}%, allowed {:.2}%)",
                grown.failed,
                arm.name(),
                share * 100.0,
                max * 100.0
            );
            sort_out(judged, *requests_min, share > *max, said)
        }
        Rule::Latency { arm, quantile, max_ms, requests_min } => {
            let grown = growth(log, *arm);
            let judged: u64 = grown.latency.iter().sum();
            let at = grown.latency_quantile_ms(*quantile).unwrap_or(0);
            let said = format!(
                "p{} of the {} is at most {}ms over {judged} requests (allowed {max_ms}ms)",
                quantile * 100.0,
                arm.name(),
                if at == u64::MAX { "∞ ".to_owned() } else { at.to_string() },
            );
            sort_out(judged, *requests_min, at > *max_ms, said)
        }
        Rule::Expect { .. } | Rule::Approval { .. } | Rule::Window(_) => {
            Compared::TooFew("this gate does not count requests".to_owned())
        }
    }
}

fn sort_out(judged: u64, requests_min: u64, above: bool, said: String) -> Compared {
    match (judged < requests_min, above) {
        (true, _) => Compared::TooFew(format!("{judged} of {requests_min} requests needed; {said}")),
        (false, true) => Compared::Above(said),
        (false, false) => Compared::Within(said),
    }
}

fn growth(log: &GateLog, arm: Arm) -> ArmCounts {
    let of = |counts: &Option<Counts>| counts.as_ref().and_then(|c| c.arms.get(&arm)).cloned().unwrap_or_default();
    of(&log.latest).since(&of(&log.base))
}

fn approval(people: u32, not_author: bool, circumstances: Circumstances) -> Verdict {
    let counts = |actor: &&Actor| !not_author || Some(*actor) != circumstances.author;
    let names: Vec<&str> = circumstances.approvals.iter().filter(counts).map(Actor::as_str).collect();
    if names.len() >= people as usize {
        return Verdict::Pass(format!("approved by {}", names.join(", ")));
    }
    Verdict::Undecided(format!("{} of {people} approvals", names.len()))
}

#[cfg(test)]
mod tests;
