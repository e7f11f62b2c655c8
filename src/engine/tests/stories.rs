//! One story for each way that a promotion can go.

use super::story::{Tale, gate_name};
use crate::{
    engine::{Setup, next},
    model::{AttemptId, Cause, Effect, Ending, Plan, Span, Stamp, Step, What},
};

pub fn as_it_is(_: &mut Plan) {}

fn with_people(plan: &mut Plan) {
    plan.steps[0] = Step::Check { gates: vec![gate_name("pre"), gate_name("people")] };
}

fn with_mood(plan: &mut Plan) {
    plan.steps[5] = Step::Bake { time: Span::minutes(40), gates: vec![gate_name("front"), gate_name("mood")] };
}

/// Every story, for the laws that hold at every line of all of them.
pub const ALL: [(&str, fn(&mut Plan), &str); 22] = [
    ("good", as_it_is, GOOD),
    ("bad before anything is touched", as_it_is, "start 2\nlook pre bad\ndecide\n= refused\nlive 1"),
    ("waits for people", with_people, WAITS_FOR_PEOPLE),
    ("frozen", as_it_is, FROZEN),
    (
        "apply fails once",
        as_it_is,
        "start 2\nto step 2\napply fails\n> nothing\nwait 5s\n> apply 2\ncarry on\n= promoted",
    ),
    ("apply fails", as_it_is, APPLY_FAILS),
    ("what the release itself breaks is not tried again", as_it_is, APPLY_IS_HOPELESS),
    ("shift fails", as_it_is, SHIFT_FAILS),
    ("the world fails a deploy", as_it_is, WORLD_FAILS_A_DEPLOY),
    ("the world fails a weight change, and people do not wait", as_it_is, WORLD_FAILS_A_SHIFT),
    ("the world fails a deploy until the deadline", |plan| plan.limits.deploy_tries = 100, WORLD_FAILS_FOR_TOO_LONG),
    ("bad at the canary share", as_it_is, BAD_AT_CANARY),
    ("bad in the bake", as_it_is, BAD_IN_BAKE),
    ("asked, and recovered", with_mood, ASKED_AND_RECOVERED),
    ("asked for too long", with_mood, ASKED_FOR_TOO_LONG),
    ("blind for too long", as_it_is, BLIND_FOR_TOO_LONG),
    ("too slow", |plan| plan.limits.deadline = Span::minutes(5), TOO_SLOW),
    (
        "aborted",
        as_it_is,
        "start 2\nto step 3\nabort\n> back to 1: ordered: a reason\ndecide\ncarry on\n= rolled back\nlive 1",
    ),
    ("bad in the watch", as_it_is, BAD_IN_WATCH),
    ("stuck", as_it_is, STUCK),
    ("settling fails", as_it_is, SETTLING_FAILS),
    ("ordered back", as_it_is, ORDERED_BACK),
];

const GOOD: &str = "
    start 2
    > look pre
    look pre good
    > step 1 passed
    decide
    > apply 2
    applied
    > shift 10% to 2
    shifted 10%
    > look front
    look front good
    > nothing
    ? the canary step to be over
    wait 10s
    look front good
    wait 10s
    look front good
    wait 30s
    > look front
    wait 10s
    look front good
    > step 3 passed
    decide
    > shift 100% to 2
    shifted 100%
    look front good
    decide
    > look work
    look work good
    ? 1 of 2 good looks
    wait 10s
    look work good
    > step 5 passed
    decide
    > look front
    carry on
    = promoted
    live 2
    > look front
    watch on
    > nothing";

const WAITS_FOR_PEOPLE: &str = "
    start 2
    look pre good
    > nothing
    ? `piton approve`
    # the author's own word does not count
    approve ada
    > nothing
    approve bob
    > step 1 passed
    carry on
    = promoted";

const FROZEN: &str = "
    freeze 10m
    start 2
    look pre good
    > nothing
    ? the freeze to end
    wait 10m
    > look pre
    look pre good
    > step 1 passed
    carry on
    = promoted";

const APPLY_IS_HOPELESS: &str = "
    start 2
    to step 2
    > apply 2
    apply is hopeless
    > back to 1: deploy failed: it broke
    decide
    > retreat from 2 to 1
    retreated
    settled
    decide
    = rolled back
    live 1";

