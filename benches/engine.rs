//! How many promotions a second the engine alone could see through: fold and next, with every event of a promotion.

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use piton::{
    engine::{Setup, State, next},
    model::{
        Actor, Bump, CommitId, ComponentName, Effect, Event, GateName, GateSpec, Limits, OnFail, Plan, PlanKind,
        Portion, Reading, Release, Rule, Saw, Share, Span, Stamp, Step, TreeId, Version, WatchSpec, What,
    },
};

fn release(n: u64) -> Release {
    let versions = (0..8).map(|i| {
        let version = if i == 0 { n.to_string() } else { "1.0.0".to_owned() };
        let name = ComponentName::new(format!("service-{i}")).expect("a name");
        (name, Version::new(version).expect("a version"))
    });
    Release {
        tree: TreeId::new(format!("{n:040x}")).expect("hexadecimal digits"),
        source: CommitId::new(format!("{n:040x}")).expect("hexadecimal digits"),
        versions: versions.collect(),
    }
}

/// From `a` to `b`: a check, a deploy, 10 %, 50 % and all of the users, a bake.
fn plan(from: u64, to: u64) -> Arc<Plan> {
    let gate = |name: &str| GateName::new(name).expect("a name");
    let spec = || GateSpec {
        kind: "http".to_owned(),
        with: serde_json::Value::Null,
        rule: Rule::Expect { passes: 1, tolerate: 0 },
        every: Span::minutes(5),
        timeout: Span::seconds(5),
        on_fail: OnFail::Rollback,
    };
    let shift = |share: u16| {
        let to = Portion::Share(Share::of_hundredths(share).expect("a share"));
        Step::Shift { to, hold: Span::minutes(1), gates: vec![gate("front")] }
    };
    let (back, new) = (release(from), release(to));
    let bumped = ComponentName::new("service-0").expect("a name");
    let (old, to) = (back.versions.get(&bumped).cloned(), new.versions.get(&bumped).cloned());
    Arc::new(Plan {
        environment: "production".parse().expect("a name"),
        kind: PlanKind::Bump,
        bumps: vec![Bump { component: bumped, from: old, to }],
        release: new,
        back: Some(back),
        held: Vec::new(),
        files: Vec::new(),
        content: Vec::new(),
        steps: vec![
            Step::Check { gates: vec![gate("front")] },
            Step::Deploy,
            shift(1_000),
            shift(5_000),
            shift(10_000),
            Step::Bake { time: Span::minutes(5), gates: vec![gate("front")] },
        ],
        gates: BTreeMap::from([(gate("front"), spec())]),
        limits: Limits::default(),
        watch: WatchSpec::default(),
        subject: "bump".to_owned(),
        author: None,
        renderer: None,
        completes_source: true,
    })
}

fn answer(effect: Effect, now: Stamp) -> What {
    match effect {
        Effect::Look { attempt, gate } => {
            let reading = Reading { gate, at: now, took: Span(5), saw: Saw::Good("200".to_owned()) };
            What::Read { attempt, reading }
        }
        Effect::Apply { attempt, .. } => What::Applied { attempt, note: String::new(), renderer: None },
        Effect::Shift { attempt, to, .. } => What::Shifted { attempt, to, note: String::new(), renderer: None },
        Effect::Retreat { attempt, .. } => What::Retreated { attempt, note: String::new(), renderer: None },
        Effect::Settle { attempt, .. } => What::Settled { attempt, note: String::new(), renderer: None },
        Effect::Tell { notice } => What::Told { notice: notice.id },
        Effect::LookForDrift { .. } | Effect::Rehearse { .. } => unreachable!("nothing stands guard here"),
    }
}

/// One promotion from `Started` to `Settled`; says how many events it took.
fn promote(state: &mut State, plan: &Arc<Plan>, now: &mut Stamp, commit: &CommitId, by: &Actor) -> u32 {
    let mut events = 0;
    let mut write = |state: &mut State, what: What, now: Stamp| {
        events += 1;
        state.apply(commit, &Event { at: now, by: by.clone(), what });
    };
    write(state, What::Started { plan: plan.clone() }, *now);
    while state.is_busy() {
        let said = next(state, *now, Setup::default());
        let idle = said.decisions.is_empty() && said.effects.is_empty();
        said.decisions.into_iter().for_each(|what| write(state, what, *now));
        said.effects.into_iter().for_each(|effect| write(state, answer(effect, *now), *now));
        if idle {
            *now = said.wake.expect("who waits says until when");
        }
    }
    events
}

fn promotions(criterion: &mut Criterion) {
    let plans = [plan(1, 2), plan(2, 1)];
    let commit = CommitId::new("c".repeat(40)).expect("hexadecimal digits");
    let by = Actor::new("ci").expect("an actor");
    let mut state = State::default();
    let mut now = Stamp(1_000_000_000_000);
    let events = promote(&mut state, &plans[0], &mut now, &commit, &by);
    assert_eq!(state.good.as_ref().map(|good| &good.release), Some(&plans[0].release), "it was promoted");
    println!("a promotion takes {events} events");
    let mut turn = 0;
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(1));
    group.bench_function("promotion", |bencher| {
        bencher.iter(|| {
            turn += 1;
            black_box(promote(&mut state, &plans[turn % 2], &mut now, &commit, &by))
        });
    });
    group.finish();
}

criterion_group!(benches, promotions);
criterion_main!(benches);
