//! A world for the controller: deploy repositories with real origins, and a target whose acts are lines in a file.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    time::Duration,
};

use crate::support::{Ran, Running, Sandbox, until};

pub struct World {
    pub sandbox: Sandbox,
}

/// A line of the target: what was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    pub what: String,
    pub environment: String,
    pub version: String,
    pub share: String,
    pub fence: u64,
    /// Which piton did it.
    pub pid: i32,
}

/// A controller at work.
pub struct Controller {
    pub running: Running,
    pub port: u16,
}

/// One environment with a canary step that holds for so long.
pub fn production(hold: &str) -> String {
    format!(
        "  production:
    gates: {{ during: [fine] }}
    canary: [{{ share: 10%, hold: {hold} }}, {{ share: 50%, hold: {hold} }}, {{ share: 100%, hold: 0s }}]
    bake: 300ms
"
    )
}

impl World {
    pub fn new(environments: &str) -> World {
        let world = World { sandbox: Sandbox::empty() };
        world.sandbox.write("pipelines/shop.yaml", world.pipeline("shop", environments));
        world.sandbox.write("services/web.yaml", "version: 1.0.0\n");
        world.sandbox.commit("the first services");
        world
    }

    /// A pipeline over one component, whose target writes down what it does.
    pub fn pipeline(&self, name: &str, environments: &str) -> String {
        let log = self.log().display().to_string();
        let line = |what: &str| {
            format!(
                "[sh, -c, 'echo {what} $PITON_ENVIRONMENT $PITON_VERSION_WEB s$PITON_SHARE $PITON_FENCE $PPID \
                 >> {log}']"
            )
        };
        format!(
            "name: {name}
components:
  web: {{ file: services/web.yaml, path: version }}
gates:
  fine:
    command: {{ run: [sh, -c, 'case ${{version.web}} in *bad*) exit 1;; esac'] }}
    every: 200ms
    timeout: 20s
defaults:
  target:
    command:
      apply: {}
      weight: {}
      rollback: {}
environments:
{environments}",
            line("apply"),
            line("weight"),
            line("rollback"),
        )
    }

    pub fn log(&self) -> PathBuf {
        self.sandbox.path("acts")
    }

    pub fn acts(&self) -> Vec<Act> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(act).collect()
    }

    /// The next version of the component, committed and pushed.
    pub fn push(&self, version: &str) {
        self.sandbox.write("services/web.yaml", format!("version: {version}\n"));
        self.sandbox.commit(&format!("web {version}"));
    }

    /// Starts a controller that keeps its files in a folder of its own.
    pub fn serve(&self, name: &str, words: &[&str]) -> Controller {
        self.serve_with(name, &[], words)
    }

    pub fn serve_with(&self, name: &str, variables: &[(&str, &str)], words: &[&str]) -> Controller {
        let state = self.sandbox.path(&format!("state-{name}")).display().to_string();
        let follow = format!("shop={}", self.sandbox.origin().display());
        let mut all = vec!["serve", "--listen", "127.0.0.1:0", "--state-dir", &state, "--replica", name];
        if !words.contains(&"--follow") {
            all.extend(["--follow", &follow]);
        }
        all.extend(words);
        let mut running = self.sandbox.start_with(variables, &all);
        running.until_said("serving on http://127.0.0.1:");
        let said = running.said();
        let port = said.rsplit(':').next().and_then(|port| port.trim().parse().ok()).expect("a port");
        Controller { running, port }
    }

    /// Waits until the version is promoted, by what the origin has.
    pub fn until_promoted(&self, environment: &str, version: &str) {
        until(&format!("{version} to be promoted into {environment}"), || {
            (self.is_good(environment, version)).then_some(())
        });
    }

    pub fn is_good(&self, environment: &str, version: &str) -> bool {
        self.in_origin(&format!("refs/piton/{environment}/good"), "services/web.yaml")
            .is_some_and(|text| text.contains(version))
    }

    /// The text of a file at a ref of the origin.
    pub fn in_origin(&self, name: &str, file: &str) -> Option<String> {
        let mut git = std::process::Command::new("git");
        git.current_dir(self.sandbox.origin()).args(["show", &format!("{name}:{file}")]);
        let shown = git.output().expect("git is installed");
        shown.status.success().then(|| String::from_utf8_lossy(&shown.stdout).into_owned())
    }

    /// Waits for an act, and gives it.
    pub fn until_act(&self, what: &str, so: impl Fn(&Act) -> bool) -> Act {
        until(what, || self.acts().into_iter().find(&so))
    }

    /// The events of the environment as the ledger has them, oldest first.
    pub fn events(&self, environment: &str) -> Vec<serde_json::Value> {
        let log = self.sandbox.git_in(
            &self.sandbox.origin(),
            &[
                "log",
                "--reverse",
                "--format=%(trailers:key=Piton-Event,valueonly,unfold)",
                &format!("piton/{environment}"),
            ],
        );
        log.lines().filter(|line| !line.is_empty()).filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

fn act(line: &str) -> Act {
    let words: Vec<&str> = line.split(' ').collect();
    let [what, environment, version, share, fence, pid] = words[..] else {
        panic!("not a line of the target: {line:?}")
    };
    Act {
        what: what.to_owned(),
        environment: environment.to_owned(),
        version: version.to_owned(),
        share: share.trim_start_matches('s').to_owned(),
        fence: fence.parse().expect("a number"),
        pid: pid.parse().expect("a number"),
    }
}

impl Controller {
    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    /// Asks it; the status and the body.
    pub fn ask(&self, path: &str) -> (u16, String) {
        self.send("GET", path, &[], b"").unwrap_or_else(|why| panic!("no answer to {path}: {why}"))
    }

    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        self.send("POST", path, headers, body).unwrap_or_else(|why| panic!("no answer to {path}: {why}"))
    }

    /// Sends one request; an error where nobody answers.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(u16, String), std::io::Error> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status, body.to_owned()))
    }

    pub fn until_ready(&self, word: &str) {
        until(&format!("it to be ready as {word}"), || {
            let (status, page) = self.send("GET", "/readyz", &[], b"").ok()?;
            (status == 200 && page.starts_with(word)).then_some(())
        });
    }

    /// Asks it to leave, and waits for its end.
    pub fn leave(self) -> Ran {
        self.running.signal(nix::sys::signal::Signal::SIGTERM);
        self.running.wait()
    }
}
