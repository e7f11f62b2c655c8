//! What stands guard while nothing happens: is live still what the ledger says, and is there still a way back?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Attempt, Next, Setup, State};
use crate::model::{
    Cause, Difference, DriftEnd, Effect, Guard, Plan, Rehearsal, Release, Span, Stamp, TreeId, Urgency, What,
};

/// Differences that are written into the ledger; the rest is only counted.
pub const DIFFERENCES_MAX: usize = 20;
/// Differences that a person can adopt or accept at once.
pub const MARKS_MAX: usize = 500;
/// Digests of one release that are remembered.
const DIGESTS_MAX: usize = 64;
/// The first look after a promotion or rollback: what was told to go there should be there by then.
const ARRIVED_AFTER: Span = Span::seconds(30);
/// How often is looked again while a promotion waits for the end of what was found.
const HELD_PACE: Span = Span::seconds(15);
/// How often is looked again after a look that failed.
const BLIND_PACE: Span = Span::seconds(30);
/// A way back that could not be proven is tried again so often.
const UNPROVEN_PACE: Span = Span::minutes(10);
/// Values that change at a place that is known already are written down so often.
const RENEWED_AFTER: Span = Span::minutes(15);

/// Live is not what the ledger says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    pub since: Stamp,
    /// When this was written.
    pub seen: Stamp,
    /// The first ones.
    pub differences: Vec<Difference>,
    /// All of them.
    pub count: usize,
}

/// The last look for drift.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftLook {
    pub at: Stamp,
    /// Since when nothing can be seen, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind: Option<(Stamp, String)>,
}

/// Differences that people know of: no drift until then, or until the next release is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub marks: Vec<String>,
    pub until: Option<Stamp>,
}

/// What is known of the way back to a release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WayBack {
    pub looked: Option<Stamp>,
    /// When it was last seen that everything is there and would be taken.
    pub proven: Option<Stamp>,
    pub obstacles: Vec<String>,
    /// Since when something cannot be seen, and what.
    pub blind: Option<(Stamp, String)>,
    /// Where each reference led when it was looked up first.
    pub digests: BTreeMap<String, String>,
}

impl Drift {
    /// The first difference and how many more there are.
    pub fn sentence(&self) -> String {
        drift_sentence(&self.differences, self.count)
    }
}

/// The first difference and how many more there are.
pub fn drift_sentence(differences: &[Difference], count: usize) -> String {
    let first = differences.first().map_or("something differs".to_owned(), Difference::to_string);
    match count {
        0 | 1 => first,
        2 => format!("{first}, and one more difference"),
        _ => format!("{first}, and {} more differences", count - 1),
    }
}

/// Whether a promotion may go on, as far as the guard knows.
pub(super) enum Sound {
    Yes,
    NotYet,
    Never(Cause),
}

// ---- what to do

/// While nothing is under way.
pub(super) fn stand(state: &State, now: Stamp, guard: Guard, next: &mut Next) {
    if state.stuck.is_some() {
        return;
    }
    if let (Some(every), Some(live)) = (guard.drift, &state.live) {
        look(drift_due(state, every, None, now), Effect::LookForDrift { release: live.clone() }, now, next);
    }
    if let (Some(every), Some(good)) = (guard.way_back, &state.good) {
        let due = match state.ways_back.get(&good.release.tree) {
            Some(WayBack { looked: Some(looked), obstacles, blind, .. }) => {
                let unproven = !obstacles.is_empty() || blind.is_some();
                let pace = if unproven { UNPROVEN_PACE.min(every) } else { every };
                again(*looked, pace, now)
            }
            Some(WayBack { looked: None, .. }) | None => good.at + ARRIVED_AFTER.min(every),
        };
        look(due, Effect::Rehearse { release: good.release.clone() }, now, next);
    }
}

