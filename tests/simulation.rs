//! The runner and the engine in a seeded world. `PITON_SIM_SEED=n` replays one history and prints its trace,
//! `PITON_SIM_RUNS=n` plays that many.

use std::{env, sync::Mutex, time::Instant};

use piton::{
    model::Span,
    simulate::{Broken, Deed, Mutation, Nature, Story, seeded, told},
};

const RUNS: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

fn complain(broken: &Broken) -> String {
    let last = broken.trace.len().saturating_sub(40);
    format!("{broken}\nthe last lines of its trace:\n{}\n{broken}", broken.trace[last..].join("\n"))
}

/// Plays each on one of the machine's cores; the smallest that fails is told.
fn on_all_cores(numbers: std::ops::Range<u64>, play: impl Fn(u64) -> Result<(), String> + Sync) {
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get()) as u64;
    let failed: Mutex<Option<(u64, String)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for core in 0..cores {
            let (failed, play, numbers) = (&failed, &play, numbers.clone());
            scope.spawn(move || {
                for n in numbers.skip(core as usize).step_by(cores as usize) {
                    let Err(why) = play(n) else { continue };
                    let mut failed = failed.lock().expect("nobody panics with it");
                    if failed.as_ref().is_none_or(|(smallest, _)| n < *smallest) {
                        *failed = Some((n, why));
                    }
                    return;
                }
            });
        }
    });
    if let Some((n, why)) = failed.into_inner().expect("nobody panics with it") {
        panic!("{n}: {why}");
    }
}

#[test]
fn whatever_chance_does_the_laws_hold_and_everything_ends() {
    if let Some(seed) = number("PITON_SIM_SEED") {
        match seeded(seed, None) {
            Ok(history) => println!("{}\n{:?}", history.trace.join("\n"), history.endings),
            Err(broken) => panic!("{}\n{broken}", broken.trace.join("\n")),
        }
        return;
    }
    let runs = number("PITON_SIM_RUNS").unwrap_or(RUNS);
    let begun = Instant::now();
    on_all_cores(0..runs, |seed| match seeded(seed, None) {
        Ok(_) => Ok(()),
        Err(broken) => Err(format!("replay it with PITON_SIM_SEED={seed}: {}", complain(&broken))),
    });
    println!("{runs} histories in {:?}", begun.elapsed());
}

#[test]
fn a_seed_is_a_whole_history() {
    for seed in [3, 77, 1_234] {
        let once = seeded(seed, None).unwrap_or_else(|broken| panic!("{}", complain(&broken)));
        let again = seeded(seed, None).unwrap_or_else(|broken| panic!("{}", complain(&broken)));
        assert_eq!(once, again, "seed {seed} gave two histories");
        assert!(once.trace.len() > 20, "seed {seed} has hardly a history");
    }
    assert_ne!(seeded(3, None).map(|h| h.trace).ok(), seeded(4, None).map(|h| h.trace).ok());
}

#[test]
fn what_is_broken_on_purpose_is_noticed() {
    for mutation in Mutation::ALL {
        let caught = (0..1_000).find_map(|seed| seeded(seed, Some(mutation)).err().map(|broken| (seed, broken.law)));
        match caught {
            Some((seed, law)) => println!("{mutation:?}: seed {seed}: {law}"),
            None => panic!("no law notices {mutation:?}"),
        }
    }
}

/// One story for each way a promotion can go, without chance.
fn stories() -> Vec<Story> {
    use Nature::{BadAfter, BadAtOnce, BadAtShare, Good, NeverUp};
    let with = |story: Story, change: fn(&mut Story)| {
        let mut story = story;
        change(&mut story);
        story
    };
    vec![
        Story::plain("good", &[Good, Good]),
        Story::plain("bad at once", &[Good, BadAtOnce]),
        Story::plain("bad at a tenth of the users", &[Good, BadAtShare(1_000), Good]),
        Story::plain("bad with all users", &[Good, BadAtShare(10_000)]),
        Story::plain("bad in the bake", &[Good, BadAfter(Span::seconds(15))]),
        with(Story::plain("bad in the watch", &[Good, Good]), |story| {
            story.answers = vec![("settled #2", Deed::Sicken(2))];
        }),
        Story::plain("does not start", &[Good, NeverUp, Good]),
        Story::plain("the first does not start", &[NeverUp, Good]),
        with(Story::plain("a blind gate", &[Good, Good]), |story| {
            story.answers = vec![("started 2", Deed::Blind), ("rolled_back #2", Deed::See)];
        }),
        with(Story::plain("approved", &[Good, Good]), |story| {
            story.plan.approval = true;
            story.answers = vec![("started 1", Deed::Approve), ("started 2", Deed::Approve)];
        }),
        with(Story::plain("aborted", &[Good, Good]), |story| {
            story.answers = vec![("step_passed #2 2", Deed::Abort)];
        }),
        with(Story::plain("rolled back by hand", &[Good, Good]), |story| {
            story.answers = vec![("settled #2", Deed::Rollback)];
        }),
        with(Story::plain("rolled back by hand at the canary", &[Good, Good]), |story| {
            story.answers = vec![("shifted #2", Deed::Rollback)];
        }),
        with(Story::plain("stuck, then mended", &[Good, BadAtShare(1_000)]), |story| {
            story.faults.unreachable = [Story::tree(1)].into();
            story.answers = vec![("stuck #2", Deed::Mend), ("stuck #2", Deed::Rollback)];
        }),
        with(Story::plain("widened", &[Good, Good, BadAtShare(1_000)]), |story| {
            story.answers = vec![("watch_ended #2", Deed::RollbackTo(512, 2)), ("started 3", Deed::Unreachable(512))];
        }),
    ]
}

#[test]
fn what_the_world_could_not_do_is_done_after_a_rest_and_no_version_is_kept_out_for_it() {
    let mut story = Story::plain("the world fails a deploy", &[Nature::Good, Nature::Good]);
    story.answers = vec![("started 2", Deed::FailDeploys(2))];
    let history = told(story, None).unwrap_or_else(|broken| panic!("{}", complain(&broken)));
    let ended = ["#1 promoted", "#2 rolled back", "#3 promoted"];
    assert_eq!(history.endings[..3], ended, "{}", history.trace.join("\n"));
    let live = format!("live {}", Story::tree(2));
    assert!(history.endings.contains(&live), "{:?}", history.endings);
}

#[test]
fn killed_anywhere_another_runner_comes_to_the_same_ending() {
    for story in stories() {
        let name = story.name.clone();
        let begun = Instant::now();
        let whole = told(story.clone(), None).unwrap_or_else(|broken| panic!("{}", complain(&broken)));
        let awaits = whole.awaits;
        println!("{name}: {awaits} awaits, {} pages, {:?}", whole.pages, whole.endings);
        on_all_cores(1..awaits, |k| {
            let killed = told(story.clone(), Some(k)).map_err(|broken| complain(&broken))?;
            match killed.endings == whole.endings {
                true => Ok(()),
                false => {
                    let changed = format!("{name}: {:?} became {:?}", whole.endings, killed.endings);
                    Err(format!("{}\n\n{}\n{changed}", whole.trace.join("\n"), killed.trace.join("\n")))
                }
            }
        });
        println!("    in {:?}", begun.elapsed());
    }
}