const APPLY_FAILS: &str = "
    start 2
    to step 2
    apply fails
    ? the next try to deploy: it broke
    wait 5s
    apply fails
    > back to 1: deploy failed: it broke
    decide
    > retreat from 2 to 1
    retreated
    > settle on 1
    settled
    > rolled back
    decide
    = rolled back
    live 1";

const WORLD_FAILS_A_DEPLOY: &str = "
    start 2
    to step 2
    apply fails for the world
    ? the next try to deploy: it broke
    wait 5s
    apply fails for the world
    > back to 1: deploy failed, and not through the release: it broke, nobody blamed
    decide
    carry on
    = rolled back
    live 1
    paused 5m
    ? the next try after #2: deploy failed, and not through the release: it broke; `piton promote` tries at once
    wait 4m
    paused 1m
    wait 1m
    not paused
    start 2
    carry on
    = promoted
    live 2";

const WORLD_FAILS_A_SHIFT: &str = "
    start 2
    to step 4
    shift 100% fails for the world
    wait 5s
    shift 100% fails for the world
    > back to 1: moving users failed, and not through the release: it broke, nobody blamed
    decide
    carry on
    = rolled back
    paused 5m
    # a person does not wait
    start 2
    not paused
    carry on
    = promoted
    not paused";

const WORLD_FAILS_FOR_TOO_LONG: &str = "
    start 2
    to step 2
    wait 1h
    apply fails for the world
    wait 1h
    > back to 1: not done within its deadline of 2h, and not through the release, nobody blamed
    decide
    carry on
    = rolled back
    paused 5m";

const SHIFT_FAILS: &str = "
    start 2
    to step 3
    shift 10% fails
    wait 5s
    shift 10% fails
    > back to 1: moving users failed: it broke
    decide
    carry on
    = rolled back
    live 1";

const BAD_AT_CANARY: &str = "
    start 2
    to step 3
    shifted 10%
    look front good
    wait 10s
    look front bad
    > back to 1: gate `front` failed: 503
    decide
    > retreat from 2 to 1
    carry on
    = rolled back
    live 1";

const BAD_IN_BAKE: &str = "
    start 2
    to step 6
    look front good
    wait 9m
    look front bad
    decide
    carry on
    = rolled back
    live 1";

const ASKED_AND_RECOVERED: &str = "
    start 2
    to step 6
    look front good
    look mood bad
    > nothing
    ? gate `mood` to recover, or back
    wait 9m
    look front good
    look mood good
    > nothing
    carry on
    = promoted";

const ASKED_FOR_TOO_LONG: &str = "
    start 2
    to step 6
    look mood bad
    extend 20m
    wait 15m
    look front good
    look mood bad
    > nothing
    wait 5m
    > back to 1: gate `mood` has not recovered within 20m: 503
    decide
    carry on
    = rolled back";

const BLIND_FOR_TOO_LONG: &str = "
    start 2
    to step 6
    look front good
    wait 9m
    look front blind
    wait 10m
    > look front
    ? gate `front` to see again
    look front blind
    wait 20m
    > back to 1: gate `front` could not look for 30m: no route, nobody blamed
    decide
    carry on
    = rolled back
    live 1";

const TOO_SLOW: &str = "
    start 2
    to step 6
    wait 5m
    > back to 1: not done within its deadline of 5m
    decide
    carry on
    = rolled back";

const BAD_IN_WATCH: &str = "
    start 2
    carry on
    wait 1m
    start 3
    carry on
    live 3
    look front bad
    > back to 2: gate `front` failed: 503
    decide
    carry on
    = rolled back
    live 2
    # the earlier watch goes on, with fresh eyes
    > look front
    look front bad
    decide
    carry on
    live 1
    > nothing";

const STUCK: &str = "
    start 2
    to step 3
    shifted 10%
    look front bad
    decide
    retreat fails
    wait 5s
    retreat fails
    ? the next try to go back: it broke
    wait 5s
    retreat fails
    wait 5s
    retreat fails
    wait 5s
    retreat fails
    > stuck
    decide
    = stuck
    > nothing
    # nothing new starts in an unknown world
    start 3
    > nothing
    order
    > retreat from 2 to 1
    carry on
    = rolled back
    live 1";