/// Before anything is touched: live must be what the ledger says, since the deploy would write over it, and what is live
/// will be the way back.
pub(super) fn preflight(state: &State, attempt: &Attempt, now: Stamp, setup: Setup, next: &mut Next) -> Sound {
    let drift = no_drift(state, attempt, now, setup, next);
    let way_back = match (&attempt.plan.back, setup.guard.way_back) {
        (Some(back), Some(_)) => proven(state, attempt, back, attempt.started, now, setup, next),
        (None, _) | (_, None) => Sound::Yes,
    };
    match (drift, way_back) {
        (Sound::Never(cause), _) | (_, Sound::Never(cause)) => Sound::Never(cause),
        (Sound::Yes, Sound::Yes) => Sound::Yes,
        (Sound::NotYet, _) | (_, Sound::NotYet) => Sound::NotYet,
    }
}

/// Before the release becomes the last known good, and through it the way back for the next one.
pub(super) fn before_good(state: &State, attempt: &Attempt, now: Stamp, setup: Setup, next: &mut Next) -> Sound {
    if setup.guard.way_back.is_none() {
        return Sound::Yes;
    }
    let since = attempt.touched.unwrap_or(attempt.started);
    proven(state, attempt, &attempt.plan.release, since, now, setup, next)
}

fn no_drift(state: &State, attempt: &Attempt, now: Stamp, setup: Setup, next: &mut Next) -> Sound {
    let (Some(every), Some(live)) = (setup.guard.drift, &state.live) else { return Sound::Yes };
    // What was in the way when somebody else looked may be gone.
    let unsure = state.drift.is_some() && state.drift_look.as_ref().is_some_and(|look| look.at < setup.begun.min(now));
    let due = if unsure { now } else { drift_due(state, every, Some(attempt.started), now) };
    let fresh = due > now;
    look(due, Effect::LookForDrift { release: live.clone() }, now, next);
    if let Some(drift) = &state.drift {
        next.held = true;
        let name = attempt.plan.environment.as_str();
        next.wait(
            format!("the drift to end: {}", drift.sentence()),
            drift.since,
            None,
            &format!("whoever changed it, or `piton drift {name}` with `--adopt`, `--drop` or `--ignore-until`"),
        );
        return Sound::NotYet;
    }
    let Some(DriftLook { blind: Some((since, why)), .. }) = &state.drift_look else {
        return if fresh { Sound::Yes } else { Sound::NotYet };
    };
    unseen(&attempt.plan, (*since).max(attempt.started), format!("whether live is as deployed: {why}"), now, next)
}

/// Whether there was proof since then that the release can be deployed again.
fn proven(
    state: &State,
    attempt: &Attempt,
    release: &Release,
    since: Stamp,
    now: Stamp,
    setup: Setup,
    next: &mut Next,
) -> Sound {
    if attempt.way_back_waived.is_some() {
        return Sound::Yes;
    }
    let unknown = WayBack::default();
    let known = state.ways_back.get(&release.tree).unwrap_or(&unknown);
    if known.proven.is_some_and(|at| at >= since && at <= now) {
        return Sound::Yes;
    }
    let fresh = known.looked.filter(|at| *at >= since);
    if fresh.is_some() && known.obstacles.is_empty() && !setup.guard.blind_holds {
        return Sound::Yes;
    }
    let due = match fresh {
        Some(looked) if looked < setup.begun.min(now) => now,
        Some(looked) => again(looked, HELD_PACE, now),
        None => since,
    };
    look(due, Effect::Rehearse { release: release.clone() }, now, next);
    if fresh.is_none() {
        return Sound::NotYet;
    }
    if let Some(obstacle) = known.obstacles.first() {
        next.held = true;
        let name = attempt.plan.environment.as_str();
        next.wait(
            format!("a way back to release {}: {}", release.tree.short(), and_more(obstacle, known.obstacles.len())),
            since,
            None,
            &format!("whoever can bring that back, or `piton promote {name} --without-way-back REASON`"),
        );
        return Sound::NotYet;
    }
    let Some((blind_since, why)) = &known.blind else { return Sound::NotYet };
    unseen(&attempt.plan, (*blind_since).max(since), format!("whether there is a way back: {why}"), now, next)
}

/// Nobody could look: that holds a promotion as long as gates that cannot look may.
fn unseen(plan: &Plan, since: Stamp, what: String, now: Stamp, next: &mut Next) -> Sound {
    let until = since + plan.limits.blind;
    if now >= until {
        return Sound::Never(Cause::Unseen { after: now.since(since), why: what });
    }
    next.wait(format!("a look at {what}"), since, Some(until), "whoever runs what it looks at");
    Sound::NotYet
}

