//! Stories of what stands: drift and the way back.

use serde_json::json;

use super::{stories::as_it_is, story::Tale};
use crate::model::{Difference, Effect, Guard, Span, Urgency, What};

fn guarded() -> Tale {
    let mut tale = Tale::with_one_live(as_it_is);
    tale.guard = Guard { drift: Some(Span::minutes(1)), way_back: None, blind_holds: false };
    tale
}

fn with_way_back() -> Tale {
    let mut tale = Tale::with_one_live(as_it_is);
    tale.guard = Guard { drift: None, way_back: Some(Span::hours(24)), blind_holds: true };
    tale
}

fn edited(live: u64) -> Difference {
    Difference {
        object: "Deployment hub/web".to_owned(),
        field: "spec.replicas".to_owned(),
        wanted: Some(json!(3)),
        live: Some(json!(live)),
        by: Some("kubectl-edit".to_owned()),
        at: None,
        source: None,
    }
}

fn notices(tale: &Tale) -> Vec<(Urgency, String)> {
    tale.state.outbox.iter().map(|notice| (notice.urgency, notice.text.clone())).collect()
}

#[test]
fn what_went_live_is_looked_at_within_two_minutes_and_then_regularly() {
    let mut tale = guarded();
    tale.play("start 2\n carry on\n = promoted");
    let promoted = tale.state.last.as_ref().expect("it ended").at;
    // The watch looks with its gates meanwhile.
    let mut looks = Vec::new();
    while looks.len() < 4 {
        let next = tale.next();
        if let Some(effect) = next.effects.first() {
            if matches!(effect, Effect::LookForDrift { .. }) {
                looks.push(tale.now.since(promoted));
            }
            tale.write(vec![tale.answer(effect, true)]);
        } else {
            tale.now = next.wake.expect("it goes on");
        }
    }
    assert!(looks[0] <= Span::minutes(2), "{looks:?}");
    let pauses: Vec<Span> = looks.windows(2).map(|pair| Span(pair[1].0 - pair[0].0)).collect();
    assert!(pauses.iter().all(|pause| *pause == Span::minutes(1)), "{looks:?}");
}

#[test]
fn drift_is_told_once_and_holds_the_next_deploy_until_it_is_gone() {
    let mut tale = guarded();
    tale.found = vec![edited(5)];
    tale.play("> look for drift from 1\n answer\n > nothing");
    let told = notices(&tale).pop().expect("a notice");
    assert_eq!(told.0, Urgency::Warning);
    assert!(told.1.contains("Deployment hub/web spec.replicas is 5 and should be 3 (kubectl-edit)"), "{told:?}");
    let since = tale.state.drift.as_ref().expect("drift").since;

    tale.play("wait 1m\n > look for drift from 1\n answer");
    assert!(matches!(tale.written.last().expect("an event").what, What::LookedForDrift { .. }), "no news");
    assert_eq!(tale.state.drift.as_ref().expect("drift").since, since);

    tale.play("wait 1s\n start 2\n > look pre, look for drift from 1\n answer\n > nothing");
    tale.play("? the drift to end: Deployment hub/web spec.replicas is 5 and should be 3\n ? piton drift production");
    assert!(tale.next().held);
    tale.found.clear();
    tale.play("wait 15s\n > look pre, look for drift from 1\n answer\n > step 1 passed\n carry on\n = promoted");
    assert!(tale.written.iter().any(|e| matches!(e.what, What::DriftEnded { .. })));
}

#[test]
fn a_preflight_does_not_pass_on_an_old_look() {
    let mut tale = guarded();
    tale.play("answer\n wait 50s\n start 2\n look pre good\n > look for drift from 1\n answer\n > step 1 passed");
}

#[test]
fn what_cannot_be_seen_is_no_drift_and_holds_only_so_long() {
    let mut tale = guarded();
    tale.play("nobody answers\n > nothing\n wait 30s\n > look for drift from 1\n answer");
    assert_eq!(tale.state.drift, None);
    tale.play("wait 1s\n start 2\n look pre good\n nobody answers\n ? a look at whether live is as deployed: it broke");
    for _ in 0..200 {
        if tale.state.attempt.is_none() {
            break;
        }
        tale.play("look pre good\n nobody answers\n decide\n wait 14s");
    }
    tale.play("= refused\n live 1");
    assert!(tale.state.quarantines.is_empty(), "nobody is blamed");
}

