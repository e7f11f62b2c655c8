//! A sandbox for the real program: a deploy repository, its origin, and environments of real processes.

#![allow(dead_code, reason = "each test binary uses another part of this")]

mod processes;
mod program;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use piton::targets::process;
use serde_json::Value;

pub use program::{Ran, Running};

/// Nothing here takes longer, however loaded the machine is.
pub const LONGEST: Duration = Duration::from_secs(240);
/// From one look at the real thing to the next.
const PACE: Duration = Duration::from_millis(40);

/// A folder with a bare origin, a clone of it, and the state of what runs. Everything ends with it.
pub struct Sandbox {
    dir: tempfile::TempDir,
}

/// How the services' versions behave; one that is not named is good.
const BEHAVIOURS: &str = "versions:
  1.1.0-bad: { work_fails: true }
  1.1.0-crash: { at_start: crashes }
  1.1.0-mute: { at_start: never_listens }
  1.1.0-hang: { at_start: hangs }
  1.1.0-mortal: { dies_after: 3s }
  1.1.0-stubborn: { ignores_sigterm: true }
  1.1.0-forking: { forks: 4, ignores_sigterm: true }
  1.1.0-late: { fails_under: { after: 12 } }
";

/// One environment; nothing is looked at twice as long as it takes to type it.
pub const ONE: &str = "
  production:
    gates: { during: [front, work] }
    bake: 300ms
";

/// Staging before production, which has a canary step.
pub const TWO: &str = "
  staging:
    gates: { during: [front, work] }
    bake: 300ms
  production:
    after: [staging]
    gates: { during: [front, work] }
    canary: [{ share: 50%, hold: 300ms }, { share: 100%, hold: 0s }]
    bake: 300ms
";

impl Sandbox {
    /// A sandbox with these environments, over the services `web` and `store`.
    pub fn new(environments: &str) -> Sandbox {
        Sandbox::with_pipeline(&pipeline(environments))
    }

    pub fn with_pipeline(text: &str) -> Sandbox {
        let sandbox = Sandbox::empty();
        sandbox.write("pipelines/sandbox.yaml", text);
        for name in ["web", "store"] {
            sandbox.write(&format!("services/{name}.yaml"), format!("name: {name}\nversion: 1.0.0\n{BEHAVIOURS}"));
        }
        sandbox.commit("the first services");
        sandbox
    }

    /// A deploy repository without any file.
    pub fn empty() -> Sandbox {
        let dir = tempfile::Builder::new().prefix("piton-test-").tempdir().expect("a temporary folder");
        let sandbox = Sandbox { dir };
        fs::create_dir(sandbox.path("home")).expect("a folder");
        sandbox.git_in(sandbox.root(), &["init", "--quiet", "--bare", "--initial-branch=main", "origin.git"]);
        sandbox.git_in(sandbox.root(), &["clone", "--quiet", "origin.git", "deploy"]);
        sandbox.git(&["checkout", "--quiet", "-B", "main"]);
        sandbox
    }

    /// A sandbox in which version 1.0.0 of everything is promoted into every environment.
    pub fn established(environments: &str) -> Sandbox {
        let sandbox = Sandbox::new(environments);
        sandbox.establish();
        sandbox
    }

    pub fn establish(&self) {
        for environment in self.environments() {
            self.piton(&["promote", &environment]).ends(0);
        }
    }

    fn environments(&self) -> Vec<String> {
        let checked = self.piton(&["check", "--json"]).ends(0).json();
        let names = checked["environments"].as_array().expect("names").iter();
        names.map(|name| name.as_str().expect("a name").to_owned()).collect()
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub fn origin(&self) -> PathBuf {
        self.path("origin.git")
    }

    pub fn deploy(&self) -> PathBuf {
        self.path("deploy")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    // ---- the deploy repository

    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.deploy().join(file);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("room on the disk");
        fs::write(path, text).expect("room on the disk");
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.deploy().join(file)).expect("it is there")
    }

    /// Commits everything and pushes it.
    pub fn commit(&self, subject: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", subject]);
        self.git(&["push", "--quiet", "origin", "main"]);
    }

    /// Another version of a component, committed and pushed.
    pub fn bump(&self, component: &str, version: &str) {
        let file = format!("services/{component}.yaml");
        self.piton(&["edit", &file, "version", version]).ends(0);
        self.commit(&format!("{component} {version}"));
    }

    pub fn git(&self, words: &[&str]) -> String {
        self.git_in(&self.deploy(), words)
    }

