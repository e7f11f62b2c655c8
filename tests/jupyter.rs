//! A real JupyterHub with its proxy, real servers of users and real kernels. The first run downloads some 150 MB into
//! `~/.cache/piton-test` (or `$PITON_TEST_CACHE`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use piton::{
    clients::http::{Ask, Secret},
    gates::{self, Scene},
    model::{CommitId, EnvironmentName, Release, Saw, Span, TreeId},
};
use serde_json::{Value, json};

/// A variable that every test run has; its value serves as the Hub's token.
const TOKEN_VARIABLE: &str = "CARGO_MANIFEST_DIR";

/// The page of a server loads with both versions of ipython, and the kernel calls itself idle; with 9.16.0 nothing
/// ever executes. Only the kernel gate sees it, and it cleans up after itself.
#[tokio::test]
async fn only_the_kernel_gate_sees_that_nothing_executes() {
    let world = World::new();
    for (ipython, executes) in [("9.15.0", true), ("9.16.0", false), ("9.15.0", true)] {
        world.deploy(ipython);
        let shallow = world.look("http", json!({"url": "${url}/hub/login", "expect": {"status": 200}})).await;
        assert!(matches!(shallow, Saw::Good(_)), "ipython {ipython}: {shallow:?}");
        match (world.look("kernel", kernel_gate()).await, executes) {
            (Saw::Good(note), true) => {
                assert!(note.starts_with("`2`; handshake ") && note.contains(" execute "), "{note}");
            }
            (Saw::Bad(why), false) => {
                assert!(why.contains("never executed") && why.contains("calls itself idle"), "{why}");
            }
            (saw, _) => panic!("ipython {ipython}: {saw:?}\n{}", world.log()),
        }
        assert_eq!(world.users().await, json!([]), "the gate left a user behind");
    }
}

/// A snippet that raises, and a token that the Hub does not know.
#[tokio::test]
async fn a_failing_snippet_is_bad_and_a_foreign_token_is_blind() {
    let world = World::new();
    world.deploy("9.15.0");
    let mut gate = kernel_gate();
    gate["code"] = json!("import a_module_that_is_not_there");
    let saw = world.look("kernel", gate.clone()).await;
    assert!(matches!(&saw, Saw::Bad(why) if why.contains("ModuleNotFoundError")), "{saw:?}\n{}", world.log());
    gate["token"] = json!("CARGO_PKG_VERSION");
    let saw = world.look("kernel", gate).await;
    assert!(matches!(&saw, Saw::Blind(why) if why.contains("refuses our token")), "{saw:?}");
}

fn kernel_gate() -> Value {
    json!({
        "hub": "${url}",
        "token": TOKEN_VARIABLE,
        // A machine that compiles something else meanwhile takes five times as long.
        "within": {"server": "120s", "handshake": "90s", "execute": "15s"},
    })
}

/// One environment with a Hub of its own; nothing of it is left when it is dropped.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let world = World { dir: tempfile::tempdir().expect("a temporary folder") };
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/jupyterhub");
        let copied = Command::new("cp").arg("-r").args([&fixture, &world.files()]).status().expect("cp is there");
        assert!(copied.success());
        world
    }

    /// The deploy repository's files.
    fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn deploy(&self, ipython: &str) {
        let path = self.files().join("requirements.txt");
        let text = std::fs::read_to_string(&path).expect("the requirements");
        let lines = text.lines().map(|line| match line.starts_with("ipython==") {
            true => format!("ipython=={ipython}\n"),
            false => format!("{line}\n"),
        });
        std::fs::write(&path, lines.collect::<String>()).expect("the folder is ours");
        self.run("apply");
    }

    fn run(&self, act: &str) -> String {
        let ran = self.command(act).output().expect("python3.11 is there");
        assert!(ran.status.success(), "{act}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("UTF-8")
    }

    fn command(&self, act: &str) -> Command {
        let token = std::env::var(TOKEN_VARIABLE).expect("cargo sets it");
        let mut command = Command::new(self.files().join("deploy.py"));
        command.args([act, "--state"]).arg(self.state()).env("HUB_TOKEN", token);
        command
    }

    fn live(&self) -> Value {
        serde_json::from_str(&self.run("live")).expect("JSON")
    }

    fn url(&self) -> String {
        self.live()["facts"]["url"].as_str().expect("an address").to_owned()
    }

    async fn look(&self, kind: &str, config: Value) -> Saw {
        let entry = gates::ALL.iter().find(|entry| entry.kind.kind.name == kind).expect("the kind is there");
        let release = Release {
            tree: TreeId::new("a".repeat(40)).expect("40 digits"),
            source: CommitId::new("a".repeat(40)).expect("40 digits"),
            versions: BTreeMap::new(),
        };
        let scene = Scene {
            environment: EnvironmentName::new("staging").expect("a good name"),
            candidate: release,
            stable: None,
            facts: BTreeMap::from([("url".to_owned(), self.url())]),
            timeout: Span::minutes(4),
        };
        (entry.build)(&config).expect("a right configuration").look(&scene).await
    }

    /// The users that the Hub knows.
    async fn users(&self) -> Value {
        let token = Secret::from_variable(TOKEN_VARIABLE).expect("cargo sets it");
        let ask = Ask::get(format!("{}/hub/api/users", self.url()), Span::seconds(30));
        let answer = ask.secret_header("authorization", token.after("token ")).send().await.expect("the Hub is up");
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.state().join("hub.log")).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A second panic would hide the first.
        if !self.command("stop").status().is_ok_and(|status| status.success()) {
            eprintln!("could not stop {}", self.state().display());
        }
    }
}