const SETTLING_FAILS: &str = "
    start 2
    carry on
    watch on
    start 3
    to step 7
    decide
    > settle on 3
    settle fails
    wait 5s
    settle fails
    wait 5s
    settle fails
    wait 5s
    settle fails
    wait 5s
    settle fails
    = promoted
    live 3
    # the release is good; what is left is tried again, and said
    ? the next try: what #3 should have taken down is still there: it broke
    wait 5m
    > look front, settle on 3
    settle fails
    ? the next try: what #3 should have taken down is still there
    wait 15m
    settled
    watch on
    > nothing";

const ORDERED_BACK: &str = "
    start 2
    carry on
    order
    > retreat from 2 to 1
    retreated
    settle fails
    wait 5s
    settled
    decide
    = rolled back
    live 1";

#[test]
fn every_story_goes_as_it_is_told() {
    for (name, change, story) in ALL {
        println!("story: {name}");
        Tale::with_one_live(change).play(story);
    }
}

#[test]
fn automation_rests_longer_each_time_until_the_world_takes_something_again() {
    let mut tale = Tale::with_one_live(|plan| plan.limits.deploy_tries = 1);
    let fails = "to step 2\napply fails for the world\ndecide\ncarry on\nlive 1";
    for rest in ["5m", "15m", "1h", "4h", "4h"] {
        tale.play("start 2").play(fails).play(&format!("paused {rest}\nwait {rest}\nnot paused"));
    }
    assert!(tale.state.quarantines.is_empty(), "an innocent version is kept out");
    // The release's own fault says that the world takes releases again.
    tale.play("start 2\nto step 2\napply is hopeless\ndecide\ncarry on\nnot paused");
    tale.play("start 3").play(fails).play("paused 5m\nwait 5m\nstart 3\ncarry on\n= promoted\nwatch on");
    tale.play("start 4\nto step 2\napply fails for the world\ndecide\ncarry on\npaused 5m");
}

#[test]
fn nobody_knows_is_no_reason_to_try_again_at_once() {
    let mut tale = Tale::with_one_live(as_it_is);
    tale.play("start 2\nlook pre blind\nwait 30m\n> refused: gate `pre` could not look for 30m: no route");
    tale.play("decide\n= refused\npaused 5m\nwait 5m\nstart 2\nto step 3\nshifted 10%\nlook front blind");
    tale.play("wait 31m\ndecide\ncarry on\n= rolled back\npaused 15m");
}

#[test]
fn the_way_back_and_a_persons_order_know_of_no_rest() {
    let mut tale = Tale::with_one_live(as_it_is);
    tale.play("start 2\ncarry on\nwatch on\nstart 3\nto step 2\napply fails for the world\nwait 5s");
    tale.play("apply fails for the world\ndecide\ncarry on\nlive 2\npaused 5m");
    tale.play("order\n> retreat from 2 to 1\ncarry on\nlive 1\nnot paused");
}

#[test]
fn a_good_release_that_the_world_did_not_take_is_good_all_the_same() {
    let mut tale = Tale::with_one_live(|plan| plan.limits.deploy_tries = 1);
    tale.play("start 2\ncarry on\nwatch on\nstart 1\nto step 2\napply fails for the world\ndecide\ncarry on\nlive 2");
    let to = tale.state.way_back().map(|good| good.release.clone());
    assert_eq!(to, Some(super::story::release(1)), "the way back is gone");
}

#[test]
fn a_pause_that_a_wrong_clock_wrote_holds_nobody_up() {
    let mut tale = Tale::with_one_live(|plan| plan.limits.deploy_tries = 1);
    tale.play("start 2\nto step 2\napply fails for the world\ndecide\ncarry on\nclock back 10m\npaused 15m");
    tale.play("clock back 3h\nnot paused");
}

