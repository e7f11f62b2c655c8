//! What the ledger costs: an append to a file remote, opening an environment with 100,000 events, and memory.
//! `cargo bench --bench ledger` prints the figures.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use piton::{
    ledger::{Durability, GitLedger, Ledger, MemoryLedger, MemoryTrees, Page, Repository, Settings},
    model::{Actor, EnvironmentName, Event, Stamp, TreeId, What},
};

const APPENDS: usize = 60;
const EVENTS: usize = 100_000;
const EVENTS_PER_PAGE: usize = 4;
const MEMORY_APPENDS: usize = 100_000;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a temporary folder");
    git(dir.path(), &["init", "--quiet", "--bare", "origin.git"]);
    runtime.block_on(appends(dir.path()));
    runtime.block_on(opening(dir.path()));
    runtime.block_on(memory());
}

async fn appends(dir: &Path) {
    let tree = first_tree(&dir.join("origin.git"));
    git(dir, &["clone", "--quiet", "origin.git", "one"]);
    let ledger = ledger(&dir.join("one"), Some("origin"));
    let environment = EnvironmentName::new("appends").expect("a good name");
    let mut head = ledger.open(&environment).await.expect("it opens").head;
    let mut took = Vec::new();
    for number in 0..APPENDS {
        let began = Instant::now();
        let appended = ledger.append(&environment, head.as_ref(), page(&tree, number)).await.expect("it is taken");
        took.push(began.elapsed());
        head = Some(appended.commit);
    }
    report("append to a file remote", &mut took);
    let bare = ledger_of_its_own(dir);
    let mut took = Vec::new();
    let mut head = None;
    for number in 0..APPENDS {
        let began = Instant::now();
        let appended = bare.append(&environment, head.as_ref(), page(&tree, number)).await.expect("it is taken");
        took.push(began.elapsed());
        head = Some(appended.commit);
    }
    report("append without a remote", &mut took);
    let mut took = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        ledger.open(&environment).await.expect("it opens");
        took.push(began.elapsed());
    }
    report("open when nothing is new (file remote)", &mut took);
    let mut plain = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        git(&dir.join("one"), &["ls-remote", "--refs", "origin", "refs/heads/piton/appends"]);
        plain.push(began.elapsed());
    }
    report("  of that, git's own `ls-remote`", &mut plain);
}

async fn opening(dir: &Path) {
    let origin = dir.join("origin.git");
    let tree = first_tree(&origin);
    let environment = EnvironmentName::new("long").expect("a good name");
    let began = Instant::now();
    import_history(&origin, &tree);
    println!("{:<45} {:>9.1?}", format!("(making {EVENTS} events)"), began.elapsed());
    let began = Instant::now();
    git(dir, &["clone", "--quiet", "origin.git", "two"]);
    println!("{:<45} {:>9.1?}", "(git clone of all that)", began.elapsed());
    let two = ledger(&dir.join("two"), Some("origin"));
    two.open(&environment).await.expect("it opens");
    let mut cold = Vec::new();
    let mut mirror = Vec::new();
    for _ in 0..20 {
        let fresh = ledger(&dir.join("two"), Some("origin"));
        let began = Instant::now();
        fresh.open(&environment).await.expect("it opens");
        cold.push(began.elapsed());
        let fresh = ledger(&dir.join("two"), Some("origin"));
        let began = Instant::now();
        fresh.open_mirror(&environment).await.expect("it opens");
        mirror.push(began.elapsed());
    }
    report("open 100,000 events, new process, origin asked", &mut cold);
    report("open 100,000 events, new process, mirror", &mut mirror);
    program(&dir.join("two"));
}

/// The whole program, from its start to its exit, beside git's own read of the same.
fn program(clone: &Path) {
    let pipeline = clone.join("pipeline.yaml");
    let text = "name: bench\ncomponents:\n  hub: { file: values.yaml, path: hub }\n\
                environments:\n  long: { target: { command: { apply: [\"true\"] } }, bake: 1s }\n";
    std::fs::write(&pipeline, text).expect("a pipeline file");
    let time = |arguments: &[&str], program: &str| {
        let mut took = Vec::new();
        for _ in 0..40 {
            let began = Instant::now();
            let ended = Command::new(program).args(arguments).current_dir(clone).output().expect("it runs");
            took.push(began.elapsed());
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        }
        took
    };
    let piton = env!("CARGO_BIN_EXE_piton");
    report("piton --version", &mut time(&["--version"], piton));
    let file = pipeline.display().to_string();
    report("piton status, 100,000 events", &mut time(&["status", "--pipeline", &file], piton));
    report("piton status --offline, 100,000 events", &mut time(&["status", "--offline", "--pipeline", &file], piton));
    report(
        "  of that, git's own `ls-remote`",
        &mut time(&["ls-remote", "--refs", "origin", "refs/heads/piton/long"], "git"),
    );
}

