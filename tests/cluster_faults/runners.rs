//! Two who act at once, and clocks that differ.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::signal::Signal;

use crate::{
    cluster::needs,
    world::{CANARY, IMAGE_PATH, World, image, impatient, tick_to_the_end},
};

/// A killed runner is followed by another one, and no step is free.
mod killed {
    use super::followed_from;

    #[test]
    fn before_anything_is_touched() {
        followed_from("a rollback goes to");
    }

    #[test]
    fn with_the_canary_up() {
        followed_from("deployed");
    }

    #[test]
    fn with_half_of_the_users_on_it() {
        followed_from("→ 50%");
    }

    #[test]
    fn with_all_users_on_it() {
        followed_from("→ 100%");
    }
}

fn followed_from(moment: &str) {
    let world = World::new(CANARY);
    world.bump("1.1.0");
    let mut running = world.promote();
    running.until_said(moment);
    running.signal(Signal::SIGKILL);
    running.wait();
    // Killed before the ledger has it, it never was: whoever asked asks again.
    if world.status()["attempt"].is_null() {
        world.promote().wait();
    }
    tick_to_the_end(&world);
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

/// Their ledgers know nothing of each other, so no lease keeps them apart: only the number on what is deployed does.
#[test]
fn of_two_without_a_common_lease_the_older_is_refused_by_the_cluster() {
    let world = World::new(&impatient());
    let twin = world.sandbox.path("twin.git");
    world.sandbox.git_in(world.sandbox.root(), &["clone", "--quiet", "--mirror", "origin.git", "twin.git"]);
    let other = world.sandbox.path("other");
    let twin = twin.display().to_string();
    world.sandbox.git_in(world.sandbox.root(), &["clone", "--quiet", &twin, "other"]);
    let first = world.in_the_middle_of("1.1.0");
    // The other one acts until its number is the higher one.
    let other = other.display().to_string();
    for version in ["1.2.0", "1.3.0"] {
        for (file, path, value) in [("web", IMAGE_PATH, image(version).as_str()), ("config", "data.greeting", version)]
        {
            world.sandbox.piton(&["-C", &other, "edit", &format!("deploy/{file}.yaml"), path, value]).ends(0);
        }
        world.sandbox.git_in(Path::new(&other), &["commit", "--quiet", "--all", "--message", version]);
        let commit = world.sandbox.git_in(Path::new(&other), &["rev-parse", "HEAD"]);
        let words = ["-C", &other, "rollback", "production", "--to", &commit, "--reason", "it is mine", "--as", "twin"];
        world.sandbox.piton(&words).ends(0).says("rolled back");
    }
    world.settles_on("1.3.0");
    world.may_go_on();
    first.wait().ends(5).says("fenced off: number 2 is older than 3, which another runner wrote here; mend that");
    world.settles_on("1.3.0");
}

/// A library that moves the wall clock of whoever is started with it.
fn skewed(world: &World, seconds: i64) -> Option<PathBuf> {
    let source = world.sandbox.path("skew.c");
    let library = world.sandbox.path(&format!("skew{seconds}.so"));
    fs::write(&source, SKEW.replace("@SECONDS@", &seconds.to_string())).expect("room on the disk");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    built.is_ok_and(|status| status.success()).then_some(library)
}

const SKEW: &str = "#define _GNU_SOURCE
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int clock_gettime(clockid_t clock, struct timespec *at) {
    long failed = syscall(SYS_clock_gettime, clock, at);
    if (!failed && clock == CLOCK_REALTIME) at->tv_sec += @SECONDS@;
    return (int) failed;
}
";

#[test]
fn a_runner_whose_clock_is_behind_follows_another() {
    // It makes the hold longer by as much.
    followed_by_a_clock_off_by(-20);
}

#[test]
fn a_runner_whose_clock_is_ahead_follows_another() {
    followed_by_a_clock_off_by(20);
}

fn followed_by_a_clock_off_by(seconds: i64) {
    let world = World::new(CANARY);
    let Some(library) = skewed(&world, seconds) else {
        needs::skip_one("there is no C compiler `cc`, which moves the clock of a runner");
        return;
    };
    let library = library.display().to_string();
    let running = world.in_the_middle_of("1.1.0");
    running.signal(Signal::SIGKILL);
    running.wait();
    world.may_go_on();
    let ran = world.sandbox.piton_with(&[("LD_PRELOAD", &library)], &["promote", "production", "--wait"]);
    // One that is early may find the lease still held, and says so.
    assert!([Some(0), Some(75)].contains(&ran.code), "{seconds}: {ran}");
    tick_to_the_end(&world);
    world.settles_on("1.1.0");
}