fn and_more(first: &str, count: usize) -> String {
    match count {
        0 | 1 => first.to_owned(),
        count => format!("{first} (and {} more)", count - 1),
    }
}

/// When the next look for drift is due; `waiting`: a promotion has waited for it since then.
fn drift_due(state: &State, every: Span, waiting: Option<Stamp>, now: Stamp) -> Stamp {
    let Some(look) = &state.drift_look else {
        let ended = state.last.as_ref().map_or(Stamp(0), |last| last.at + ARRIVED_AFTER.min(every));
        return waiting.unwrap_or(ended);
    };
    let pace = match (waiting, &look.blind) {
        (Some(started), _) if look.at < started => return started,
        (Some(_), Some(_)) => HELD_PACE,
        (Some(_), None) if state.drift.is_some() => HELD_PACE,
        (None, Some(_)) => BLIND_PACE,
        (Some(_) | None, None) => every,
    };
    again(look.at, pace.min(every), now)
}

/// So long after the last time; a clock that went back must not stop the looking.
fn again(last: Stamp, pace: Span, now: Stamp) -> Stamp {
    if last > now + pace { now } else { last + pace }
}

fn look(due: Stamp, effect: Effect, now: Stamp, next: &mut Next) {
    if now >= due {
        next.effects.push(effect);
    } else {
        next.wake_at(due);
    }
}

// ---- what was found

impl State {
    /// What a look for drift at this release comes to.
    pub fn compared(&self, tree: &TreeId, found: Result<Vec<Difference>, String>, now: Stamp) -> What {
        let tree = tree.clone();
        let found = match found {
            Ok(found) => found,
            Err(why) => return What::LookedForDrift { tree, blind: Some(why) },
        };
        let differences = self.unknown(found, now);
        match (&self.drift, differences.is_empty()) {
            (None, true) => What::LookedForDrift { tree, blind: None },
            (Some(_), true) => What::DriftEnded { how: DriftEnd::Gone },
            (Some(drift), false) if drift.is_told(&differences, now) => What::LookedForDrift { tree, blind: None },
            (None | Some(_), false) => {
                let count = differences.len();
                let differences = differences.into_iter().take(DIFFERENCES_MAX).collect();
                What::Drifted { tree, differences, count }
            }
        }
    }

    /// The differences that nobody has adopted or accepted, shortened.
    pub fn unknown(&self, found: Vec<Difference>, now: Stamp) -> Vec<Difference> {
        let in_force = |known: &&Known| known.until.is_none_or(|until| now < until);
        let known: Vec<&Known> = self.known_differences.iter().filter(in_force).collect();
        let is_known = |d: &Difference| {
            let mark = d.mark();
            known.iter().any(|known| known.marks.contains(&mark))
        };
        found.into_iter().filter(|d| !is_known(d)).map(Difference::bounded).collect()
    }

    /// Why the world would not take this release again, as far as it was looked at.
    pub fn obstacles(&self, tree: &TreeId) -> &[String] {
        self.ways_back.get(tree).map_or(&[], |way| &way.obstacles)
    }

    pub(super) fn looked_for_drift(&mut self, at: Stamp, tree: &TreeId, blind: Option<&String>) {
        if self.live.as_ref().is_none_or(|live| live.tree != *tree) {
            return;
        }
        let before = self.drift_look.take().and_then(|look| look.blind).map(|(since, _)| since);
        let blind = blind.map(|why| (before.unwrap_or(at), why.clone()));
        self.drift_look = Some(DriftLook { at, blind });
    }

    pub(super) fn drifted(&mut self, at: Stamp, tree: &TreeId, differences: &[Difference], count: usize) {
        if self.live.as_ref().is_none_or(|live| live.tree != *tree) {
            return;
        }
        self.drift_look = Some(DriftLook { at, blind: None });
        let before = self.drift.take();
        let since = before.as_ref().map_or(at, |drift| drift.since);
        let drift = Drift { since, seen: at, differences: differences.to_vec(), count };
        if before.is_none_or(|before| !before.is_at_the_same_places(differences)) {
            self.notice(at, Urgency::Warning, format!("drift: {}", drift.sentence()));
        }
        self.drift = Some(drift);
    }