    pub fn git_in(&self, dir: &Path, words: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(words).current_dir(dir);
        self.surround(&mut command);
        let output = command.output().expect("git is installed");
        assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The text of a file as it is deployed, or being deployed, after the environment's newest page in the origin.
    pub fn deployed(&self, environment: &str, file: &str) -> String {
        self.git_in(&self.origin(), &["show", &format!("piton/{environment}:{file}")])
    }

    /// The subjects of the environment's pages in the origin, the newest first.
    pub fn subjects(&self, environment: &str) -> Vec<String> {
        let log =
            self.git_in(&self.origin(), &["log", "--first-parent", "--format=%s", &format!("piton/{environment}")]);
        log.lines().map(str::to_owned).collect()
    }

    pub fn head(&self, environment: &str) -> String {
        self.git_in(&self.origin(), &["rev-parse", &format!("piton/{environment}")])
    }

    /// The machine's own settings and variables have no say in here.
    fn surround(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["PITON_", "GIT_", "GITHUB_", "GITLAB_", "CI", "XDG_"].iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        command.env("HOME", self.path("home")).env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "author").env(format!("GIT_{who}_EMAIL"), "author@example.org");
        }
    }

    // ---- the program

    /// Runs the program to its end, in the clone.
    pub fn piton(&self, words: &[&str]) -> Ran {
        self.start(words).wait()
    }

    /// The same with these environment variables.
    pub fn piton_with(&self, variables: &[(&str, &str)], words: &[&str]) -> Ran {
        self.start_with(variables, words).wait()
    }

    /// Starts the program and leaves it running.
    pub fn start(&self, words: &[&str]) -> Running {
        self.start_with(&[], words)
    }

    pub fn start_with(&self, variables: &[(&str, &str)], words: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_piton"));
        command.args(words).current_dir(self.deploy());
        self.surround(&mut command);
        command.env("PITON_STATE_DIR", self.state_dir()).env("PITON_ACTOR", "tester");
        command.envs(variables.iter().copied());
        Running::start(command, self.root(), words)
    }

    pub fn status(&self, environment: &str) -> Value {
        let mut line = self.piton(&["status", environment, "--json"]).ends(0).json();
        line["environments"][environment].take()
    }

    /// Looks at an environment until this is so.
    pub fn until_status(&self, environment: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        until(what, || Some(self.status(environment)).filter(&so))
    }

    // ---- what runs

    /// The version of a service that the environment's users get.
    pub fn served(&self, environment: &str) -> String {
        let report = self.report(environment).expect("a supervisor runs");
        let answer = get(&format!("{}/version", report.facts["url"].trim_end_matches('/')));
        let body: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("no version in {answer:?}"));
        body["version"].as_str().expect("a version").to_owned()
    }

    pub fn report(&self, environment: &str) -> Option<process::Report> {
        let state = self.state_dir().join(environment);
        run(async move { process::report(&state).await.expect("it answers") })
    }

    /// Running processes that belong to this sandbox, with their words.
    pub fn processes(&self) -> Vec<(i32, String)> {
        processes::of(self.root())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let states = fs::read_dir(self.state_dir()).into_iter().flatten().flatten().map(|entry| entry.path());
        for state in states.collect::<Vec<_>>() {
            // What cannot be ended politely is found below.
            let _ = run(async move { process::shutdown(&state, false).await });
        }
        let left = until_none(|| self.processes());
        for (pid, _) in &left {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
        }
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left over: {left:?}");
        }
    }
}

/// A process that is ending may take a moment.
fn until_none<T>(mut look: impl FnMut() -> Vec<T>) -> Vec<T> {
    let began = Instant::now();
    loop {
        let left = look();
        if left.is_empty() || began.elapsed() > Duration::from_secs(10) {
            return left;
        }
        std::thread::park_timeout(PACE);
    }
}

/// A pipeline over two services, with these environments.
pub fn pipeline(environments: &str) -> String {
    PIPELINE.replace("@PITON@", env!("CARGO_BIN_EXE_piton")).replace("@ENVIRONMENTS@", environments.trim_matches('\n'))
}

const PIPELINE: &str = r#"name: sandbox

components:
  web: { file: services/web.yaml, path: version, restarts: "the front page" }
  store: { file: services/store.yaml, path: version, restarts: "what is kept" }

gates:
  front: { http: { url: "${candidate_url}/", expect: { status: 200 } }, every: 100ms, timeout: 5s }
  work: { http: { url: "${candidate_url}/work", expect: { status: 200 } }, every: 100ms, timeout: 5s }

defaults:
  target:
    process:
      drain: 1s
      services:
        web:
          run: ["@PITON@", sample, --port, "${port}", --file, services/web.yaml, --call, "${service.store.url}"]
          ready: { path: /ready, within: 30s }
          route: /
          stop: 1s
          inputs: [services/web.yaml]
        store:
          run: ["@PITON@", sample, --port, "${port}", --file, services/store.yaml]
          ready: { path: /ready, within: 30s }
          stop: 1s
          inputs: [services/store.yaml]

environments:
@ENVIRONMENTS@
"#;

/// Looks at the real thing until it is so, with an end.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_or(what, look, String::new)
}

/// The same, with more to say where it ends in vain.
pub fn until_or<T>(what: &str, mut look: impl FnMut() -> Option<T>, said: impl Fn() -> String) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(began.elapsed() < LONGEST, "waited {LONGEST:?} for {what}: {}", said());
        std::thread::park_timeout(PACE);
    }
}

/// Asks an address of a service; the whole answer as text.
pub fn get(url: &str) -> String {
    let url = url.to_owned();
    run(async move {
        let answer = ask(&url).await;
        answer.unwrap_or_else(|why| panic!("no answer from {url}: {why}"))
    })
}

async fn ask(url: &str) -> Result<String, String> {
    use http_body_util::BodyExt;
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    let client = Client::builder(TokioExecutor::new()).build_http::<http_body_util::Empty<hyper::body::Bytes>>();
    let address = url.parse().map_err(|e| format!("{e}"))?;
    let response = tokio::time::timeout(LONGEST, client.get(address)).await.map_err(|e| e.to_string())?;
    let body = response.map_err(|e| e.to_string())?.into_body().collect().await.map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

/// Runs a future to its end, wherever we are.
pub fn run<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let runs = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(future)
    });
    runs.join().expect("no panic")
}
