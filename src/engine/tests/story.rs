//! Stories about one environment, a line each: what happens, and what the engine then says.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::{
    engine::{Next, Setup, State, next},
    model::{
        Actor, AttemptId, Blame, CommitId, ComponentName, Difference, DriftEnd, Effect, Ending, Event, Freeze,
        GateName, GateSpec, Guard, Lease, Limits, OnFail, Plan, PlanKind, Portion, Quarantine, Quarantined, Reading,
        Rehearsal, Release, Rule, Saw, Share, Span, Stamp, Step, Traces, TreeId, Version, WatchSpec, What,
    },
};

const BEGIN: Stamp = Stamp(1_000_000_000_000);

/// An environment, a clock that is a number, and everything that was ever written.
#[derive(Clone)]
pub struct Tale {
    pub state: State,
    pub now: Stamp,
    pub written: Vec<Event>,
    commits: u64,
    change: fn(&mut Plan),
    /// What is watched over.
    pub guard: Guard,
    /// What a look for drift finds, and a rehearsal.
    pub found: Vec<Difference>,
    pub obstacles: Vec<String>,
}

impl Tale {
    /// Nothing was ever deployed. `change` is made to every plan that is started.
    pub fn new(change: fn(&mut Plan)) -> Tale {
        Tale {
            state: State::default(),
            now: BEGIN,
            written: Vec::new(),
            commits: 0,
            change,
            guard: Guard::default(),
            found: Vec::new(),
            obstacles: Vec::new(),
        }
    }

    /// Release 1 is live and known good, and nobody watches it any more.
    pub fn with_one_live(change: fn(&mut Plan)) -> Tale {
        let mut tale = Tale::new(|_| {});
        tale.play("start 1\n carry on\n watch on");
        assert_eq!(tale.live(), "1", "the first release is live");
        tale.written.clear();
        tale.change = change;
        tale
    }