    pub(super) fn drift_ended(&mut self, at: Stamp, how: &DriftEnd) {
        let ended = self.drift.take().is_some();
        match how {
            DriftEnd::Gone => {
                self.drift_look = Some(DriftLook { at, blind: None });
                if ended {
                    self.notice(at, Urgency::Info, "the drift is gone".to_owned());
                }
            }
            DriftEnd::Adopted { marks, .. } => self.known_differences.push(Known { marks: marks.clone(), until: None }),
            DriftEnd::Accepted { marks, until, .. } => {
                self.known_differences.retain(|known| known.until.is_none_or(|until| at < until));
                self.known_differences.push(Known { marks: marks.clone(), until: Some(*until) });
            }
            DriftEnd::Dropped { .. } => self.known_differences.clear(),
        }
    }

    /// A release was brought live: what was seen of the one before says nothing about it.
    pub(super) fn seen_afresh(&mut self) {
        self.drift = None;
        self.drift_look = None;
        self.known_differences.clear();
        let kept: Vec<TreeId> = self.good.iter().map(|good| good.release.tree.clone()).collect();
        let way_back = self.way_back().map(|good| good.release.tree.clone());
        self.ways_back.retain(|tree, _| kept.contains(tree) || way_back.as_ref() == Some(tree));
    }

    /// Where the references of a release led when they were looked up first.
    pub fn digests_of(&self, tree: &TreeId) -> BTreeMap<String, String> {
        self.ways_back.get(tree).map(|way| way.digests.clone()).unwrap_or_default()
    }

    pub(super) fn rehearsed(&mut self, at: Stamp, tree: &TreeId, rehearsal: &Rehearsal) {
        // What cannot be looked up for one release mostly cannot be for the next: that is told once.
        let last = self.ways_back.values().max_by_key(|way| way.looked);
        let was_blind = last.is_some_and(|way| way.blind.is_some());
        let way = self.ways_back.entry(tree.clone()).or_default();
        let before = std::mem::take(&mut way.obstacles);
        way.obstacles = rehearsal.obstacles.clone();
        for (reference, digest) in rehearsal.digests.iter().take(DIGESTS_MAX) {
            let first = way.digests.entry(reference.clone()).or_insert_with(|| digest.clone());
            if first != digest {
                way.obstacles.push(format!("`{reference}` led to {first} when it was deployed, and leads to {digest}"));
            }
        }
        way.looked = Some(at);
        let since = way.blind.take().map_or(at, |(since, _)| since);
        way.blind = rehearsal.blind.clone().map(|why| (since, why));
        if way.obstacles.is_empty() && way.blind.is_none() {
            way.proven = Some(at);
        }
        let (now, short) = (way.obstacles.clone(), tree.short().to_owned());
        match (&rehearsal.blind, was_blind) {
            (Some(why), false) => {
                let text = format!("whether release {short} could be deployed again cannot be seen: {why}");
                self.notice(at, Urgency::Warning, text);
            }
            (None, true) => {
                let text = "whether there is a way back can be seen again".to_owned();
                self.notice(at, Urgency::Info, text);
            }
            (Some(_), true) | (None, false) => {}
        }
        match (now.first(), before.is_empty()) {
            (Some(first), _) if now != before => {
                let text = format!("release {short} could not be deployed again: {}", and_more(first, now.len()));
                self.notice(at, Urgency::Alarm, text);
            }
            (None, false) => {
                self.notice(at, Urgency::Info, format!("release {short} could be deployed again"));
            }
            (Some(_), _) | (None, true) => {}
        }
    }
}

impl Drift {
    fn is_at_the_same_places(&self, differences: &[Difference]) -> bool {
        let first = differences.iter().take(DIFFERENCES_MAX);
        self.differences.iter().map(Difference::place).eq(first.map(Difference::place))
    }

    /// Whether people know as much already.
    fn is_told(&self, differences: &[Difference], now: Stamp) -> bool {
        let same_places = self.count == differences.len() && self.is_at_the_same_places(differences);
        let same = self.differences.iter().eq(differences.iter().take(DIFFERENCES_MAX));
        same_places && (same || (self.seen <= now && now < self.seen + RENEWED_AFTER))
    }
}
