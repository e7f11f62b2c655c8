use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::model::{
    ArmCounts, Event, Freeze, GateSpec, Limits, OnFail, Pin, PlanKind, Portion, Quarantine, Reading, Release, Rule,
    Saw, Share, Step, TreeId, Version, WatchSpec, What,
};

/// A history told event by event, on a clock that the test moves.
struct Teller {
    now: Stamp,
    events: Vec<Event>,
}

impl Teller {
    fn new() -> Teller {
        Teller { now: "2026-03-01T10:00:00Z".parse().expect("a time"), events: Vec::new() }
    }

    fn after(&mut self, seconds: u64) -> &mut Teller {
        self.now = self.now + Span::seconds(seconds);
        self
    }

    fn says(&mut self, what: What) -> &mut Teller {
        let by = Actor::new("piton").expect("a name");
        self.events.push(Event { at: self.now, by, what });
        self
    }

    fn reads(&mut self, attempt: u64, gate: &str, saw: Saw) -> &mut Teller {
        let reading = Reading { gate: name(gate), at: self.now, took: Span(40), saw };
        self.says(What::Read { attempt: AttemptId(attempt), reading })
    }

    fn story(&self) -> Story {
        story(EnvironmentName::new("production").expect("a name"), &self.events)
    }
}

fn name(text: &str) -> GateName {
    GateName::new(text).expect("a name")
}

fn version(text: &str) -> Version {
    Version::new(text).expect("a version")
}

fn component(text: &str) -> crate::model::ComponentName {
    crate::model::ComponentName::new(text).expect("a name")
}

fn release(digit: char, web: &str) -> Release {
    let id = digit.to_string().repeat(40);
    Release {
        tree: TreeId::new(&id).expect("an id"),
        source: CommitId::new(&id).expect("an id"),
        versions: BTreeMap::from([(component("web"), version(web))]),
    }
}

fn gate(kind: &str, rule: Rule) -> GateSpec {
    let (every, timeout) = (Span::seconds(5), Span::seconds(3));
    GateSpec { kind: kind.to_owned(), with: serde_json::Value::Null, rule, every, timeout, on_fail: OnFail::Rollback }
}

fn plan(digit: char, from: &str, to: &str) -> Arc<Plan> {
    let gates = BTreeMap::from([
        (name("office-hours"), gate("approval", Rule::Approval { people: 1, not_author: true })),
        (name("front"), gate("http", Rule::Expect { passes: 1, tolerate: 0 })),
        (name("errors"), gate("metric", Rule::ErrorShare { arm: Arm::Candidate, max: 0.01, requests_min: 50 })),
    ]);
    let looking = vec![name("front"), name("errors")];
    let share = |text: &str| Portion::Share(text.parse::<Share>().expect("a share"));
    let shift = |text| Step::Shift { to: share(text), hold: Span::seconds(10), gates: looking.clone() };
    let bump = Bump { component: component("web"), from: Some(version(from)), to: Some(version(to)) };
    Arc::new(Plan {
        environment: EnvironmentName::new("production").expect("a name"),
        kind: PlanKind::Bump,
        release: release(digit, to),
        back: Some(release('0', from)),
        bumps: vec![bump],
        held: Vec::new(),
        files: Vec::new(),
        content: Vec::new(),
        steps: vec![
            Step::Check { gates: vec![name("office-hours")] },
            Step::Deploy,
            shift("10%"),
            shift("100%"),
            Step::Bake { time: Span::seconds(30), gates: looking.clone() },
        ],
        gates,
        limits: Limits::default(),
        watch: WatchSpec { time: Span::hours(6), gates: looking.clone() },
        subject: format!("web to {to}"),
        author: None,
        completes_source: true,
        renderer: None,
    })
}

fn counts(ok: u64, failed: u64) -> Saw {
    let arm = |ok, failed| ArmCounts { ok, failed, ..ArmCounts::default() };
    Saw::Counts(Counts { arms: BTreeMap::from([(Arm::Stable, arm(9 * ok, 0)), (Arm::Candidate, arm(ok, failed))]) })
}

fn good() -> Saw {
    Saw::Good("200".to_owned())
}

/// One promotion that goes well, watch included.
fn goes_well(teller: &mut Teller, id: u64) {
    let attempt = AttemptId(id);
    let all = |text: &str| Portion::Share(text.parse::<Share>().expect("a share"));
    teller.says(What::Started { plan: plan('1', "1.0.0", "1.1.0") });
    teller.after(60).says(What::Approved { attempt, reason: Some("go".to_owned()) });
    teller.says(What::StepPassed { attempt, step: 0 });
    teller.after(4).says(What::Applied { attempt, note: "up".to_owned(), renderer: None });
    for (step, share) in [(2, "10%"), (3, "100%")] {
        teller.after(1).says(What::Shifted { attempt, to: all(share), note: String::new(), renderer: None });
        for n in 0..3 {
            teller.after(5).reads(id, "front", good()).reads(id, "errors", counts(step * 200 + 100 * n, 1));
        }
        teller.says(What::StepPassed { attempt, step: step as usize });
    }
    for n in 0..6 {
        teller.after(5).reads(id, "front", good()).reads(id, "errors", counts(1_000 + 100 * n, 1));
    }
    teller.says(What::Promoted { attempt });
    teller.after(1).says(What::Settled { attempt, note: String::new(), renderer: None });
}