    /// Plays the lines of a story. `> …` says what the engine must say now, `? …` what it must be waiting for,
    /// `= …` how the last promotion or rollback must have ended, `live …` what must be live.
    pub fn play(&mut self, story: &str) -> &mut Tale {
        for line in story.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            self.line(line);
        }
        self
    }

    pub fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [">", ..] => assert_eq!(self.says(), line[1..].trim(), "after {} events", self.written.len()),
            ["?", ..] => {
                let waits: Vec<String> =
                    self.next().waits.into_iter().map(|w| format!("{}; {}", w.on, w.who)).collect();
                let found = waits.iter().any(|wait| wait.contains(line[1..].trim()));
                assert!(found, "nothing waits for {:?}: {waits:?}", line[1..].trim());
            }
            ["=", ..] => assert_eq!(self.ended(), line[1..].trim()),
            ["live", release] => assert_eq!(self.live(), *release),
            ["paused", span] => assert_eq!(self.pause(), Some(parse(span)), "how long automation rests"),
            ["not", "paused"] => assert_eq!(self.pause(), None, "automation rests"),
            ["wait", span] => self.now = self.now + parse::<Span>(span),
            ["clock", "back", span] => self.now = Stamp(self.now.0 - parse::<Span>(span).0 as i64),
            ["carry", "on"] => self.carry_on(|tale| !tale.state.is_busy()),
            ["watch", "on"] => self.carry_on(|tale| !tale.state.is_busy() && tale.state.watches.is_empty()),
            ["to", "step", step] => {
                let step: usize = parse(step);
                self.carry_on(|tale| tale.state.attempt.as_ref().is_some_and(|a| a.step + 1 >= step));
            }
            _ => {
                let what = self.what(&words).unwrap_or_else(|| panic!("no such line in a story: {line:?}"));
                self.write(what);
            }
        }
    }

    /// The facts that a line stands for.
    fn what(&self, words: &[&str]) -> Option<Vec<What>> {
        let attempt = self.under_way();
        let reason = "a reason".to_owned();
        let why = "it broke".to_owned();
        Some(vec![match words {
            ["decide"] => return Some(self.next().decisions),
            ["start", n] => What::Started { plan: Arc::new(self.plan(parse(n))) },
            ["look", gate, saw] => {
                let saw = match *saw {
                    "good" => Saw::Good("200".to_owned()),
                    "bad" => Saw::Bad("503".to_owned()),
                    "blind" => Saw::Blind("no route".to_owned()),
                    _ => return None,
                };
                let reading = Reading { gate: gate_name(gate), at: self.now, took: Span(5), saw };
                What::Read { attempt: self.looked_at(), reading }
            }
            ["applied"] => What::Applied { attempt, note: String::new(), renderer: None },
            ["apply", "fails"] => What::ApplyFailed { attempt, why, blame: Blame::Unknown, traces: Traces::Possible },
            ["apply", "is", "hopeless"] => {
                What::ApplyFailed { attempt, why, blame: Blame::Release, traces: Traces::Possible }
            }
            ["apply", "fails", "for", "the", "world"] => {
                What::ApplyFailed { attempt, why, blame: Blame::World, traces: Traces::Possible }
            }
            ["apply", "reaches", "nothing"] => {
                What::ApplyFailed { attempt, why, blame: Blame::World, traces: Traces::None }
            }
            ["shift", share, "fails", "for", "the", "world"] => What::ShiftFailed {
                attempt,
                to: Portion::Share(parse(share)),
                why,
                blame: Blame::World,
                traces: Traces::Possible,
            },
            ["shifted", share] => {
                What::Shifted { attempt, to: Portion::Share(parse(share)), note: String::new(), renderer: None }
            }
            ["shift", share, "fails"] => What::ShiftFailed {
                attempt,
                to: Portion::Share(parse(share)),
                why,
                blame: Blame::Unknown,
                traces: Traces::Possible,
            },
            ["retreated"] => What::Retreated { attempt, note: String::new(), renderer: None },
            ["retreat", "fails"] => What::RetreatFailed { attempt, why },
            ["settled"] => What::Settled { attempt, note: String::new(), renderer: None },
            ["settle", "fails"] => What::SettleFailed { attempt, why },
            ["approve", who] => What::Approved { attempt, reason: Some(who.to_string()) },
            ["abort"] => What::Aborted { attempt, reason },
            ["extend", span] => What::Extended { attempt: self.looked_at(), until: self.now + parse(span), reason },
            ["freeze", span] => {
                let until = Some(self.now + parse(span));
                What::Frozen { freeze: Freeze { reason, by: actor("ada"), since: self.now, until } }
            }
            ["unfreeze"] => What::Unfrozen { reason },
            ["lease", who] => What::Leased { lease: self.lease(who) },
            ["release", who] => What::Released { nonce: (*who).to_owned() },
            ["order"] => self.order(self.state.way_back().map(|good| good.release.clone())),
            ["order", n] => self.order(Some(release(parse(n)))),
            ["accept", span] => {
                let marks = self.found.iter().map(Difference::mark).collect();
                let until = self.now + parse(span);
                What::DriftEnded { how: DriftEnd::Accepted { until, reason, marks } }
            }
            ["adopt"] => {
                let marks = self.found.iter().map(Difference::mark).collect();
                let commit = CommitId::new("c".repeat(40)).expect("hexadecimal digits");
                What::DriftEnded { how: DriftEnd::Adopted { commit, branch: "main".to_owned(), marks } }
            }
            ["drop"] => {
                let dropped = What::DriftEnded { how: DriftEnd::Dropped { reason } };
                return Some(vec![dropped, self.order(self.state.live.clone())]);
            }
            ["waive"] => What::WayBackWaived { attempt, reason },
            ["answer"] => {
                let effects = self.next().effects;
                return Some(effects.iter().map(|effect| self.answer(effect, true)).collect());
            }
            ["nobody", "answers"] => {
                let effects = self.next().effects;
                return Some(effects.iter().map(|effect| self.answer(effect, false)).collect());
            }
            ["told"] => What::Told { notice: self.state.notices },
            ["tell", "fails"] => What::TellFailed { notice: self.state.notices, why },
            _ => return None,
        }])
    }

    /// An order as the command `rollback` writes it: everything it leaves is kept out.
    fn order(&self, to: Option<Release>) -> What {
        let hub = ComponentName::new("hub").expect("a name");
        let left = self.state.standing().and_then(|r| r.versions.get(&hub).cloned());
        let kept = to.as_ref().and_then(|to| to.versions.get(&hub)).cloned();
        let quarantine = left.filter(|left| Some(left) != kept.as_ref()).map(|version| Quarantine {
            what: Quarantined::Version { component: hub, version },
            reason: "ordered".to_owned(),
            by: actor("ada"),
            since: self.now,
            until: None,
        });
        let quarantine = quarantine.into_iter().collect();
        What::RollbackOrdered { to, scope: None, quarantine, reason: "a reason".to_owned() }
    }

    fn lease(&self, who: &str) -> Lease {
        let nonce = who.to_owned();
        Lease { holder: actor(who), nonce, fence: self.state.fence + 1, until: self.now + Lease::LENGTH }
    }

    /// Writes these facts as one commit.
    pub fn write(&mut self, what: Vec<What>) {
        self.commits += 1;
        let commit = CommitId::new(format!("{:040x}", self.commits)).expect("hexadecimal digits");
        for what in what {
            let by = match &what {
                What::Approved { reason: Some(who), .. } => actor(who),
                _ => actor("ci"),
            };
            let event = Event { at: self.now, by, what };
            self.state.apply(&commit, &event);
            self.written.push(event);
        }
    }

    /// A commit that piton did not write.
    pub fn foreign(&mut self) {
        let commit = CommitId::new("f".repeat(40)).expect("hexadecimal digits");
        self.state.apply_foreign(&commit, self.now, &actor("eve"), "no trailers");
    }

    /// Asks the engine, and holds it to the laws that every answer keeps.
    pub fn next(&self) -> Next {
        let setup = Setup { guard: self.guard, ..Setup::default() };
        let said = next(&self.state, self.now, setup);
        assert_eq!(said, next(&self.state, self.now, setup), "asking changes nothing");
        for wait in &said.waits {
            assert!(!wait.on.is_empty() && !wait.who.is_empty(), "{wait:?} does not say on what or who");
            let ends = wait.until.is_some() || wait.who.contains("piton") || said.wake.is_some();
            assert!(ends || !said.effects.is_empty(), "{wait:?} has no end");
        }
        if self.state.is_busy() && said.effects.is_empty() && said.decisions.is_empty() {
            assert!(!said.waits.is_empty(), "idle for no reason in {:?}", self.state);
            assert!(said.wake.is_some(), "nothing would ever end {:?}", said.waits);
        }
        assert!(said.wake.is_none_or(|wake| wake > self.now), "a wake in the past makes the runner spin: {said:?}");
        said
    }

    /// What the engine says, as a person would write it down.
    pub fn says(&self) -> String {
        let next = self.next();
        let said: Vec<String> =
            next.effects.iter().map(wish).chain(next.decisions.iter().map(|what| self.decision(what))).collect();
        if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
    }

    fn decision(&self, what: &What) -> String {
        match what {
            What::StepPassed { step, .. } => format!("step {} passed", step + 1),
            What::Promoted { .. } => "promoted".to_owned(),
            What::Refused { cause, .. } => format!("refused: {}", cause.sentence()),
            What::WatchEnded { attempt } => format!("watch of {attempt} over"),
            What::RollbackBegan { cause, to, quarantine, .. } => {
                let kept_out = if quarantine.is_empty() { ", nobody blamed" } else { "" };
                format!("back to {}: {}{kept_out}", named(to.as_ref()), cause.sentence())
            }
            What::RollbackWidened { to, .. } => format!("widen to {}", named(to.as_ref())),
            What::RolledBack { .. } => "rolled back".to_owned(),
            What::Stuck { .. } => "stuck".to_owned(),
            other => format!("{other:?}"),
        }
    }

    pub fn ended(&self) -> String {
        match self.state.last.as_ref().map(|last| &last.ending) {
            None => "nothing ended".to_owned(),
            Some(Ending::Promoted) => "promoted".to_owned(),
            Some(Ending::RolledBack { touched: true, .. }) => "rolled back".to_owned(),
            Some(Ending::RolledBack { touched: false, .. }) => "refused".to_owned(),
            Some(Ending::Stuck { .. }) => "stuck".to_owned(),
        }
    }

    pub fn live(&self) -> String {
        named(self.state.live.as_ref())
    }

    /// How long automation still rests.
    fn pause(&self) -> Option<Span> {
        self.state.paused(self.now).map(|pause| pause.until.since(self.now))
    }

    pub fn good(&self) -> String {
        named(self.state.good.as_ref().map(|good| &good.release))
    }

    /// The promotion or rollback that is under way, or the last one.
    pub fn under_way(&self) -> AttemptId {
        let attempt = self.state.attempt.as_ref().map(|a| a.id);
        let back = self.state.rollback.as_ref().map(|r| r.attempt);
        back.or(attempt).unwrap_or(AttemptId(self.state.attempts))
    }

    fn looked_at(&self) -> AttemptId {
        let watch = self.state.watches.last().filter(|_| !self.state.is_busy()).map(|w| w.attempt);
        watch.unwrap_or_else(|| self.under_way())
    }

    /// A kind world answers everything until `done`.
    pub fn carry_on(&mut self, done: impl Fn(&Tale) -> bool) {
        for _ in 0..10_000 {
            if done(self) || !self.one_step(true) {
                assert!(done(self), "it came to a halt: {:?}", self.next());
                return;
            }
        }
        panic!("it never ends: {:?}", self.next());
    }

    /// Writes the decisions there are, or answers the first wish, or lets the time pass. Says whether there was anything.
    pub fn one_step(&mut self, kind: bool) -> bool {
        let next = self.next();
        if !next.decisions.is_empty() {
            self.write(next.decisions);
            return true;
        }
        if let Some(effect) = next.effects.first() {
            self.write(vec![self.answer(effect, kind)]);
            return true;
        }
        self.now = next.wake.unwrap_or(self.now);
        next.wake.is_some()
    }

    /// The event with which the world answers an effect.
    pub fn answer(&self, effect: &Effect, kind: bool) -> What {
        let why = "it broke".to_owned();
        match effect.clone() {
            Effect::Look { attempt, gate } => {
                let saw = if kind { Saw::Good("200".to_owned()) } else { Saw::Blind(why) };
                What::Read { attempt, reading: Reading { gate, at: self.now, took: Span(5), saw } }
            }
            Effect::Apply { attempt, .. } if kind => What::Applied { attempt, note: String::new(), renderer: None },
            Effect::Apply { attempt, .. } => {
                What::ApplyFailed { attempt, why, blame: Blame::World, traces: Traces::Possible }
            }
            Effect::Shift { attempt, to, .. } if kind => {
                What::Shifted { attempt, to, note: String::new(), renderer: None }
            }
            Effect::Shift { attempt, to, .. } => {
                What::ShiftFailed { attempt, to, why, blame: Blame::World, traces: Traces::Possible }
            }
            Effect::Retreat { attempt, .. } if kind => What::Retreated { attempt, note: String::new(), renderer: None },
            Effect::Retreat { attempt, .. } => What::RetreatFailed { attempt, why },
            Effect::Settle { attempt, .. } if kind => What::Settled { attempt, note: String::new(), renderer: None },
            Effect::Settle { attempt, .. } => What::SettleFailed { attempt, why },
            Effect::Tell { notice } if kind => What::Told { notice: notice.id },
            Effect::Tell { notice } => What::TellFailed { notice: notice.id, why },
            Effect::LookForDrift { release } => {
                let found = if kind { Ok(self.found.clone()) } else { Err(why) };
                self.state.compared(&release.tree, found, self.now)
            }
            Effect::Rehearse { release } => {
                let blind = if kind { None } else { Some(why) };
                let obstacles = self.obstacles.clone();
                What::Rehearsed {
                    tree: release.tree,
                    rehearsal: Rehearsal { obstacles, blind, ..Rehearsal::default() },
                }
            }
        }
    }

    /// Check, deploy, a tenth of the users, all of them, a proof, a bake; then a watch.
    pub fn plan(&self, n: u64) -> Plan {
        let names = |names: &[&str]| names.iter().map(|name| gate_name(name)).collect::<Vec<_>>();
        let shift = |share: u16, hold| {
            let to = Portion::Share(Share::of_hundredths(share).expect("a share"));
            Step::Shift { to, hold, gates: names(&["front"]) }
        };
        let hub = ComponentName::new("hub").expect("a name");
        let back = self.state.live.clone();
        let from = back.as_ref().and_then(|back| back.versions.get(&hub).cloned());
        let to = release(n);
        let mut plan = Plan {
            environment: "production".parse().expect("a name"),
            kind: PlanKind::Bump,
            bumps: vec![crate::model::Bump { component: hub.clone(), from, to: to.versions.get(&hub).cloned() }],
            release: to,
            back,
            held: Vec::new(),
            files: Vec::new(),
            content: Vec::new(),
            steps: vec![
                Step::Check { gates: names(&["pre"]) },
                Step::Deploy,
                shift(1_000, Span::minutes(1)),
                shift(10_000, Span(0)),
                Step::Prove { gates: names(&["work"]) },
                Step::Bake { time: Span::minutes(10), gates: names(&["front"]) },
            ],
            gates: gates(),
            limits: Limits::default(),
            watch: WatchSpec { time: Span::minutes(30), gates: names(&["front"]) },
            subject: format!("hub {n}"),
            author: Some(actor("ada")),
            completes_source: true,
            renderer: None,
        };
        (self.change)(&mut plan);
        plan
    }
}

