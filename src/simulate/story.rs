use std::collections::BTreeMap;

use serde_json::Value;

use super::{Chance, Faults, Nature};
use crate::{
    engine::State,
    model::{
        Actor, Arm, Bump, CommitId, ComponentName, GateName, GateSpec, Limits, OnFail, Plan, PlanKind, Portion,
        Release, Rule, Share, Span, Stamp, Step, TreeId, Version, WatchSpec,
    },
};

/// What happens in one simulated history, apart from chance.
#[derive(Debug, Clone)]
pub struct Story {
    pub name: String,
    /// Release `n` is the `n`th, from 1; they are promoted in order.
    pub natures: Vec<Nature>,
    pub plan: PlanShape,
    pub faults: Faults,
    pub runners: usize,
    /// What people do, and how long after the beginning.
    pub people: Vec<(Span, Deed)>,
    /// What people do as soon as this event is written: `settled #2`.
    pub answers: Vec<(&'static str, Deed)>,
    /// How far the clock is set, and when; less than nothing sets it back.
    pub jumps: Vec<(Span, i64)>,
    /// When all faults cease and people go home.
    pub calm_after: Span,
    /// It is over as soon as nothing is left to do, and everybody has answered what they wait for.
    pub ends_early: bool,
    /// Whether somebody stands guard: looks for drift, and tries the way back.
    pub guard: bool,
}

/// What the plans of a story look like.
#[derive(Debug, Clone)]
pub struct PlanShape {
    pub canary: Vec<(u16, Span)>,
    pub bake: Span,
    pub watch: Span,
    pub every: Span,
    pub approval: bool,
    pub asks: bool,
    /// The first release goes to all users at once, and nobody watches it.
    pub quick_first: bool,
}

/// What a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Approve,
    Abort,
    Extend,
    Freeze,
    Unfreeze,
    Pin,
    Unpin,
    /// `piton rollback`, to the last known good.
    Rollback,
    /// A release of this number, which was never proven, with the version of that one.
    RollbackTo(usize, usize),
    /// One more runner for the same environment.
    Promote,
    /// Whoever could not be brought back can be from then on.
    Mend,
    /// Nobody can be brought back to the release of this number from then on.
    Unreachable(usize),
    /// So many deploys fail from then on, through no fault of the release.
    FailDeploys(u32),
    /// A gate sees nothing from then on, until it sees again.
    Blind,
    See,
    /// The release of this number goes bad.
    Sicken(usize),
    /// Somebody changes by hand what is live, or takes that back.
    EditByHand,
    UndoByHand,
    /// `piton drift --drop` and `--ignore-until`.
    DropDrift,
    AcceptDrift,
    /// The images of the release of this number are gone, or there again.
    LoseImages(usize),
    FindImages,
}

const DEEDS: [Deed; 14] = [
    Deed::Approve,
    Deed::Abort,
    Deed::Extend,
    Deed::Freeze,
    Deed::Unfreeze,
    Deed::Pin,
    Deed::Unpin,
    Deed::Rollback,
    Deed::Promote,
    Deed::EditByHand,
    Deed::UndoByHand,
    Deed::DropDrift,
    Deed::AcceptDrift,
    Deed::LoseImages(1),
];

impl PlanShape {
    pub fn short() -> PlanShape {
        let canary = vec![(1_000, Span::seconds(20)), (5_000, Span(0))];
        let (bake, watch, every) = (Span::seconds(40), Span::seconds(40), Span::seconds(10));
        PlanShape { canary, bake, watch, every, approval: false, asks: false, quick_first: true }
    }
}

impl Story {
    /// A story without chance, in which one runner after the other takes these releases as far as they go.
    pub fn plain(name: &str, natures: &[Nature]) -> Story {
        Story {
            name: name.to_owned(),
            natures: natures.to_vec(),
            plan: PlanShape::short(),
            faults: Faults::default(),
            runners: 1,
            people: Vec::new(),
            answers: Vec::new(),
            jumps: Vec::new(),
            calm_after: Span::hours(2),
            ends_early: true,
            guard: false,
        }
    }

    /// The tree of release `n`.
    pub fn tree(n: usize) -> TreeId {
        tree(n)
    }

