//! The laws of the engine, each held against every line of every story.

use super::{
    stories::ALL,
    story::{Tale, actor, release},
};
use crate::{
    engine::{Holder, Setup, State, next},
    model::{Lease, Plan, Quarantined, Span, Stamp, Step, Urgency, Version, What},
};

/// Calls `at` after every line of every story.
fn everywhere(at: impl Fn(&str, &Tale)) {
    for (name, change, story) in ALL {
        let mut tale = Tale::with_one_live(change);
        at(name, &tale);
        for line in story.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '>', '?'])) {
            tale.line(line);
            at(&format!("{name}, after `{line}`"), &tale);
        }
    }
}

/// What a promotion has reached, which nothing but the world's answers and the engine's decisions may change.
fn reached(state: &State) -> String {
    format!("{:?} {:?} {:?} {:?}", state.attempt, state.rollback, state.watches, state.stuck)
}

#[test]
fn one_effect_gives_one_event_and_is_then_no_longer_wished_for() {
    everywhere(|place, tale| {
        for kind in [true, false] {
            for effect in tale.next().effects {
                let mut after = tale.clone();
                after.write(vec![tale.answer(&effect, kind)]);
                assert!(!after.next().effects.contains(&effect), "{place}: {effect:?} again after its answer");
            }
        }
    });
}

#[test]
fn every_effect_may_be_done_twice() {
    for (name, change, _) in ALL {
        let mut once = Tale::with_one_live(change);
        once.play("start 2\napprove bob");
        let mut twice = once.clone();
        for _ in 0..500 {
            let before = twice.written.len();
            let more = twice.one_step(true);
            let last: Vec<What> = twice.written[before..].iter().map(|e| e.what.clone()).collect();
            twice.write(last);
            if !more {
                break;
            }
        }
        twice.carry_on(|tale| !tale.state.is_busy());
        once.carry_on(|tale| !tale.state.is_busy());
        assert_eq!(twice.ended(), once.ended(), "{name}");
        assert_eq!(twice.live(), once.live(), "{name}");
    }
    everywhere(|place, tale| {
        for effect in tale.next().effects.iter().filter(|effect| effect.acts()) {
            let answer = tale.answer(effect, true);
            let (mut once, mut twice) = (tale.clone(), tale.clone());
            once.write(vec![answer.clone()]);
            twice.write(vec![answer.clone(), answer]);
            assert_eq!(once.state, twice.state, "{place}: the same answer twice");
        }
    });
}

#[test]
fn append_before_believing() {
    everywhere(|place, tale| {
        let said = tale.next();
        for _ in 0..3 {
            assert_eq!(tale.next(), said, "{place}: asking is not believing");
        }
        // The same events in another working copy give the same state: nothing is known but what is written.
        let kept = serde_json::to_value(&tale.state).expect("a state is data");
        let read: State = serde_json::from_value(kept).expect("a state reads back");
        assert_eq!(read, tale.state, "{place}: a snapshot loses nothing");
    });
}

#[test]
fn a_decision_that_lost_the_race_does_no_harm() {
    everywhere(|place, tale| {
        let late = tale.next().decisions;
        let mut ordered = tale.clone();
        ordered.play("order");
        let won = ordered.clone();
        ordered.write(late.into_iter().filter(|what| !begins_or_ends_the_way_back(what)).collect());
        assert_eq!(reached(&won.state), reached(&ordered.state), "{place}: an order was overtaken by what it raced");
    });
}

/// Those carry the same number as the order, and whoever writes them has the lease.
fn begins_or_ends_the_way_back(what: &What) -> bool {
    matches!(what, What::Stuck { .. } | What::RollbackWidened { .. })
}

#[test]
fn a_failing_notification_changes_nothing_but_the_notices() {
    everywhere(|place, tale| {
        let silent = next(&tale.state, tale.now, Setup::default());
        let mut telling = next(&tale.state, tale.now, Setup { tells: true, ..Setup::default() });
        telling.effects.retain(|effect| silent.effects.contains(effect));
        assert_eq!(silent, telling, "{place}: a notice reorders or delays");
        let mut failed = tale.clone();
        failed.play("tell fails");
        assert_eq!(reached(&tale.state), reached(&failed.state), "{place}: a failed notice changes something");
        assert_eq!(failed.next(), silent, "{place}: a failed notice changes what comes next");
    });
}

#[test]
fn there_are_three_endings_and_every_story_has_one() {
    let mut seen = std::collections::BTreeSet::new();
    for (name, change, story) in ALL {
        let mut tale = Tale::with_one_live(change);
        let before = tale.state.last.clone();
        tale.play(story);
        assert_ne!(before, tale.state.last, "{name} has no ending");
        assert!(!tale.state.is_busy() || tale.ended() == "promoted", "{name} goes on after its end");
        seen.insert(tale.ended());
    }
    let mut tale = Tale::with_one_live(|_| {});
    tale.play("start 2\nto step 3\nabort\ndecide\nretreat fails\nwait 5m\ndecide\n= stuck");
    assert!(tale.state.outbox.iter().any(|notice| notice.urgency == Urgency::Alarm), "a person is called");
    assert!(["promoted", "rolled back"].iter().all(|ending| seen.contains(*ending)));
}