/// One that fails at its canary share, and is rolled back.
fn goes_badly(teller: &mut Teller, id: u64) {
    let attempt = AttemptId(id);
    teller.after(60).says(What::Started { plan: plan('2', "1.1.0", "1.2.0") });
    teller.after(1).says(What::Approved { attempt, reason: None }).says(What::StepPassed { attempt, step: 0 });
    teller.after(3).says(What::ApplyFailed {
        attempt,
        why: "the port was taken".to_owned(),
        blame: crate::model::Blame::World,
        traces: crate::model::Traces::Possible,
    });
    teller.after(3).says(What::Applied { attempt, note: "up".to_owned(), renderer: None });
    teller.after(1).says(What::Shifted {
        attempt,
        to: Portion::Share("10%".parse().expect("a share")),
        note: String::new(),
        renderer: None,
    });
    teller.reads(id, "front", good()).reads(id, "errors", counts(0, 0));
    teller.after(5).reads(id, "front", Saw::Blind("no route <to> host".to_owned())).reads(id, "errors", counts(20, 3));
    teller.after(5).reads(id, "front", good()).reads(id, "errors", counts(60, 21));
    let why = "21 of 81 requests of the candidate failed (25.93%, allowed 1.00%)".to_owned();
    teller.says(What::RollbackBegan {
        attempt,
        cause: Cause::Gate { gate: name("errors"), why },
        to: Some(release('1', "1.1.0")),
        quarantine: vec![Quarantine {
            what: Quarantined::Version { component: component("web"), version: version("1.2.0") },
            reason: "rolled back".to_owned(),
            by: Actor::new("piton").expect("a name"),
            since: teller.now,
            until: None,
        }],
    });
    teller.now = teller.now + Span(80);
    teller.says(What::Retreated { attempt, note: String::new(), renderer: None }).after(2).says(What::Settled {
        attempt,
        note: String::new(),
        renderer: None,
    });
    teller.says(What::RolledBack { attempt, paused_until: None });
}

fn both() -> Teller {
    let mut teller = Teller::new();
    goes_well(&mut teller, 1);
    goes_badly(&mut teller, 2);
    teller
}

#[test]
fn a_story_says_what_was_caught_where_and_after_how_long() {
    let story = both().story();
    let [first, second] = story.attempts.as_slice() else { panic!("two attempts, not {}", story.attempts.len()) };
    assert_eq!((first.outcome(), first.bad_requests(), first.caught_by()), (Outcome::Promoted, Some(0), None));
    assert_eq!((second.outcome(), second.place()), (Outcome::RolledBack, "10%"));
    assert_eq!(second.caught_by().as_deref(), Some("errors"));
    assert_eq!((second.caught_after(), second.back_after()), (Some(Span::seconds(10)), Some(Span(80))));
    assert_eq!(second.bad_requests(), Some(21));
    assert_eq!(second.troubles.len(), 1);
    let steps: Vec<String> = first.steps.iter().map(|s| format!("{} {}", s.name, s.passed)).collect();
    assert_eq!(steps.join(", "), "preflight true, deploy true, 10% true, 100% true, bake true, watch false");
    let silent = first.gates.iter().find(|g| g.name.as_str() == "office-hours").expect("it is told");
    assert_eq!(silent.verdict, Verdict::Pass("approved".to_owned()));
}

#[test]
fn a_fault_found_in_the_watch_belongs_to_its_attempt() {
    let mut teller = Teller::new();
    goes_well(&mut teller, 1);
    let attempt = AttemptId(1);
    teller.after(600).reads(1, "front", Saw::Bad("502".to_owned()));
    let cause = Cause::Gate { gate: name("front"), why: "502".to_owned() };
    teller.says(What::RollbackBegan { attempt, cause, to: None, quarantine: Vec::new() });
    assert_eq!(teller.story().attempts[0].outcome(), Outcome::UnderWay);
    teller
        .after(1)
        .says(What::Retreated { attempt, note: String::new(), renderer: None })
        .says(What::RolledBack { attempt, paused_until: None });
    let line = &teller.story().attempts[0];
    assert_eq!((line.outcome(), line.place()), (Outcome::RolledBack, "watch"));
    assert!(line.promoted.is_some());
}

