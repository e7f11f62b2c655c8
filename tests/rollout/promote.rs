//! What a person sees of it, with the real program.

use std::time::{Duration, Instant};

use crate::{
    cluster::Cluster,
    support::{Ran, Sandbox},
};

/// What a broken release may take from the command to the end: three seconds to decide, and the pauses of the crash itself.
const DECIDED_WITHIN: Duration = Duration::from_secs(3);
const CRASHES_FOR: Duration = Duration::from_secs(2);

struct Shop {
    cluster: &'static Cluster,
    namespace: String,
    sandbox: Sandbox,
    /// How long the first release took, as the same program on the same machine does it: the control.
    good_took: Duration,
}

impl Shop {
    /// A shop whose first release is out and good.
    async fn open() -> Shop {
        let cluster = Cluster::shared().await;
        let namespace = cluster.namespace("shop").await;
        let mut shop = Shop { cluster, namespace, sandbox: Sandbox::empty(), good_took: Duration::ZERO };
        shop.bakes("100ms").await;
        shop.release("1.0.0");
        let began = Instant::now();
        shop.promote().ends(0);
        shop.good_took = began.elapsed();
        shop
    }

    async fn bakes(&self, time: &str) {
        let identity = self.cluster.client().await.identity().await.expect("kube-system is there");
        let text = PIPELINE
            .replace("@IDENTITY@", &identity)
            .replace("@FILE@", &self.cluster.kubeconfig().display().to_string())
            .replace("@NAMESPACE@", &self.namespace)
            .replace("@BAKE@", time);
        self.sandbox.write("pipelines/shop.yaml", text);
    }

    fn release(&self, tag: &str) {
        self.sandbox.write("deploy/web.yaml", WEB.replace("@TAG@", tag));
        self.sandbox.commit(&format!("web {tag}"));
    }

    /// A way back is a deploy, too: with its own, a broken release takes no more than three good ones, each with a bake.
    fn back_within(&self) -> Duration {
        DECIDED_WITHIN + CRASHES_FOR + 3 * self.good_took
    }

    /// The program waits for itself; the test's own tasks go on meanwhile.
    fn promote(&self) -> Ran {
        tokio::task::block_in_place(|| self.sandbox.piton(&["promote", "production"]))
    }

    async fn image(&self) -> String {
        let web = self.cluster.get("Deployment", &self.namespace, "web").await.expect("it is there");
        web["spec"]["template"]["spec"]["containers"][0]["image"].as_str().expect("it is text").to_owned()
    }
}

const PIPELINE: &str = "name: shop
components:
  web: { file: deploy/web.yaml, path: 'spec.template.spec.containers[0].image' }
environments:
  production:
    target:
      kubernetes:
        cluster: { identity: @IDENTITY@, kubeconfig: @FILE@ }
        namespace: @NAMESPACE@
        manifests: [deploy]
        rollout: { within: 60s }
    gates: { during: [{ name: pods, workload: {}, every: 1s }] }
    bake: @BAKE@
";

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: example.org/web:@TAG@
          readinessProbe: { httpGet: { path: /, port: 8080 } }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_is_shown_with_its_cause_and_its_last_words() {
    let shop = Shop::open().await;
    shop.release("2.0.0-exit-7");
    let began = Instant::now();
    let ran = shop.promote().ends(1);
    let took = began.elapsed();
    println!("{ran}\nmeasured: crash loop, from the command to its end: {:.2} s", took.as_secs_f64());
    let ran = ran.says("CrashLoopBackOff").says("it ended with exit code 7").says("on node-");
    let ran = ran.says("\n    | panic: example.org/web:2.0.0-exit-7 cannot work: exit code 7");
    ran.says("all users are on the release before");
    assert!(took < shop.back_within(), "{took:?}, and {:?} for a good one", shop.good_took);
    assert_eq!(shop.image().await, "example.org/web:1.0.0");
    // What is written down for good is a line.
    for subject in shop.sandbox.subjects("production") {
        assert!(!subject.contains("panic:"), "{subject}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_bake_goes_back_within_seconds() {
    let shop = Shop::open().await;
    // It is over as soon as the gate sees the crash.
    shop.bakes("2m").await;
    shop.release("2.0.0-fades-told");
    let mut running = shop.sandbox.start(&["promote", "production"]);
    tokio::task::block_in_place(|| running.until_said("→ 100%"));
    let words = ["annotate", "pods", "--namespace", &shop.namespace, "--selector=app=web", "piton.test/end=now"];
    shop.cluster.kubectl(&words).await;
    let began = Instant::now();
    let ran = tokio::task::block_in_place(|| running.wait()).ends(1);
    let took = began.elapsed();
    println!("{ran}\nmeasured: a crash in the bake, from its beginning to the end: {:.2} s", took.as_secs_f64());
    ran.says("gate `pods` failed: Pod ").says("CrashLoopBackOff").says("| panic: ");
    assert!(took < shop.back_within(), "{took:?}, and {:?} for a good one", shop.good_took);
    assert_eq!(shop.image().await, "example.org/web:1.0.0");
}