/// What may stand in the way of everything else, but not of the way back.
const OBSTACLES: [&str; 5] = ["", "freeze 10h", "lease mallory", "foreign", "tell fails"];

#[test]
fn rollback_is_reachable_from_every_state_and_keeps_the_bad_release_out_in_the_same_commit() {
    everywhere(|place, tale| {
        for obstacle in OBSTACLES {
            let mut tale = tale.clone();
            match obstacle {
                "" => {}
                "foreign" => tale.foreign(),
                line => tale.line(line),
            }
            let Some(to) = tale.state.way_back().map(|good| good.release.clone()) else { continue };
            let standing = tale.state.standing().cloned();
            let started = tale.now;
            tale.play("order");
            let left = standing.filter(|left| left.tree != to.tree);
            assert!(left.is_none_or(|left| keeps_out(&tale.state, &left.versions)), "{place}: nothing is kept out");
            let said = tale.says();
            assert!(said.starts_with("retreat from"), "{place}, {obstacle}: the way back begins with {said:?}");
            tale.play("retreated\nsettled\ndecide");
            assert_eq!(tale.now, started, "{place}, {obstacle}: the way back waited for something");
            assert_eq!(tale.ended(), "rolled back", "{place}, {obstacle}");
            assert_eq!(tale.state.live.as_ref().map(|live| &live.tree), Some(&to.tree), "{place}, {obstacle}");
            assert!(tale.state.stuck.is_none() && tale.state.foreign.is_none(), "{place}, {obstacle}");
        }
    });
}

fn keeps_out(state: &State, versions: &std::collections::BTreeMap<crate::model::ComponentName, Version>) -> bool {
    versions.iter().all(|(name, out)| {
        let kept = |what: &Quarantined| matches!(what, Quarantined::Version { component, version } if component == name && version == out);
        state.quarantines.iter().any(|q| kept(&q.what))
    })
}

#[test]
fn an_automatic_rollback_writes_its_quarantine_with_its_beginning() {
    everywhere(|place, tale| {
        for what in tale.next().decisions {
            if let What::RollbackBegan { cause, quarantine, .. } = &what {
                assert_eq!(cause.blames_the_change(), !quarantine.is_empty(), "{place}: {what:?}");
            }
        }
    });
}

#[test]
fn the_way_back_may_take_the_lease_from_anyone_and_nothing_else_may() {
    let mut tale = Tale::with_one_live(|_| {});
    tale.play("start 2\nto step 3\nlease mallory");
    let me = Holder { actor: actor("ada"), nonce: "ada".to_owned() };
    assert!(tale.state.claim(&me, tale.now, false).is_err(), "the lease is taken");
    let Ok(Some(What::Leased { lease })) = tale.state.claim(&me, tale.now, true) else { panic!("it cannot be seized") };
    assert!(lease.fence > tale.state.fence, "who lost it is fenced off");
    let after = Stamp(tale.now.0 + Lease::LENGTH.0 as i64);
    assert!(tale.state.claim(&me, after, false).is_ok(), "a lease ends by itself");
}

#[test]
fn no_two_holders_share_a_number() {
    let mut tale = Tale::with_one_live(|_| {});
    tale.play("start 2\nto step 3\nlease mallory");
    let first = tale.state.fence;
    let until = tale.now + Lease::LENGTH;
    let ask = |who: &str, fence: u64| {
        let (holder, nonce) = (actor(who), who.to_owned());
        What::Leased { lease: Lease { holder, nonce, fence, until } }
    };
    let held = |state: &State| state.lease.as_ref().map(|lease| (lease.nonce.clone(), lease.fence));
    // Both had seen the same page; a renewal changes nothing, and one that comes late is that of a new holder.
    let asked = [ask("ada", first + 1), ask("eve", first + 1), ask("eve", first + 1), ask("ada", first + 1)];
    let expected = [("ada", first + 1), ("eve", first + 2), ("eve", first + 2), ("ada", first + 3)];
    for (what, (who, fence)) in asked.into_iter().zip(expected) {
        tale.write(vec![what]);
        assert_eq!((held(&tale.state), tale.state.fence), (Some((who.to_owned(), fence)), fence));
    }
    tale.write(vec![What::Released { nonce: "ada".to_owned() }]);
    tale.write(vec![ask("eve", first)]);
    assert_eq!(tale.state.fence, first + 4, "nobody holds it, and its number is still taken");
}

