use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::model::{GateName, WindowRule};

fn spec(rule: Rule) -> GateSpec {
    GateSpec {
        kind: "http".to_owned(),
        with: Value::Null,
        rule,
        every: Span::seconds(10),
        timeout: Span::seconds(5),
        on_fail: OnFail::Rollback,
    }
}

fn reading(at: i64, saw: Saw) -> Reading {
    Reading { gate: GateName::new("g").expect("a name"), at: Stamp(at), took: Span(1), saw }
}

fn nobody<'a>() -> Circumstances<'a> {
    static NONE: BTreeSet<Actor> = BTreeSet::new();
    Circumstances { approvals: &NONE, author: None, freeze: None }
}

fn judged(spec: &GateSpec, readings: &[(i64, Saw)], now: i64) -> String {
    let mut log = GateLog::default();
    for (at, saw) in readings {
        log.take(spec, &reading(*at, saw.clone()));
    }
    verdict(spec, &log, nobody(), Stamp(now)).name().to_owned()
}

fn good() -> Saw {
    Saw::Good("200".to_owned())
}

fn bad() -> Saw {
    Saw::Bad("503".to_owned())
}

fn blind() -> Saw {
    Saw::Blind("no answer from the source".to_owned())
}

#[test]
fn expectations() {
    let one = spec(Rule::Expect { passes: 1, tolerate: 0 });
    let two = spec(Rule::Expect { passes: 2, tolerate: 1 });
    let table: [(&GateSpec, &[(i64, Saw)], i64, &str); 10] = [
        (&one, &[], 0, "undecided"),
        (&one, &[(0, good())], 1, "pass"),
        (&one, &[(0, bad())], 1, "fail"),
        (&one, &[(0, good()), (1, blind())], 2, "blind"),
        (&one, &[(0, bad()), (1, good())], 2, "fail"),
        (&one, &[(0, good())], 25_002, "undecided"),
        (&two, &[(0, good())], 1, "undecided"),
        (&two, &[(0, bad()), (1, good()), (2, good())], 3, "pass"),
        (&two, &[(0, bad()), (1, good()), (2, bad())], 3, "fail"),
        (&two, &[(0, good()), (1, blind()), (2, good())], 3, "undecided"),
    ];
    for (spec, readings, now, expected) in table {
        assert_eq!(judged(spec, readings, now), expected, "{readings:?}");
    }
}

#[test]
fn a_gate_that_asks_forgives_what_was_mended() {
    let mut asks = spec(Rule::Expect { passes: 2, tolerate: 0 });
    asks.on_fail = OnFail::Ask;
    assert_eq!(judged(&asks, &[(0, bad())], 1), "fail");
    assert_eq!(judged(&asks, &[(0, bad()), (1, good()), (2, good())], 3), "pass");
}

#[test]
fn a_bad_sign_lasts_until_enough_good_looks() {
    let two = spec(Rule::Expect { passes: 2, tolerate: 3 });
    let mut log = GateLog::default();
    for (at, saw, bad_since) in [
        (5, bad(), Some(Stamp(5))),
        (6, good(), Some(Stamp(5))),
        (7, bad(), Some(Stamp(5))),
        (8, good(), Some(Stamp(5))),
    ] {
        log.take(&two, &reading(at, saw));
        assert_eq!(log.bad_since, bad_since);
    }
    log.take(&two, &reading(9, good()));
    assert_eq!(log.bad_since, None);
}

fn counts(ok: u64, failed: u64) -> Saw {
    let arm = ArmCounts { ok, failed, latency: vec![0, 0, ok, failed], ..ArmCounts::default() };
    Saw::Counts(Counts { arms: BTreeMap::from([(Arm::Candidate, arm)]) })
}

#[test]
fn error_shares_count_from_the_first_look_and_need_enough_requests() {
    let rule = spec(Rule::ErrorShare { arm: Arm::Candidate, max: 0.02, requests_min: 50 });
    let table: [(&[(i64, Saw)], &str); 7] = [
        (&[(0, counts(900, 100))], "undecided"),
        (&[(0, counts(900, 100)), (1, counts(920, 110))], "undecided"),
        (&[(0, counts(900, 100)), (1, counts(999, 101))], "pass"),
        (&[(0, counts(900, 100)), (1, counts(940, 110))], "fail"),
        // A counter that went back was reset: all of it is new.
        (&[(0, counts(900, 100)), (1, counts(60, 0))], "pass"),
        (&[(0, counts(0, 0)), (1, blind())], "blind"),
        (&[(0, counts(0, 0)), (1, counts(0, 0))], "undecided"),
    ];
    for (readings, expected) in table {
        assert_eq!(judged(&rule, readings, 2), expected, "{readings:?}");
    }
}

#[test]
fn latency_uses_the_bucket_of_the_quantile() {
    let rule = |max_ms| spec(Rule::Latency { arm: Arm::Candidate, quantile: 0.99, max_ms, requests_min: 10 });
    // 90 requests at most 5 ms, 10 at most 10 ms: p99 is 10 ms.
    let seen = [(0, counts(0, 0)), (1, counts(90, 10))];
    assert_eq!(judged(&rule(10), &seen, 2), "pass");
    assert_eq!(judged(&rule(9), &seen, 2), "fail");
}

#[test]
fn the_author_does_not_approve_their_own_change() {
    let [ann, ben] = ["ann", "ben"].map(|n| Actor::new(n).expect("a name"));
    let approvals = BTreeSet::from([ann.clone()]);
    let circumstances = Circumstances { approvals: &approvals, author: Some(&ann), freeze: None };
    let rule = spec(Rule::Approval { people: 1, not_author: true });
    assert_eq!(verdict(&rule, &GateLog::default(), circumstances, Stamp(0)).name(), "undecided");
    let approvals = BTreeSet::from([ann.clone(), ben]);
    let circumstances = Circumstances { approvals: &approvals, ..circumstances };
    assert_eq!(verdict(&rule, &GateLog::default(), circumstances, Stamp(0)).name(), "pass");
}

#[test]
fn windows_open_in_their_own_zone_also_across_summer_time() {
    let window =
        WindowRule { zone: "Europe/Zurich".to_owned(), days: vec![1, 2, 3, 4, 5], from_minute: 540, until_minute: 960 };
    let at = |text: &str| text.parse::<Stamp>().expect("a time");
    for (now, expected) in [
        ("2026-11-20T08:30:00Z", "pass"),      // Friday, 09:30 in winter
        ("2026-11-20T15:00:00Z", "undecided"), // Friday, 16:00: the end does not belong to it
        ("2026-11-21T10:00:00Z", "undecided"), // Saturday
        ("2026-07-01T07:00:00Z", "pass"),      // Wednesday, 09:00 in summer
    ] {
        let spec = spec(Rule::Window(window.clone()));
        assert_eq!(verdict(&spec, &GateLog::default(), nobody(), at(now)).name(), expected, "{now}");
    }
    assert_eq!(next_opening(&window, at("2026-03-27T16:00:00Z")), Some(at("2026-03-30T07:00:00Z")));
    assert!(validate_window(&WindowRule { zone: "Mars/Base".to_owned(), ..window.clone() }).is_err());
    assert!(validate_window(&WindowRule { days: vec![], ..window }).is_err());
}