#[test]
fn what_is_left_behind_is_gone_with_the_next_promotion_or_rollback_that_takes_it_down() {
    let give_up = "settle fails\nwait 5s\n".repeat(5);
    for (after, live) in [("start 3\ncarry on", "3"), ("order\ncarry on", "1")] {
        let mut tale = Tale::with_one_live(as_it_is);
        tale.play("start 2\nto step 7\ndecide").play(&give_up).play("live 2");
        assert!(tale.state.leftover.is_some(), "it is forgotten");
        tale.play(after);
        assert!(tale.state.leftover.is_none(), "it is still there after {after:?}");
        assert_eq!(tale.live(), live);
    }
    let mut tale = Tale::with_one_live(as_it_is);
    tale.play("start 2\nto step 3\nabort\ndecide\nretreated").play(&give_up).play("decide\n= rolled back\nlive 1");
    tale.play("? the next try: what #2 should have taken down\nwait 5m\n> settle on 1\nsettled\n> nothing");
}

#[test]
fn nothing_new_is_built_on_what_should_have_been_taken_down() {
    let mut tale = Tale::with_one_live(|plan| plan.limits.rollback_tries = 1);
    tale.play("start 2\nto step 7\ndecide\nsettle fails\nstart 3\nlook pre good\n> nothing");
    tale.play("? the next try: what #2 should have taken down is still there: it broke; whoever can mend that");
    assert!(tale.next().held, "a job would wait for it");
    tale.play("wait 5m\n> settle on 2, look pre\nnobody answers\nlook pre good\n> nothing\nwait 15m");
    tale.play("> settle on 2, look pre\nanswer\n> step 1 passed\ncarry on\n= promoted\nlive 3");
}

#[test]
fn who_comes_anew_tries_anew_to_take_down_what_is_left() {
    let mut tale = Tale::with_one_live(|plan| (plan.limits.rollback_tries, plan.watch.time) = (1, Span(0)));
    tale.play("start 2\nto step 7\ndecide\nsettle fails\nwait 1m");
    let asked = |begun| next(&tale.state, tale.now, Setup { begun, ..Setup::default() }).effects;
    assert_eq!(asked(Stamp(0)), []);
    assert!(matches!(asked(tale.now)[..], [Effect::Settle { .. }]), "a new runner waits");
}

#[test]
fn the_first_release_has_nothing_to_go_back_to() {
    let mut tale = Tale::new(as_it_is);
    tale.play(
        "start 1
         to step 3
         shifted 10%
         look front bad
         > back to nothing: gate `front` failed: 503
         decide
         > retreat from 1 to nothing
         retreated
         > settle on nothing
         settled
         decide
         = rolled back
         live nothing",
    );
    assert_eq!(tale.good(), "nothing");
}

#[test]
fn the_only_release_there_is_stays_up_when_its_watch_goes_bad() {
    let mut tale = Tale::new(as_it_is);
    tale.play("start 1\ncarry on\nlive 1\nlook front bad\n> nothing\n? something to go back to\nwatch on\nlive 1");
    let told = tale.state.outbox.iter().any(|notice| notice.text.contains("bad at the end of the watch"));
    assert!(told, "nobody is told");
}

#[test]
fn a_watch_through_which_nobody_looked_is_none() {
    let mut tale = Tale::with_one_live(as_it_is);
    tale.play("start 2\ncarry on\nwait 3h\n> look front\nlook front good\n> nothing\nwait 10s\nlook front bad");
    tale.play("> back to 1: gate `front` failed: 503");
}

#[test]
fn a_destination_that_does_not_come_up_gives_way_to_the_whole_last_known_good() {
    let mut tale = Tale::with_one_live(as_it_is);
    // A release that was never proven is live: what a person's rollback of one component leaves behind.
    tale.play("order 7\ncarry on\nlive 7");
    assert_eq!(tale.good(), "nothing", "release 1 was left, so it is not good any more");
    let mut tale = Tale::with_one_live(as_it_is);
    tale.play("start 2\ncarry on\nwatch on\norder 7\ncarry on\nlive 7");
    assert_eq!(tale.good(), "1");
    tale.play("start 3\nto step 3\nshifted 10%\nlook front bad\ndecide\n> retreat from 3 to 7");
    tale.play("retreat fails\nwait 5m\n> widen to 1\ndecide\n> retreat from 3 to 1\ncarry on\n= rolled back\nlive 1");
}

