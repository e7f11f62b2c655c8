use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use piton::{
    clients::http::{Ask, Secret},
    gates::{self, Scene},
    model::{CommitId, EnvironmentName, Release, Saw, Span, TreeId},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

/// A variable that every test run has; its value serves as the Hub's token.
pub const TOKEN_VARIABLE: &str = "CARGO_MANIFEST_DIR";

/// On two cores more of them at once would only measure how long they wait for each other.
static ROOM: Semaphore = Semaphore::const_new(2);

/// A folder with the deploy files, and one Hub for each environment; nothing of it is left when it is dropped.
pub struct World {
    dir: tempfile::TempDir,
    environments: &'static [&'static str],
    _room: SemaphorePermit<'static>,
}

impl World {
    pub async fn new(environments: &'static [&'static str]) -> World {
        let room = ROOM.acquire().await.expect("it is never closed");
        let world = World { dir: tempfile::tempdir().expect("a temporary folder"), environments, _room: room };
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::create_dir_all(world.repo().join("fixtures")).expect("the folder is ours");
        fs::create_dir_all(world.repo().join("pipelines")).expect("the folder is ours");
        let (from, to) = (here.join("fixtures/jupyterhub"), world.repo().join("fixtures/"));
        let copied = Command::new("cp").arg("-r").args([from, to]).status().expect("cp is there");
        assert!(copied.success());
        fs::copy(here.join("pipelines/jupyterhub.yaml"), world.pipeline()).expect("the folder is ours");
        world
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn repo(&self) -> PathBuf {
        self.path().join("repo")
    }

    pub fn pipeline(&self) -> PathBuf {
        self.repo().join("pipelines/jupyterhub.yaml")
    }

    /// Where piton keeps what belongs to this machine.
    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Writes another version into the requirements.
    pub fn require(&self, ipython: &str) {
        let path = self.repo().join("fixtures/jupyterhub/requirements.txt");
        let text = fs::read_to_string(&path).expect("the requirements");
        let lines = text.lines().map(|line| match line.starts_with("ipython==") {
            true => format!("ipython=={ipython}\n"),
            false => format!("{line}\n"),
        });
        fs::write(&path, lines.collect::<String>()).expect("the folder is ours");
    }

    /// Runs the deploy script for one environment.
    pub fn run(&self, environment: &str, act: &str) -> String {
        let ran = self.script(environment, act).output().expect("python3.11 is there");
        assert!(ran.status.success(), "{act}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("UTF-8")
    }

    fn script(&self, environment: &str, act: &str) -> Command {
        let mut command = Command::new(self.repo().join("fixtures/jupyterhub/deploy.py"));
        command.arg(act).env("PITON_STATE_DIR", self.state().join(environment)).env("HUB_TOKEN", token().reveal());
        command
    }

    pub fn url(&self, environment: &str) -> String {
        let live = self.run(environment, "live");
        let url = live.lines().find_map(|line| line.strip_prefix("fact url="));
        url.unwrap_or_else(|| panic!("no address: {live}")).to_owned()
    }

    /// What new servers use, as the machine itself says.
    pub fn live_ipython(&self, environment: &str) -> String {
        let live = self.run(environment, "live");
        let version = live.lines().find_map(|line| line.strip_prefix("version ipython "));
        version.unwrap_or_else(|| panic!("no version: {live}")).to_owned()
    }

    /// One look of one gate.
    pub async fn look(&self, environment: &str, kind: &str, config: Value) -> Saw {
        let entry = gates::ALL.iter().find(|entry| entry.kind.kind.name == kind).expect("the kind is there");
        let release = Release {
            tree: TreeId::new("a".repeat(40)).expect("40 digits"),
            source: CommitId::new("a".repeat(40)).expect("40 digits"),
            versions: BTreeMap::new(),
        };
        let scene = Scene {
            environment: EnvironmentName::new(environment).expect("a good name"),
            candidate: release,
            stable: None,
            facts: BTreeMap::from([("url".to_owned(), self.url(environment))]),
            timeout: Span::minutes(4),
        };
        (entry.build)(&config).expect("a right configuration").look(&scene).await
    }

    /// Asks the Hub, or a server behind it.
    pub async fn ask(&self, environment: &str, method: Method, path: &str) -> Value {
        let url = format!("{}{path}", self.url(environment));
        let mut ask =
            Ask::new(method.clone(), &url, Span::minutes(2)).secret_header("authorization", token().after("token "));
        if method == Method::POST {
            ask = ask.json(&json!({}));
        }
        let answer = ask.send().await.unwrap_or_else(|error| panic!("{error}"));
        assert!(answer.status < 300, "{method} {url}: {} {}", answer.status, answer.text());
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// The names of all users that the Hub knows.
    pub async fn users(&self, environment: &str) -> Vec<String> {
        let users = self.ask(environment, Method::GET, "/hub/api/users").await;
        let users = users.as_array().expect("a list");
        users.iter().filter_map(|user| user["name"].as_str()).map(str::to_owned).collect()
    }

    pub fn log(&self, environment: &str) -> String {
        fs::read_to_string(self.state().join(environment).join("jupyterhub/hub.log")).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for environment in self.environments {
            // A second panic would hide the first.
            if !self.script(environment, "stop").status().is_ok_and(|status| status.success()) {
                eprintln!("could not stop {environment} in {}", self.state().display());
            }
        }
    }
}

pub fn token() -> Secret {
    Secret::from_variable(TOKEN_VARIABLE).expect("cargo sets it")
}

/// The gate of the pipeline, with this test's token.
pub fn kernel_gate() -> Value {
    json!({
        "hub": "${url}",
        "token": TOKEN_VARIABLE,
        // A machine that compiles something else meanwhile takes five times as long.
        "within": {"server": "120s", "handshake": "90s", "execute": "15s"},
    })
}