#[test]
fn the_way_back_is_never_held_by_drift() {
    let mut tale = guarded();
    tale.play("start 2\n carry on\n watch on\n wait 2m");
    tale.found = vec![edited(5)];
    tale.play("answer\n order 1\n > retreat from 2 to 1\n carry on\n = rolled back\n live 1");
    assert_eq!(tale.state.drift, None, "what was deployed again is looked at afresh");
}

#[test]
fn drift_can_be_accepted_adopted_and_dropped() {
    let mut tale = guarded();
    tale.found = vec![edited(5)];
    tale.play("answer\n accept 10m\n wait 1m\n answer\n");
    assert_eq!(tale.state.drift, None);
    // Something else is drift all the same.
    tale.found.push(edited(6));
    tale.play("wait 1m\n answer");
    assert_eq!(tale.state.drift.as_ref().expect("drift").count, 1);
    tale.found.pop();
    tale.play("wait 9m\n answer");
    assert_eq!(tale.state.drift.as_ref().map(|drift| drift.count), Some(1), "it was left alone only so long");

    tale.play(
        "adopt\n start 2\n look pre good\n answer\n > step 1 passed\n carry on\n = promoted\n watch on\n wait 2m",
    );
    tale.play("answer");
    assert!(tale.state.drift.is_some(), "adopted until the next release is live, not for ever");

    tale.play("drop\n > retreat from 2 to 2");
    tale.found.clear();
    tale.play("carry on\n = rolled back\n live 2\n wait 1m\n answer");
    assert_eq!((tale.state.drift.as_ref(), tale.state.quarantines.len()), (None, 0));
    assert_eq!(tale.good(), "2");
}

#[test]
fn values_that_keep_changing_do_not_fill_the_ledger() {
    let mut tale = guarded();
    for n in 0..30 {
        tale.found = vec![edited(n)];
        tale.play("answer\n wait 1m");
    }
    let written = tale.written.iter().filter(|e| matches!(e.what, What::Drifted { .. })).count();
    assert!((2..=3).contains(&written), "{written} times");
    tale.found = (0..100).map(|n| Difference { field: format!("a.b{n}"), ..edited(n) }).collect();
    tale.play("answer");
    let drift = tale.state.drift.as_ref().expect("drift");
    assert_eq!((drift.count, drift.differences.len()), (100, 20));
    assert!(drift.sentence().ends_with("and 99 more differences"), "{}", drift.sentence());
}

#[test]
fn a_release_that_could_not_be_deployed_again_does_not_become_the_only_way_back() {
    let mut tale = with_way_back();
    tale.obstacles = vec!["image `hub:1` is not there".to_owned()];
    tale.play("start 2\n > look pre, rehearse 1\n answer\n > nothing\n ? a way back to release");
    tale.play("? image `hub:1` is not there\n ? piton promote production --without-way-back");
    assert!(tale.next().held);
    assert_eq!(notices(&tale).last().expect("a notice").0, Urgency::Alarm);
    tale.obstacles.clear();
    tale.play("wait 15s\n answer\n > step 1 passed\n decide\n carry on\n = promoted\n live 2");

    tale.play("watch on\n start 3\n to step 6");
    tale.obstacles = vec!["image `hub:3` is not there".to_owned()];
    tale.play("answer");
    assert!(!tale.next().held, "the bake goes on meanwhile");
    for _ in 0..60 {
        tale.play("wait 20s\n answer\n decide");
    }
    assert!(tale.state.attempt.is_some() && tale.next().held, "held at the end: {:?}", tale.next().waits);
    tale.play("waive\n > promoted\n decide\n carry on\n = promoted\n live 3");
}

#[test]
fn a_way_back_that_cannot_be_seen_holds_only_those_who_asked_for_proof() {
    let mut tale = with_way_back();
    tale.play(
        "start 2\n look pre good\n nobody answers\n > nothing\n ? a look at whether there is a way back: it broke",
    );
    tale.guard.blind_holds = false;
    tale.play("> step 1 passed");
}

#[test]
fn the_last_known_good_is_rehearsed_every_day() {
    let mut tale = with_way_back();
    tale.play("> rehearse 1\n answer\n > nothing\n wait 23h\n > nothing\n wait 1h\n > rehearse 1");
    tale.obstacles = vec!["gone".to_owned()];
    tale.play("answer\n wait 10m\n > rehearse 1\n answer");
    let alarms = notices(&tale).iter().filter(|(urgency, _)| *urgency == Urgency::Alarm).count();
    assert_eq!(alarms, 1, "the same is told once");
    tale.obstacles.clear();
    tale.play("wait 10m\n answer");
    assert!(notices(&tale).last().expect("a notice").1.contains("could be deployed again"));
}

