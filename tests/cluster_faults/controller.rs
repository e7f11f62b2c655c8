//! The controller as the manifests install it, with a cluster as its target and its Lease in the same one: two replicas with the
//! rights that the manifests give and nothing else.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;

use crate::{
    support::{Ran, Running, until, until_or},
    watchman::Watchman,
    world::{CANARY, IMAGE_PATH, REPLICAS, World, image},
};

/// Shorter than in production, so that a lost leader does not take long.
const SHORT: [&str; 8] =
    ["--poll", "500ms", "--lease-duration", "6s", "--lease-deadline", "4s", "--lease-retry", "500ms"];

/// What is installed: an account with its rights, and a Lease.
struct Installed<'a> {
    world: &'a World,
    namespace: String,
    kubeconfig: PathBuf,
}

struct Replica {
    running: Running,
    port: u16,
}

impl<'a> Installed<'a> {
    fn beside(world: &'a World) -> Installed<'a> {
        let namespace = world.block_on(world.cluster.namespace("piton"));
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes");
        for file in ["access.yaml", "target.yaml"] {
            let text = std::fs::read_to_string(manifests.join(file)).expect("a manifest");
            let text = text
                .replace("namespace: piton", &format!("namespace: {namespace}"))
                .replace("namespace: shop", &format!("namespace: {}", world.namespace))
                // Others install theirs in this cluster, too.
                .replace("name: piton-identity", &format!("name: {namespace}-identity"))
                .replace("name: piton-nodes", &format!("name: {namespace}-nodes"));
            world.block_on(world.cluster.apply(&text));
        }
        let words = ["create", "token", "piton", "--namespace", &namespace];
        let token = world.block_on(world.cluster.kubectl(&words));
        let kubeconfig = world.cluster.kubeconfig_with(&namespace, token.trim());
        Installed { world, namespace, kubeconfig }
    }

    /// What it deploys, it deploys as this account.
    fn deploys(&self, environments: &str) {
        self.world.write_pipeline(&self.kubeconfig, environments);
        self.world.sandbox.commit("another user");
        self.world.sandbox.piton(&["promote", "production"]).ends(0);
    }

    fn start(&self, name: &str) -> Replica {
        let sandbox = &self.world.sandbox;
        let state = sandbox.path(&format!("state-{name}")).display().to_string();
        let follow = format!("shop={}", sandbox.origin().display());
        let (lease, kubeconfig) = (format!("{}/piton", self.namespace), self.kubeconfig.display().to_string());
        let mut words = vec!["serve", "--listen", "127.0.0.1:0", "--state-dir", &state, "--replica", name];
        words.extend(["--follow", &follow, "--lease", &lease, "--kubeconfig", &kubeconfig]);
        words.extend(SHORT);
        let mut running = sandbox.start_with(&[("PITON_WEBHOOK_SECRET", "s3cr3t")], &words);
        running.until_said("serving on http://127.0.0.1:");
        let port = running.said().rsplit(':').next().and_then(|port| port.trim().parse().ok()).expect("a port");
        Replica { running, port }
    }

    /// The first leads before the second comes.
    fn pair(&self) -> (Replica, Replica) {
        let leader = self.start("a");
        leader.until_ready("leader");
        let standby = self.start("b");
        standby.until_ready("standby");
        (leader, standby)
    }
}

impl Replica {
    fn until_ready(&self, word: &str) {
        until(&format!("it to be ready as {word}"), || self.ready().filter(|page| page.starts_with(word)).map(drop));
    }

    /// What `/readyz` says, without its head.
    fn ready(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: piton\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }

    fn killed(self) {
        self.running.signal(Signal::SIGKILL);
        self.running.wait();
    }

    fn leaves(self) -> Ran {
        self.running.signal(Signal::SIGTERM);
        self.running.wait().ends(0)
    }
}

/// Waits until nothing is under way: users may be where they belong a moment before the ledger has it.
fn until_quiet(world: &World) {
    let so = |status: &serde_json::Value| status["attempt"].is_null() && status["rollback"].is_null();
    world.sandbox.until_status("production", "nothing to be under way", so);
}

/// How often the ledger has an event of this kind.
fn count(world: &World, kind: &str) -> usize {
    let events = world.events().into_iter();
    events.filter(|event| serde_json::to_value(event).expect("it was read from JSON")["event"] == kind).count()
}

/// Another version comes, and the ledger has an event of this kind about it.
fn bump_until(world: &World, version: &str, event: &str) {
    let before = count(world, event);
    world.bump(version);
    until_or(
        &format!("the ledger to have `{event}`"),
        || (count(world, event) > before).then_some(()),
        || world.status().to_string(),
    );
}

#[test]
fn a_version_goes_to_all_and_a_bad_one_comes_back_by_the_rights_of_the_manifests() {
    let world = World::new(CANARY);
    let installed = Installed::beside(&world);
    installed.deploys(CANARY);
    let (leader, standby) = installed.pair();
    world.bump("1.1.0");
    world.settles_on("1.1.0");
    world.bump("1.2.0-crash");
    let quarantined = || !world.status()["quarantines"].as_array().expect("a list").is_empty();
    until("the bad one to be kept out", || quarantined().then_some(()));
    world.settles_on("1.1.0");
    until_quiet(&world);
    world.keeps_the_laws();
    let (left, other) = (leader.leaves(), standby.leaves());
    for log in [left.err, other.err] {
        assert!(!log.contains("forbidden"), "{log}");
    }
}

/// The leader is killed, and the other replica goes on.
mod killed {
    use super::followed_from;

