//! What a machine must have for a group of tests. Where it lacks, the whole group is skipped before its first test, loudly.
//!
//! The check runs before `main`, so that no test of a group can fail unseen while another one ends it.

use std::{
    io::Write,
    process::{Command, exit},
};

use super::{
    node,
    programs::{self, GoProgram},
};

/// Makes a skipped group a failed one: whoever is to prove that everything works sets it.
const MUST_RUN: &str = "PITON_TESTS_MUST_RUN";
/// The code with which a group of tests fails.
const FAILED: i32 = 101;
/// The oldest Go that builds the pinned modules.
const GO: (u32, u32) = (1, 26);

/// Every group that uses the cluster needs its programs.
#[cfg(test)]
#[used]
#[unsafe(link_section = ".init_array")]
static CLUSTER: extern "C" fn() = cluster;

extern "C" fn cluster() {
    skip_for(without(&programs::CONTROL_PLANE));
}

/// For the `.init_array` of a group whose tests mostly wait for what others do: more of them at once than there are cores.
pub extern "C" fn mostly_waits() {
    const THREADS: &str = "RUST_TEST_THREADS";
    const AT_ONCE_MIN: usize = 8;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if std::env::var_os(THREADS).is_none() {
        // SAFETY: no other thread runs before `main`.
        unsafe { std::env::set_var(THREADS, (cores * 3).max(AT_ONCE_MIN).to_string()) };
    }
}

/// For the `.init_array` of a group that uses a real node.
pub extern "C" fn a_real_node() {
    let lacks_root = (!nix::unistd::geteuid().is_root()).then(|| "it needs root, to run real pods".to_owned());
    skip_for(lacks_root.or_else(|| without(&[programs::KUBELET])).or_else(node::lacks));
}

/// The same with a router in front of the pods.
pub extern "C" fn a_router_and_a_real_node() {
    skip_for(without(&[programs::TRAEFIK]));
    a_real_node();
}

/// For the `.init_array` of a group that uses Flux.
pub extern "C" fn flux() {
    skip_for(without(&programs::FLUX));
}

/// Why programs can neither be found nor built.
fn without(wanted: &[GoProgram]) -> Option<String> {
    let missing = wanted.iter().find(|program| program.find().is_none())?;
    let said = Command::new("go").args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output();
    let version = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let mut numbers = version.trim_start_matches("go").split('.').map_while(|number| number.parse().ok());
    let has = numbers.next().zip(numbers.next());
    let is = if version.is_empty() { "there is no `go`".to_owned() } else { format!("`go` is {version}") };
    let (major, minor) = GO;
    let why = format!("it needs Go {major}.{minor} or newer to build {}, and {is}", missing.name);
    has.is_none_or(|has| has < GO).then_some(why)
}

fn skip_for(lack: Option<String>) {
    let Some(why) = lack else { return };
    // A list of tests is just that.
    if std::env::args().any(|word| word == "--list") {
        return;
    }
    let must_run = must_run();
    let verb = if must_run { "FAILED" } else { "SKIPPED" };
    let hint = if must_run { "and must run" } else { "" };
    let line = format!("{verb}: {} of the group `{}`: {why} {hint}", count(), group());
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "\n{}", line.trim_end());
    exit(if must_run { FAILED } else { 0 });
}

fn must_run() -> bool {
    std::env::var_os(MUST_RUN).is_some_and(|value| value != "0")
}

/// Of a single test that lacks something; where everything must run it fails.
pub fn skip_one(why: &str) {
    assert!(!must_run(), "FAILED: {why} and must run");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

fn group() -> String {
    let program = std::env::current_exe().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let program = program.unwrap_or_default();
    program.rsplit_once('-').map_or(program.clone(), |(name, _)| name.to_owned())
}

/// How many tests the group has, as it says itself.
fn count() -> String {
    let listed = std::env::current_exe().and_then(|tests| Command::new(tests).arg("--list").output());
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    match listed.lines().filter(|line| line.ends_with(": test")).count() {
        1 => "1 test".to_owned(),
        number => format!("{number} tests"),
    }
}