    /// A story that only chance wrote.
    pub fn of_chance(seed: u64, chance: &mut Chance) -> Story {
        let roll = |chance: &mut Chance, most: u64| chance.up_to(most);
        let natures = (0..2 + roll(chance, 2)).map(|n| if n == 0 { Nature::Good } else { nature(chance) }).collect();
        let seconds = |chance: &mut Chance, most: u64| Span::seconds(1 + chance.up_to(most));
        let canary = (0..roll(chance, 2)).map(|n| (1_000 + 4_000 * n as u16, seconds(chance, 40))).collect();
        let plan = PlanShape {
            canary,
            bake: seconds(chance, 90),
            watch: Span::seconds(roll(chance, 1) * 90),
            every: Span::seconds(6 + roll(chance, 24)),
            approval: chance.per_mille(200),
            asks: chance.per_mille(400),
            quick_first: chance.per_mille(300),
        };
        let people = (0..roll(chance, 5)).map(|_| {
            let deed = DEEDS[roll(chance, DEEDS.len() as u64 - 1) as usize];
            (Span::seconds(roll(chance, 450)), deed)
        });
        let people = people.collect();
        let jump = |chance: &mut Chance| {
            let far = 1_000 * (1 + roll(chance, 300)) as i64;
            (Span::seconds(roll(chance, 400)), if chance.per_mille(500) { far } else { -far })
        };
        let jumps = if chance.per_mille(200) { vec![jump(chance)] } else { Vec::new() };
        Story {
            name: format!("seed {seed}"),
            natures,
            plan,
            faults: faults(chance),
            runners: 1 + roll(chance, 2) as usize,
            people,
            answers: Vec::new(),
            jumps,
            calm_after: Span::minutes(8),
            ends_early: false,
            guard: chance.per_mille(500),
        }
    }

    /// The plan of release `n`.
    pub(super) fn plan(&self, n: usize, state: &State) -> Plan {
        let release = release(n);
        let hub = hub();
        let back = state.live.clone();
        let quick = back.is_none() && self.plan.quick_first;
        let from = back.as_ref().and_then(|back| back.versions.get(&hub).cloned());
        let bump = Bump { component: hub.clone(), from, to: release.versions.get(&hub).cloned() };
        Plan {
            environment: "production".parse().expect("a name"),
            kind: if back.is_some() { PlanKind::Bump } else { PlanKind::First },
            release,
            back,
            bumps: vec![bump],
            held: Vec::new(),
            files: Vec::new(),
            content: Vec::new(),
            steps: if quick { quick_steps() } else { self.steps() },
            gates: gates(self.plan.every),
            limits: limits(),
            watch: WatchSpec { time: if quick { Span(0) } else { self.plan.watch }, gates: names(&["front"]) },
            subject: format!("release {n}"),
            author: Some(Actor::new("ada").expect("an actor")),
            completes_source: true,
            renderer: None,
        }
    }

    fn steps(&self) -> Vec<Step> {
        let shape = &self.plan;
        let before = if shape.approval { names(&["pre", "people"]) } else { names(&["pre"]) };
        let during = names(&["front", "errors"]);
        let baking = if shape.asks { names(&["front", "mood"]) } else { names(&["front"]) };
        let shares = shape.canary.iter().copied().chain([(10_000, Span(0))]);
        let shifts = shares.map(|(share, hold)| Step::Shift {
            to: Portion::Share(Share::of_hundredths(share).expect("a share")),
            hold,
            gates: during.clone(),
        });
        let mut steps = vec![Step::Check { gates: before }, Step::Deploy];
        steps.extend(shifts);
        steps.push(Step::Prove { gates: names(&["work"]) });
        steps.push(Step::Bake { time: shape.bake, gates: baking });
        steps
    }
}

fn quick_steps() -> Vec<Step> {
    let all = Step::Shift { to: Portion::ALL, hold: Span(0), gates: names(&["front"]) };
    vec![Step::Check { gates: names(&["pre"]) }, Step::Deploy, all]
}