#[test]
fn no_step_is_free() {
    everywhere(|place, tale| {
        let before = reached(&tale.state);
        let mut other = tale.clone();
        other.play("lease mallory\nrelease mallory\nlease eve");
        let kept = serde_json::to_string(&other.state).expect("a state is data");
        let restarted: State = serde_json::from_str(&kept).expect("a state reads back");
        assert_eq!(reached(&restarted), before, "{place}: a restart or a second runner changes what was reached");
        // A second promotion cannot take the place of the one under way.
        if tale.state.is_busy() || tale.state.stuck.is_some() {
            other.play("start 9");
            assert_eq!(reached(&other.state), before, "{place}: a second promotion starts");
        }
    });
}

#[test]
fn a_clock_that_goes_back_advances_nothing() {
    everywhere(|place, tale| {
        for back in [Span::seconds(1), Span::minutes(5), Span::hours(30)] {
            let mut earlier = tale.clone();
            earlier.now = Stamp(tale.now.0 - back.0 as i64);
            let now = tale.next().decisions;
            let advance = |what: &What| matches!(what, What::StepPassed { .. } | What::WatchEnded { .. });
            let said = next(&earlier.state, earlier.now, Setup::default()).decisions;
            for what in said.iter().filter(|what| advance(what)) {
                assert!(now.contains(what), "{place}: {what:?} only because the clock went back by {back}");
            }
        }
    });
}

#[test]
fn a_bake_takes_its_time_whatever_the_clock_does() {
    for back in ["10s", "5m", "3h"] {
        let mut tale = Tale::with_one_live(|_| {});
        tale.play("start 2\nto step 6\nlook front good\nwait 4m");
        let began = tale.state.attempt.as_ref().map(|a| a.step_since).expect("a bake is under way");
        tale.play("look front good").line(&format!("clock back {back}"));
        tale.carry_on(|tale| !tale.state.is_busy());
        let bake = tale.written.iter().find(|e| matches!(e.what, What::StepPassed { step: 5, .. }));
        let over = bake.map(|event| event.at).expect("the bake passed");
        assert!(over >= began + Span::minutes(10), "the bake was over {} after it began", over.since(began));
    }
}

#[test]
fn unknown_is_neither_pass_nor_fail() {
    everywhere(|place, tale| {
        let Some(attempt) = tale.state.attempt.clone().filter(|a| a.promoted.is_none()) else { return };
        let gates = attempt.current().map(Step::gates).unwrap_or_default();
        let unlooked = |gate: &&crate::model::GateName| {
            let looks = attempt.plan.gates.get(*gate).is_some_and(|spec| !spec.rule.needs_no_look());
            looks && attempt.gates.get(*gate).is_none_or(|log| log.good_run == 0)
        };
        if gates.iter().any(|gate| unlooked(&gate)) {
            let passed = tale.next().decisions.iter().any(|what| matches!(what, What::StepPassed { .. }));
            assert!(!passed, "{place}: a step passed a gate that saw nothing good");
        }
        // The same place, but every gate is blind: nothing is decided before the patience is over.
        let mut blind = tale.clone();
        let began = attempt.gates.values().any(|log| log.bad_since.is_some() || log.blind_since.is_some());
        if began || attempt.aborted.is_some() || gates.is_empty() || attempt.tries.failed > 0 {
            return;
        }
        if matches!(attempt.current(), Some(Step::Shift { .. })) && attempt.acted.is_none() {
            return;
        }
        gates.iter().for_each(|gate| blind.line(&format!("look {gate} blind")));
        if blind.next().decisions.is_empty() {
            blind.now = blind.now + Span::minutes(1);
            let said = blind.next().decisions;
            let late = blind
                .state
                .attempt
                .as_ref()
                .and_then(|a| a.touched)
                .is_some_and(|t| blind.now >= t + attempt.plan.limits.deadline);
            assert!(said.is_empty() || late, "{place}: blindness decides {said:?}");
        }
    });
}

#[test]
fn every_wait_says_on_what_since_when_until_when_and_who_can_change_it() {
    // `Tale::next` holds every answer to it; here every state that waits is asked.
    let waited = std::cell::Cell::new(0);
    everywhere(|_, tale| waited.set(waited.get() + tale.next().waits.len()));
    assert!(waited.get() > 40, "the stories wait only {} times", waited.get());
}

#[test]
fn a_promotion_is_believed_only_when_every_step_passed() {
    everywhere(|place, tale| {
        let mut forged = tale.clone();
        let attempt = forged.under_way();
        let passed = tale.state.attempt.as_ref().is_some_and(|a| a.current().is_none());
        forged.write(vec![What::Promoted { attempt }]);
        assert!(passed || forged.good() == tale.good(), "{place}: promoted without having passed");
    });
    let plan: Plan = Tale::new(|_| {}).plan(1);
    assert_eq!(plan.release, release(1));
}