#[test]
fn a_stuck_rollback_says_where_and_what_to_do() {
    let mut tale = Tale::with_one_live(as_it_is);
    tale.play("start 2\nto step 3\nabort\ndecide\nretreat fails\nwait 5m\ndecide");
    let Some(Ending::Stuck { at, live, advice }) = tale.state.last.clone().map(|last| last.ending) else {
        panic!("it did not get stuck: {:?}", tale.state.last);
    };
    assert!(at.contains("going back to") && live.contains("users") && advice.contains("`piton rollback`"));
    assert_eq!(tale.state.way_back().map(|good| good.release.clone()), Some(super::story::release(1)));
}

#[test]
fn a_blind_gate_does_not_hide_a_bad_one_from_the_watch() {
    let with_two_gates: fn(&mut Plan) = |plan| {
        plan.watch.time = Span::hours(6);
        plan.watch.gates = vec![gate_name("front"), gate_name("mood")];
    };
    let mut tale = Tale::with_one_live(with_two_gates);
    tale.play("start 2\ncarry on\nlook front blind\nwait 31m\nlook front blind\nlook mood bad\nwait 10m");
    tale.play("> back to 1: gate `mood` has not recovered within 10m: 503");
}

#[test]
fn a_quiet_watch_ends_the_earlier_ones() {
    let mut tale = Tale::with_one_live(|plan| plan.watch.gates = vec![gate_name("mood")]);
    // The first watch had a bad sign, and the next release mends it.
    tale.play("start 2\ncarry on\nlook mood bad\nstart 3\ncarry on\nwatch on\n> nothing\nlive 3");
    assert!(tale.state.watches.is_empty(), "release 2 is watched although release 3 is live");
}

#[test]
fn a_blind_watch_goes_on_to_its_end_and_blames_nobody() {
    let mut tale = Tale::with_one_live(|plan| plan.watch.time = Span::hours(2));
    tale.play("start 2\ncarry on\nlook front blind\nwait 1h\n> look front\nlook front blind\nwait 1h\n> look front");
    tale.play("? the looks that the watch still lacks\nlook front blind\n> watch of #2 over");
    tale.play("decide\n= promoted\nlive 2");
}

#[test]
fn going_back_past_what_was_live_leaves_that_too() {
    let mut tale = Tale::with_one_live(as_it_is);
    tale.play("start 2\ncarry on\nwatch on\nstart 3\nto step 4\norder 1\n> retreat from 3 to 1\ncarry on\nlive 1");
    assert_eq!(tale.good(), "1", "release 2 was left, too");
}

#[test]
fn an_order_before_anything_was_touched_leaves_what_is_live() {
    let mut tale = Tale::with_one_live(as_it_is);
    tale.play("start 2\ncarry on\nwatch on\nstart 3\norder\n> retreat from 2 to 1\ncarry on\nlive 1");
    assert_eq!(tale.good(), "1");
}

#[test]
fn a_second_order_goes_elsewhere_and_an_answer_to_the_first_is_not_taken_for_its_own() {
    let mut tale = Tale::with_one_live(|plan| plan.limits.rollback = Span::seconds(20));
    tale.play("start 2\ncarry on\nwatch on\nstart 3\nto step 4\norder 2\nwait 5s\norder 1\n> retreat from 3 to 1");
    let within = tale.state.rollback.as_ref().map(|r| r.limits.within);
    assert_eq!(within, Some(Span::seconds(20)), "the second order waits no longer than the plan says");
    // Something else was taken down before anyone went back: that is no answer to this order.
    tale.play("settled\n> retreat from 3 to 1\nretreated\n> settle on 1");
}

#[test]
fn a_gate_that_the_plan_does_not_have_never_passes() {
    let mut tale = Tale::with_one_live(|plan| {
        plan.gates.remove(&gate_name("pre"));
    });
    tale.play("start 2\n> nothing\n? which the plan does not have\nwait 1h\n> nothing\nwait 23h");
    tale.play("> refused: not done within its deadline of 1d");
}

#[test]
fn an_answer_to_an_earlier_step_moves_nothing_on() {
    let mut tale = Tale::with_one_live(as_it_is);
    tale.play("start 2\nto step 4\n> shift 100% to 2\nshifted 10%\n> shift 100% to 2\nshift 10% fails\napply fails");
    assert_eq!(tale.state.attempt.as_ref().map(|a| a.tries.failed), Some(0));
    tale.play("> shift 100% to 2\ncarry on\n= promoted");
}