fn nature(chance: &mut Chance) -> Nature {
    match chance.up_to(9) {
        0..=4 => Nature::Good,
        5 => Nature::NeverUp,
        6 => Nature::BadAtOnce,
        7 => Nature::BadAtShare(1_000),
        8 => Nature::BadAtShare(5_001),
        _ => Nature::BadAfter(Span::seconds(chance.up_to(200))),
    }
}

/// Most histories have few kinds of faults, so that each is seen alone, too.
fn faults(chance: &mut Chance) -> Faults {
    let mut some = |most: u64| if chance.per_mille(300) { chance.up_to(most) } else { 0 };
    Faults {
        crash: some(15),
        ledger_down: some(60),
        ledger_answer_lost: some(60),
        act_fails: some(150),
        act_answer_lost: some(150),
        act_hangs: some(50),
        act_seconds_max: some(60),
        blind: some(150),
        look_hangs: some(80),
        channel_fails: some(500),
        channel_hangs: some(200),
        unreachable: if some(1) == 1 { [tree(2)].into() } else { Default::default() },
        never_back: if some(1) == 1 { [tree(1)].into() } else { Default::default() },
        retreats_fail: some(6) as u32,
        settles_fail: some(6) as u32,
        applies_fail: some(3) as u32,
        blind_gates: if some(1) == 1 { names(&["front"]).into_iter().collect() } else { Default::default() },
    }
}

fn limits() -> Limits {
    Limits {
        deadline: Span::minutes(30),
        investigate: Span::seconds(90),
        blind: Span::minutes(4),
        preflight: Span::minutes(40),
        rollback: Span::minutes(2),
        rollback_tries: 3,
        rollback_pause: Span::seconds(5),
        deploy_tries: 2,
        quarantine: None,
        pauses: vec![Span::minutes(2), Span::minutes(5)],
    }
}

fn gates(every: Span) -> BTreeMap<GateName, GateSpec> {
    let expect = |passes, tolerate| Rule::Expect { passes, tolerate };
    let errors = Rule::ErrorShare { arm: Arm::Candidate, max: 0.2, requests_min: 3 };
    let people = Rule::Approval { people: 1, not_author: true };
    let table = [
        ("pre", "pre", expect(1, 0), OnFail::Rollback),
        ("front", "traffic", expect(1, 1), OnFail::Rollback),
        ("errors", "counts", errors, OnFail::Rollback),
        ("work", "direct", expect(2, 1), OnFail::Rollback),
        ("mood", "traffic", expect(1, 0), OnFail::Ask),
        ("people", "approval", people, OnFail::Rollback),
    ];
    let spec = |(name, kind, rule, on_fail): (&str, &str, Rule, OnFail)| {
        let (kind, with) = (kind.to_owned(), Value::String(name.to_owned()));
        let spec = GateSpec { kind, with, rule, every, timeout: Span::seconds(5), on_fail };
        (GateName::new(name).expect("a gate's name"), spec)
    };
    table.into_iter().map(spec).collect()
}

fn names(names: &[&str]) -> Vec<GateName> {
    names.iter().map(|name| GateName::new(name).expect("a gate's name")).collect()
}

pub(super) fn hub() -> ComponentName {
    ComponentName::new("hub").expect("a name")
}

pub(super) fn tree(n: usize) -> TreeId {
    TreeId::new(format!("{n:040x}")).expect("hexadecimal digits")
}

pub(super) fn release(n: usize) -> Release {
    let source = CommitId::new(format!("{:040x}", 0xc0_0000 + n)).expect("hexadecimal digits");
    let version = Version::new(n.to_string()).expect("a version");
    Release { tree: tree(n), source, versions: [(hub(), version)].into() }
}

/// The next release that may be tried: newer than what is live, and not kept out.
pub(super) fn candidate(state: &State, releases: usize, now: Stamp) -> Option<usize> {
    let version = state.live.as_ref().and_then(|live| live.versions.get(&hub()).cloned());
    let live: usize = version.and_then(|version| version.as_str().parse().ok()).unwrap_or(0);
    let open = |n: &usize| {
        let version = Version::new(n.to_string()).expect("a version");
        state.quarantine(&hub(), &version, now).is_none()
    };
    let free = state.pin(&hub(), now).is_none() && state.stuck.is_none() && !state.is_busy();
    (live + 1..=releases).find(open).filter(|_| free)
}