fn gates() -> BTreeMap<GateName, GateSpec> {
    let expect = Rule::Expect { passes: 1, tolerate: 0 };
    let one = |rule: Rule, on_fail| GateSpec {
        kind: "http".to_owned(),
        with: Value::Null,
        rule,
        every: Span::seconds(10),
        timeout: Span::seconds(5),
        on_fail,
    };
    [
        ("pre", one(expect.clone(), OnFail::Rollback)),
        ("front", one(expect.clone(), OnFail::Rollback)),
        ("work", one(Rule::Expect { passes: 2, tolerate: 1 }, OnFail::Rollback)),
        ("mood", one(expect, OnFail::Ask)),
        ("people", one(Rule::Approval { people: 1, not_author: true }, OnFail::Rollback)),
    ]
    .into_iter()
    .map(|(name, spec)| (gate_name(name), spec))
    .collect()
}

/// Release `n` holds version `n` of the hub.
pub fn release(n: u64) -> Release {
    let hub = ComponentName::new("hub").expect("a name");
    Release {
        tree: TreeId::new(format!("{n:040x}")).expect("hexadecimal digits"),
        source: CommitId::new(format!("{:040x}", 0xc0_0000 + n)).expect("hexadecimal digits"),
        versions: [(hub, Version::new(n.to_string()).expect("a version"))].into(),
    }
}

pub fn gate_name(text: &str) -> GateName {
    GateName::new(text).expect("a gate's name")
}

pub fn actor(text: &str) -> Actor {
    Actor::new(text).expect("an actor")
}

fn named(release: Option<&Release>) -> String {
    let number = |r: &Release| u64::from_str_radix(r.tree.as_str(), 16).expect("a number as its tree").to_string();
    release.map_or_else(|| "nothing".to_owned(), number)
}

fn wish(effect: &Effect) -> String {
    match effect {
        Effect::Look { gate, .. } => format!("look {gate}"),
        Effect::Apply { release, .. } => format!("apply {}", named(Some(release))),
        Effect::Shift { release, to, .. } => format!("shift {to} to {}", named(Some(release))),
        Effect::Retreat { from, to, .. } => format!("retreat from {} to {}", named(Some(from)), named(to.as_ref())),
        Effect::Settle { keep, .. } => format!("settle on {}", named(keep.as_ref())),
        Effect::Tell { notice } => format!("tell {}", notice.id),
        Effect::LookForDrift { release } => format!("look for drift from {}", named(Some(release))),
        Effect::Rehearse { release } => format!("rehearse {}", named(Some(release))),
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text:?} cannot be read in a story"))
}