#[test]
fn what_a_person_writes_by_hand_holds_a_promotion_and_is_undone_by_a_rollback() {
    let mut tale = Tale::with_one_live(as_it_is);
    tale.play("start 2\nto step 3");
    tale.foreign();
    tale.play("> nothing\n? eve wrote on the branch by hand\nwait 2h\n> back to 1: not done within its deadline of 2h");
    tale.play("decide\ncarry on\n= rolled back");
    assert_eq!(tale.state.foreign, None);
    tale.foreign();
    let good = tale.state.way_back().map(|good| good.release.clone());
    assert_eq!(good, Some(super::story::release(1)), "the good release itself, not the one before it");
}

#[test]
fn a_clock_that_went_back_does_not_hold_up_the_way_back() {
    let mut tale = Tale::with_one_live(as_it_is);
    tale.play("start 2\nto step 3\nabort\ndecide\nretreat fails\n> nothing\nclock back 1h\n> retreat from 2 to 1");
}

#[test]
fn who_is_blamed_stays_out_and_who_is_not_does_not() {
    for (line, out) in [("look front bad", true), ("look front blind", false)] {
        let mut tale = Tale::with_one_live(as_it_is);
        tale.play("start 2\nto step 3\nshifted 10%").play(line).play("wait 31m\ndecide");
        assert_eq!(!tale.state.quarantines.is_empty(), out, "{line}");
        let blamed = tale.state.rollback.as_ref().map(|r| matches!(r.cause, Cause::Blind { .. }));
        assert_eq!(blamed, Some(!out));
    }
}

#[test]
fn another_renderer_is_said_and_stops_nothing() {
    let by = |version: &str| Some(format!("helm {version}"));
    let mut tale = Tale::with_one_live(|plan| plan.renderer = Some("helm v1".to_owned()));
    let applied = |attempt, version| What::Applied { attempt, note: String::new(), renderer: by(version) };
    tale.play("start 2\nto step 2").write(vec![applied(AttemptId(2), "v1")]);
    tale.play("carry on\n= promoted\nwatch on");
    let said = |tale: &Tale| tale.state.outbox.iter().map(|notice| notice.text.clone()).collect::<Vec<_>>().join("\n");
    assert!(!said(&tale).contains("helm"), "{}", said(&tale));
    tale.play("start 3\nto step 2").write(vec![applied(AttemptId(3), "v2")]);
    assert!(said(&tale).contains("#3 was planned with helm v1 and is rendered by helm v2"), "{}", said(&tale));
    tale.play("carry on\n= promoted\nlive 3\nwatch on\norder");
    let attempt = tale.under_way();
    tale.write(vec![What::Retreated { attempt, note: String::new(), renderer: by("v3") }]);
    let back = format!("{attempt} goes back with helm v3 to what helm v1 had rendered");
    assert!(said(&tale).contains(&back), "{}", said(&tale));
    tale.play("carry on\n= rolled back\nlive 2");
}

#[test]
fn what_never_reached_its_place_is_refused_and_nobody_is_stuck() {
    let twice = |plan: &mut Plan| plan.limits.deploy_tries = 2;
    for mut tale in [Tale::new(twice), Tale::with_one_live(twice)] {
        let live = tale.state.live.clone();
        tale.play(
            "start 2\nto step 2\napply reaches nothing\nwait 5s\napply reaches nothing\ndecide\n= refused\npaused 5m",
        );
        assert_eq!((&tale.state.stuck, &tale.state.live), (&None, &live));
    }
    // A try that may have done something, or of which nobody was told, is gone back from.
    let told = "apply fails for the world\nwait 5s\napply reaches nothing\ndecide";
    let untold = "lease bob\napply reaches nothing\nwait 5s\napply reaches nothing\ndecide";
    let later = "applied\nshifted 10%\nabort\ndecide";
    for story in [told, untold, later] {
        let mut tale = Tale::new(twice);
        tale.play("start 2\nto step 2").play(story);
        assert!(tale.state.rollback.is_some(), "nothing is gone back from after {story:?}");
    }
}