async fn memory() {
    let trees = MemoryTrees::new();
    let tree = trees.tree([("values.yaml", &b"hub: 1.0.0\n"[..])]);
    let ledger = MemoryLedger::new();
    let environment = EnvironmentName::new("production").expect("a good name");
    let began = Instant::now();
    let mut head = None;
    for number in 0..MEMORY_APPENDS {
        let appended = ledger.append(&environment, head.as_ref(), page(&tree, number)).await.expect("it is taken");
        head = Some(appended.commit);
    }
    let rate = MEMORY_APPENDS as f64 / began.elapsed().as_secs_f64();
    println!("{:<45} {rate:>9.0}/s", "append in memory");
}

/// Every page of the history, as piton writes it, through the fastest door that git has.
fn import_history(origin: &Path, tree: &TreeId) {
    let mut child = Command::new("git")
        .args(["fast-import", "--quiet", "--force"])
        .current_dir(origin)
        .stdin(Stdio::piped())
        .spawn()
        .expect("git starts");
    let mut stdin = std::io::BufWriter::new(child.stdin.take().expect("it is piped"));
    let pages = EVENTS / EVENTS_PER_PAGE;
    for number in 1..=pages {
        let events: Vec<String> = (0..EVENTS_PER_PAGE)
            .map(|n| serde_json::to_string(&event(number * EVENTS_PER_PAGE + n)).expect("it is JSON"))
            .collect();
        let trailers: String = events.iter().map(|event| format!("Piton-Event: {event}\n")).collect();
        let snapshot = if number % 32 == 0 { "Piton-Snapshot: {}\n" } else { "" };
        let message = format!(
            "page {number}\n\nPiton-Schema: 1\nPiton-Page: {number}\nPiton-Nonce: bench-{number}\n{trailers}{snapshot}"
        );
        write!(stdin, "commit refs/heads/piton/long\ncommitter piton <piton@invalid> {number} +0000\n")
            .expect("git reads");
        write!(stdin, "data {}\n{message}\nM 040000 {tree} \n\n", message.len()).expect("git reads");
    }
    drop(stdin);
    assert!(child.wait().expect("git ends").success());
}

fn ledger(dir: &Path, remote: Option<&str>) -> GitLedger {
    GitLedger::new(Repository::open(dir, remote, "piton").expect("it is a repository"), Settings::default())
}

fn ledger_of_its_own(dir: &Path) -> GitLedger {
    git(dir, &["clone", "--quiet", "--bare", "origin.git", "alone.git"]);
    git(&dir.join("alone.git"), &["update-ref", "-d", "refs/heads/piton/appends"]);
    ledger(&dir.join("alone.git"), None)
}

fn first_tree(dir: &Path) -> TreeId {
    let blob = git(dir, &["hash-object", "-w", "--stdin"]);
    let mut child = Command::new("git")
        .arg("mktree")
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git starts");
    writeln!(child.stdin.take().expect("it is piped"), "100644 blob {blob}\tvalues.yaml").expect("git reads");
    let output = child.wait_with_output().expect("git ends");
    TreeId::new(String::from_utf8_lossy(&output.stdout).trim()).expect("git gives ids")
}

fn event(number: usize) -> Event {
    let by = Actor::new("bench").expect("a good name");
    let at = Stamp(1_795_249_268_417 + i64::try_from(number).expect("it is small"));
    Event { at, by, what: What::Unfrozen { reason: format!("event number {number}") } }
}

fn page(tree: &TreeId, number: usize) -> Page {
    Page {
        subject: format!("page {number}"),
        events: vec![event(number)],
        tree: tree.clone(),
        good: None,
        durability: Durability::Origin,
    }
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let output =
        Command::new("git").args(arguments).current_dir(dir).stdin(Stdio::null()).output().expect("git starts");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn report(what: &str, took: &mut [Duration]) {
    took.sort();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!("{what:<45} {median:>9.1?} median, {worst:.1?} worst of {}", took.len());
}
