//! The README's first command: the whole story once, and Ctrl-C in the middle of it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

#[test]
fn the_demo_tells_its_story_and_leaves_nothing_running() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("demo");
    let ended = Command::new(env!("CARGO_BIN_EXE_piton")).args(["demo", "--json"]).arg(&dir).output().expect("it runs");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    let answer: serde_json::Value = serde_json::from_str(said.trim()).expect("one line of JSON");
    let acts = &answer["acts"];
    let of = |environment: &str, what: &str| {
        let all = acts[environment].as_array().expect("a list of promotions");
        all.iter()
            .find(|act| act["what"] == what)
            .cloned()
            .unwrap_or_else(|| panic!("no {what} in {environment}: {all:?}"))
    };
    for environment in ["staging", "production"] {
        assert_eq!(of(environment, "web 1.0.0 → 1.1.0")["outcome"], "promoted");
        assert_eq!(of(environment, "web 1.1.0 → 1.2.0")["outcome"], "promoted", "the next bump goes on");
    }
    let shallow = of("staging", "api 1.0.0 → 1.1.0");
    assert_eq!((&shallow["outcome"], &shallow["caught_by"]), (&"rolled back".into(), &"work".into()));
    let untouched = acts["production"].as_array().expect("a list").iter().all(|act| act["what"] != "api 1.0.0 → 1.1.0");
    assert!(untouched, "production never saw what staging stopped");
    assert_eq!(of("staging", "store 1.0.0 → 1.1.0")["outcome"], "promoted");
    let under_load = of("production", "store 1.0.0 → 1.1.0");
    assert_eq!((&under_load["outcome"], &under_load["caught_by"]), (&"rolled back".into(), &"errors".into()));
    assert!(under_load["bad_requests"].as_u64().is_some_and(|bad| bad > 0), "{under_load}");
    assert_eq!(of("production", "web 1.2.0 → 1.1.0")["outcome"], "promoted", "the pin");
    assert_eq!(of("production", "rollback by hand")["outcome"], "rolled back");
    assert_eq!(running_below(&dir), Vec::<String>::new());
}

#[test]
fn ctrl_c_leaves_nothing_running() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("demo");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_piton"));
    demo.arg("demo").arg(&dir).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut demo = demo.spawn().expect("it runs");
    let lines = BufReader::new(demo.stdout.take().expect("it is piped")).lines();
    let pid = Pid::from_raw(i32::try_from(demo.id()).expect("a process id"));
    let mut interrupted = false;
    for line in lines.map_while(Result::ok) {
        if !interrupted && line.contains("10% of the users are on it") {
            kill(pid, Signal::SIGINT).expect("it still runs");
            interrupted = true;
        }
    }
    let ended = demo.wait().expect("it ends");
    assert!(interrupted, "the demo never reached a canary");
    assert_eq!(ended.code(), Some(75));
    assert_eq!(running_below(&dir), Vec::<String>::new());
}

/// The command lines of processes that have to do with the folder.
fn running_below(dir: &Path) -> Vec<String> {
    let dir = dir.display().to_string();
    let processes = fs::read_dir("/proc").expect("a list of processes").flatten().map(|entry| entry.path());
    let mut found = Vec::new();
    for process in processes {
        let words = fs::read(process.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let inside = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&dir));
        if words.contains(&dir) || inside {
            found.push(words);
        }
    }
    found
}
