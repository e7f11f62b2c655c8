//! Two replicas on a real Lease.

use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::hooks::github;
use crate::{
    cluster::Cluster,
    support::until,
    world::{Controller, World, production},
};

/// Shorter than in production, so that losing it does not take long.
const SHORT: [&str; 6] = ["--lease-duration", "6s", "--lease-deadline", "4s", "--lease-retry", "500ms"];

/// A world, and a Lease in a namespace of its own.
struct Replicas {
    world: World,
    cluster: &'static Cluster,
    namespace: String,
    lease: String,
    kubeconfig: String,
}

impl Replicas {
    async fn new(hold: &str) -> Replicas {
        let cluster = Cluster::shared().await;
        let namespace = cluster.namespace("serve").await;
        let lease = format!("{namespace}/piton");
        let kubeconfig = cluster.kubeconfig().display().to_string();
        Replicas { world: World::new(&production(hold)), cluster, namespace, lease, kubeconfig }
    }

    fn serve(&self, name: &str, words: &[&str]) -> Controller {
        let mut all = vec!["--lease", self.lease.as_str(), "--kubeconfig", &self.kubeconfig];
        all.extend(words);
        self.world.serve_with(name, &[("PITON_WEBHOOK_SECRET", "s3cr3t")], &all)
    }

    /// The first is up and leads before the second comes.
    fn pair(&self, words: &[&str]) -> (Controller, Controller) {
        let leader = self.serve("a", words);
        leader.until_ready("leader");
        let standby = self.serve("b", words);
        standby.until_ready("standby behind a_");
        (leader, standby)
    }

    async fn spec(&self) -> Value {
        let lease = self.cluster.get("Lease", &self.namespace, "piton").await.expect("the Lease");
        lease["spec"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_in_mid_canary_is_followed_by_the_other() {
    // With the times of production, as this is the figure that counts.
    let replicas = Replicas::new("4s").await;
    let (leader, standby) = replicas.pair(&["--poll", "1s"]);
    let world = &replicas.world;
    world.until_promoted("production", "1.0.0");
    assert!(world.acts().iter().all(|act| act.pid == leader.pid()), "only the leader acts");
    world.push("1.1.0");
    world.until_act("the first share", |act| act.what == "weight" && act.version == "1.1.0");
    leader.running.signal(Signal::SIGKILL);
    let killed = Instant::now();
    leader.running.wait();
    standby.until_ready("leader");
    let led = killed.elapsed();
    world.until_act("an act of the other", |act| act.pid == standby.pid());
    println!("takeover after kill -9: leads after {led:.1?}, acts after {:.1?}", killed.elapsed());
    world.until_promoted("production", "1.1.0");
    assert_eq!(replicas.spec().await["leaseTransitions"], 1);
    standby.leave().ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_stopped_for_long_cannot_act_any_more() {
    let replicas = Replicas::new("3s").await;
    let words: Vec<&str> = SHORT.iter().copied().chain(["--poll", "500ms"]).collect();
    let (leader, standby) = replicas.pair(&words);
    let world = &replicas.world;
    world.until_promoted("production", "1.0.0");
    world.push("1.1.0");
    let seen = world.until_act("the first share", |act| act.what == "weight" && act.version == "1.1.0");
    leader.running.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    // The process is there, and holds the lease in the ledger: it is taken from it, with a higher fence.
    let act = world.until_act("an act of the other", |act| act.pid == standby.pid());
    println!("takeover from a stopped leader: acts after {:.1?}", stopped.elapsed());
    assert!(act.fence > seen.fence, "{act:?} after {seen:?}");
    leader.running.signal(Signal::SIGCONT);
    let old = leader.pid();
    let ended = leader.running.wait().ends(75);
    assert!(ended.err.contains("leads no more") || ended.err.contains("lost the Lease"), "{ended}");
    world.until_promoted("production", "1.1.0");
    let acts = world.acts();
    let first_of_other = acts.iter().position(|act| act.pid == standby.pid()).expect("it acted");
    assert!(acts[first_of_other..].iter().all(|act| act.pid != old), "{acts:?}");
    standby.leave().ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_hands_over_and_a_standbys_webhook_reaches_the_leader() {
    let replicas = Replicas::new("100ms").await;
    let (leader, standby) = replicas.pair(&["--poll", "1h"]);
    let world = &replicas.world;
    world.until_promoted("production", "1.0.0");
    world.push("1.1.0");
    assert_eq!(github(&standby, "s3cr3t", "1").0, 202);
    world.until_promoted("production", "1.1.0");
    assert!(world.acts().iter().all(|act| act.pid == leader.pid()), "the standby only told");
    let events = until("the Events", || {
        let found = tokio::task::block_in_place(|| {
            let list = replicas.cluster.list("events.events.k8s.io", &replicas.namespace, "");
            tokio::runtime::Handle::current().block_on(list)
        });
        let reasons: Vec<String> =
            found.iter().filter_map(|event| event["reason"].as_str().map(str::to_owned)).collect();
        (reasons.iter().filter(|reason| *reason == "Promoted").count() == 2).then_some(reasons)
    });
    assert_eq!(events.iter().filter(|reason| *reason == "Started").count(), 2, "{events:?}");
    let began = Instant::now();
    leader.leave().ends(0);
    assert_eq!(replicas.spec().await["holderIdentity"].as_str().map(|who| who.starts_with("a_")), Some(false));
    standby.until_ready("leader");
    println!("handed over on SIGTERM within {:.1?}", began.elapsed());
    standby.leave().ends(0);
}