/// All by the engine's own clock: nobody asks for anything until the next promotion.
#[test]
fn a_way_back_that_goes_while_all_is_quiet_is_told_and_holds_the_next_promotion() {
    let mut tale = with_way_back();
    tale.play("start 2\n carry on\n = promoted\n live 2\n watch on");
    let quiet_until_rehearsed = |tale: &mut Tale| {
        let began = tale.now;
        loop {
            let next = tale.next();
            match next.effects.first() {
                Some(effect @ Effect::Rehearse { release }) => {
                    assert_eq!(Some(&release.tree), tale.state.live.as_ref().map(|live| &live.tree));
                    tale.write(vec![tale.answer(effect, true)]);
                    return tale.now.since(began);
                }
                Some(effect) => tale.write(vec![tale.answer(effect, true)]),
                None => tale.now = next.wake.expect("the next look is never forgotten"),
            }
        }
    };
    quiet_until_rehearsed(&mut tale);
    let told = notices(&tale).len();
    assert_eq!(quiet_until_rehearsed(&mut tale), Span::hours(24));
    assert_eq!(notices(&tale).len(), told, "all is well");
    tale.obstacles = vec!["image `hub:2` is not there".to_owned()];
    assert_eq!(quiet_until_rehearsed(&mut tale), Span::hours(24));
    let (urgency, text) = notices(&tale).pop().expect("a notice");
    assert_eq!(urgency, Urgency::Alarm);
    assert!(text.ends_with("could not be deployed again: image `hub:2` is not there"), "{text}");

    tale.play("wait 1s\n start 3\n look pre good\n > rehearse 2\n answer\n > nothing\n ? image `hub:2` is not there");
    assert!(tale.next().held, "nothing is touched while release 2 is the only way back");
    assert_eq!(tale.live(), "2");
    tale.obstacles.clear();
    tale.play("wait 15s\n answer\n > step 1 passed\n carry on\n = promoted\n live 3");
}

#[test]
fn a_way_back_that_cannot_be_seen_is_told_once_until_it_can_be_seen_again() {
    let mut tale = with_way_back();
    tale.guard.blind_holds = false;
    let told = |tale: &Tale| {
        let blind = |(urgency, text): &(Urgency, String)| {
            *urgency == Urgency::Warning && text.contains("could be deployed again cannot be seen: it broke")
        };
        notices(tale).iter().filter(|notice| blind(notice)).count()
    };
    tale.play("nobody answers");
    assert_eq!(told(&tale), 1);
    tale.play("wait 10m\n > rehearse 1\n nobody answers");
    assert_eq!(told(&tale), 1, "the same is told once");
    // It holds nobody up, and the next release is no news either.
    tale.play("wait 1s\n start 2\n look pre good\n > rehearse 1\n nobody answers\n > step 1 passed");
    let tree = tale.state.attempt.as_ref().expect("a promotion").plan.release.tree.clone();
    let rehearsal = crate::model::Rehearsal { blind: Some("it broke".to_owned()), ..Default::default() };
    tale.play("wait 1s").write(vec![What::Rehearsed { tree, rehearsal }]);
    assert_eq!(told(&tale), 1);
    tale.play("carry on\n = promoted\n live 2\n watch on");
    let seen_again = |tale: &Tale| notices(tale).iter().filter(|(_, text)| text.ends_with("can be seen again")).count();
    assert_eq!(seen_again(&tale), 1);
    tale.play("wait 24h\n > rehearse 2\n nobody answers");
    assert_eq!(told(&tale), 2, "another time is news");
}

#[test]
fn a_tag_that_was_moved_is_noticed() {
    let mut tale = with_way_back();
    let tree = tale.state.live.as_ref().expect("a release").tree.clone();
    let rehearsed = |digest: &str| {
        let digests = [("hub:1".to_owned(), digest.to_owned())].into();
        let rehearsal = crate::model::Rehearsal { digests, ..Default::default() };
        vec![What::Rehearsed { tree: tree.clone(), rehearsal }]
    };
    tale.write(rehearsed("sha256:a"));
    assert!(tale.state.obstacles(&tree).is_empty());
    tale.write(rehearsed("sha256:b"));
    assert_eq!(tale.state.obstacles(&tree), ["`hub:1` led to sha256:a when it was deployed, and leads to sha256:b"]);
    tale.write(rehearsed("sha256:a"));
    assert!(tale.state.obstacles(&tree).is_empty(), "it was moved back");
}