#[test]
fn a_rollback_by_hand_is_an_attempt_of_its_own_when_nothing_is_under_way() {
    let mut teller = Teller::new();
    goes_well(&mut teller, 1);
    let ordered =
        What::RollbackOrdered { to: None, scope: None, quarantine: Vec::new(), reason: "users complain".to_owned() };
    teller.after(60).says(ordered);
    let attempt = AttemptId(2);
    teller
        .after(1)
        .says(What::Retreated { attempt, note: String::new(), renderer: None })
        .says(What::RolledBack { attempt, paused_until: None });
    let story = teller.story();
    assert_eq!(story.attempts.len(), 2);
    assert_eq!(
        (story.attempts[1].outcome(), story.attempts[1].caught_by().as_deref()),
        (Outcome::RolledBack, Some("a person"))
    );
    assert_eq!(story.attempts[0].outcome(), Outcome::Promoted);
}

#[test]
fn a_story_may_begin_anywhere() {
    let mut teller = Teller::new();
    goes_well(&mut teller, 6);
    goes_badly(&mut teller, 7);
    let all = teller.story();
    assert_eq!(all.attempts.iter().map(|a| a.id.0).collect::<Vec<_>>(), [6, 7]);
    for skipped in 0..teller.events.len() {
        let rest = story(EnvironmentName::new("production").expect("a name"), &teller.events[skipped..]);
        if let Some(last) = rest.attempts.last() {
            assert!(last.id.0 >= 6, "{skipped}");
            assert_ne!(last.outcome(), Outcome::Promoted, "{skipped}");
        }
        for width in [Width::Plain, Width::Columns(140)] {
            assert!(table(std::slice::from_ref(&rest), width).contains("environment"));
        }
    }
}

#[test]
fn what_people_did_is_told_too() {
    let mut teller = Teller::new();
    let (by, since) = (Actor::new("ann").expect("a name"), teller.now);
    let until = Some(since + Span::hours(2));
    let pin = Pin {
        component: component("web"),
        version: version("1.0"),
        reason: "demo".to_owned(),
        by: by.clone(),
        since,
        until,
    };
    teller.says(What::Pinned { pin });
    teller.says(What::Frozen { freeze: Freeze { reason: "launch".to_owned(), by, since, until: None } });
    let deeds: Vec<String> = teller.story().deeds.into_iter().map(|deed| deed.text).collect();
    assert_eq!(deeds, ["pinned web to 1.0 until 2026-03-01T12:00:00.000Z: demo", "froze for ever: launch"]);
}

#[test]
fn spark_lines_show_steps_and_the_worst() {
    let story = both().story();
    let spark = |attempt: &AttemptLine, gate: usize, width| sparkline(&attempt.gates[gate], width);
    let [first, second] = story.attempts.as_slice() else { panic!("two attempts") };
    assert_eq!(spark(first, 1, 80), "●●●|●●●|●●●●●●");
    assert_eq!(spark(second, 1, 80), "●○●");
    assert_eq!(spark(second, 2, 80), "··✕");
    assert_eq!(spark(second, 2, 1), "✕");
    assert_eq!(spark(second, 0, 80), "");
}

#[test]
fn tables_as_a_person_sees_them() {
    let stories = [both().story()];
    insta::assert_snapshot!("table-plain", table(&stories, Width::Plain));
    insta::assert_snapshot!("table-100-columns", table(&stories, Width::Columns(100)));
    insta::assert_snapshot!("summary", summary_markdown(&stories));
}

#[test]
fn pictures_as_a_person_sees_them() {
    let story = both().story();
    insta::assert_snapshot!("gates-of-a-rollback.svg", svg::gates(&story.attempts[1]));
}

#[test]
fn hostile_words_stay_words() {
    let hostile = "<script>alert(1)</script>|`@everyone`\n::error::x\u{1b}[31m & \"quoted\" ]]>\u{0}";
    let mut teller = Teller::new();
    teller.says(What::Started { plan: plan('1', "1.0.0", "1.1.0") });
    teller.after(1).reads(1, "front", Saw::Bad(hostile.to_owned()));
    let cause = Cause::Gate { gate: name("front"), why: hostile.to_owned() };
    teller.says(What::Refused { attempt: AttemptId(1), cause, paused_until: None });
    let story = teller.story();
    let pages = [
        svg::gates(&story.attempts[0]),
        summary_markdown(std::slice::from_ref(&story)),
        table(&[story], Width::Columns(200)),
    ];
    for page in &pages {
        assert!(!page.contains("<script") && !page.contains('\u{1b}') && !page.contains('\u{0}'), "{page}");
    }
    assert!(!pages[1].contains("@everyone") && !pages[1].contains("\n::error"), "{}", pages[1]);
}

#[test]
fn a_long_story_still_fits_a_summary() {
    let mut teller = Teller::new();
    for n in 0..4_000 {
        goes_badly(&mut teller, n + 1);
    }
    let page = summary_markdown(&[teller.story()]);
    assert!(page.len() <= SUMMARY_BYTES_MAX && page.len() > SUMMARY_BYTES_MAX / 2, "{}", page.len());
    assert!(page.ends_with("have it._\n"));
}