    #[test]
    fn when_it_has_begun() {
        followed_from("started");
    }

    #[test]
    fn with_the_canary_up() {
        followed_from("applied");
    }

    #[test]
    fn with_half_of_the_users_on_it() {
        followed_from("shifted");
    }

    #[test]
    fn when_users_are_on_it_and_stable_is_not() {
        followed_from("promoted");
    }
}

fn followed_from(event: &str) {
    let world = World::new(CANARY);
    let installed = Installed::beside(&world);
    installed.deploys(CANARY);
    let (leader, standby) = installed.pair();
    bump_until(&world, "1.1.0", event);
    leader.killed();
    world.settles_on("1.1.0");
    until_quiet(&world);
    standby.until_ready("leader");
    standby.leaves();
    world.keeps_the_laws();
}

/// Nobody of it is left, and a CI job of the next push finds what is under way.
#[test]
fn a_job_takes_over_from_a_controller_that_is_gone() {
    let world = World::new(CANARY);
    let installed = Installed::beside(&world);
    installed.deploys(CANARY);
    let (leader, standby) = installed.pair();
    bump_until(&world, "1.1.0", "shifted");
    standby.killed();
    leader.killed();
    until("a job to bring it to its end", || {
        let ran = world.sandbox.piton(&["promote", "production", "--wait"]);
        // As long as the lease in the ledger is held it is to be tried again.
        assert!(matches!(ran.code, Some(0 | 75)), "{ran}");
        (ran.code == Some(0)).then_some(())
    });
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

/// A promotion of each is in its middle at the same time, and one of them goes back.
#[test]
fn two_pipelines_are_carried_on_side_by_side() {
    let world = World::new(CANARY);
    let installed = Installed::beside(&world);
    let other = world.block_on(world.cluster.namespace("tools"));
    let rights = ["create", "rolebinding", "piton", "--clusterrole=admin", "--namespace", &other];
    let account = format!("--serviceaccount={}:piton", installed.namespace);
    world.block_on(world.cluster.kubectl(&[rights.as_slice(), &[account.as_str()]].concat()));
    world.write_pipeline(&installed.kubeconfig, CANARY);
    let text = world.sandbox.read("pipelines/shop.yaml");
    let text = text
        .replace("name: shop\n", "name: tools\nprefix: tools\n")
        .replace(&world.namespace, &other)
        .replace("deploy/", "tools/");
    world.sandbox.write("pipelines/tools.yaml", text);
    for file in ["web", "service", "config"] {
        let text = world.sandbox.read(&format!("deploy/{file}.yaml"));
        world.sandbox.write(&format!("tools/{file}.yaml"), &text);
    }
    world.sandbox.commit("a second pipeline");
    let tools = Watchman::of(world.cluster.kubeconfig(), &other);
    let all_on = |version: &str| {
        let served = tools.serving();
        served.len() == REPLICAS && served.iter().all(|v| v == version)
    };
    let controller = installed.start("a");
    until("the second to be there", || all_on("1.0.0").then_some(()));
    tools.begin();
    for (folder, version) in [("deploy", "1.1.0"), ("tools", "1.1.0-crash")] {
        world.sandbox.piton(&["edit", &format!("{folder}/web.yaml"), IMAGE_PATH, &image(version)]).ends(0);
        world.sandbox.piton(&["edit", &format!("{folder}/config.yaml"), "data.greeting", version]).ends(0);
    }
    world.sandbox.commit("both at once");
    world.settles_on("1.1.0");
    until("the other to be kept out", || {
        let words = ["status", "production", "--json", "--pipeline", "pipelines/tools.yaml"];
        let status = world.sandbox.piton(&words).ends(0).json();
        let kept = &status["environments"]["production"]["quarantines"];
        kept.as_array().is_some_and(|kept| !kept.is_empty()).then_some(())
    });
    until("everybody of the second to be on what was good", || all_on("1.0.0").then_some(()));
    assert!(tools.was_always_served() && world.watchman.was_always_served());
    controller.leaves();
}
