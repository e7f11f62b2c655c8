//! What stands between a release and the cluster: an admission webhook that is slow or hangs, a quota, a namespace that ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    cluster::access,
    support::until,
    world::{CANARY, World, impatient},
};

/// How a webhook answers.
#[derive(Debug, Clone, Copy)]
enum Pace {
    After(Duration),
    Never,
}

/// A webhook before the Deployments of one namespace, without which none of them can be written.
struct Webhook<'a> {
    world: &'a World,
    pace: watch::Sender<Pace>,
    asked: Arc<AtomicUsize>,
}

impl Webhook<'_> {
    /// The API server waits so many seconds for it.
    fn before(world: &World, timeout_seconds: u32) -> Webhook<'_> {
        let (pace, heed) = watch::channel(Pace::After(Duration::ZERO));
        let asked = Arc::new(AtomicUsize::new(0));
        let certificates = world.cluster.folder().join("certs");
        let (tls, count) = (access::tls(&certificates).expect("the server has them"), asked.clone());
        let port = world.block_on(async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
            let port = listener.local_addr().expect("an address").port();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (tls, heed, count) = (tls.clone(), heed.clone(), count.clone());
                    tokio::spawn(async move {
                        let Ok(stream) = tls.accept(stream).await else { return };
                        let answer = service_fn(|request| {
                            count.fetch_add(1, Ordering::Relaxed);
                            answer(request, heed.clone())
                        });
                        // The server hangs up on a webhook that takes too long.
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                    });
                }
            });
            port
        });
        let authority = std::fs::read(certificates.join("apiserver.crt")).expect("the server has it");
        let text = CONFIGURATION
            .replace("@NAMESPACE@", &world.namespace)
            .replace("@PORT@", &port.to_string())
            .replace("@AUTHORITY@", &STANDARD.encode(authority))
            .replace("@TIMEOUT@", &timeout_seconds.to_string());
        world.block_on(world.cluster.apply(&text));
        let webhook = Webhook { world, pace, asked };
        until("the API server to ask the webhook", || {
            world.kubectl(&["annotate", "deployment", "web", "try=it", "--overwrite", "--dry-run=server"]);
            (webhook.asked() > 0).then_some(())
        });
        webhook
    }

    fn answers(&self, pace: Pace) {
        self.pace.send_replace(pace);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Webhook<'_> {
    fn drop(&mut self) {
        // It stands in the cluster that others use, too.
        let words = ["delete", "validatingwebhookconfiguration", &self.world.namespace, "--ignore-not-found"];
        let _ = self.world.block_on(self.world.cluster.try_kubectl(&words));
    }
}

async fn answer(request: Request<Incoming>, pace: watch::Receiver<Pace>) -> Result<Response<String>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body).expect("an AdmissionReview");
    let now = *pace.borrow();
    match now {
        Pace::After(time) => drop(tokio::time::timeout(time, std::future::pending::<()>()).await),
        Pace::Never => std::future::pending().await,
    }
    let response = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], "allowed": true},
    });
    let answer = Response::builder().header("content-type", "application/json");
    Ok(answer.body(response.to_string()).expect("a good answer"))
}

const CONFIGURATION: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: { name: "@NAMESPACE@" }
webhooks:
  - name: slow.piton.test
    clientConfig: { url: "https://127.0.0.1:@PORT@/", caBundle: "@AUTHORITY@" }
    namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: "@NAMESPACE@" } }
    rules: [{ apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments] }]
    admissionReviewVersions: [v1]
    sideEffects: None
    timeoutSeconds: @TIMEOUT@
    failurePolicy: Fail
"#;

#[test]
fn a_webhook_that_is_slow_and_answers_is_waited_for() {
    let world = World::new(CANARY);
    let webhook = Webhook::before(&world, 10);
    webhook.answers(Pace::After(Duration::from_millis(1_500)));
    world.bump("1.1.0");
    let ran = world.promote().wait().ends(0).says("promoted");
    assert!(!ran.out.contains("failed"), "it is slow and not broken: {ran}");
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

#[test]
fn a_webhook_that_hangs_is_named_and_the_promotion_goes_on_when_it_answers() {
    let world = World::new(CANARY);
    let webhook = Webhook::before(&world, 1);
    let mut running = world.in_the_middle_of("1.1.0");
    webhook.answers(Pace::Never);
    world.may_go_on();
    running.until_said("failed calling webhook \"slow.piton.test\"");
    running.until_said("the webhook does not answer: whoever runs it must mend it, or its configuration goes");
    webhook.answers(Pace::After(Duration::ZERO));
    running.wait().ends(0).says("promoted");
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

#[test]
fn a_quota_that_is_used_up_is_named_and_users_stay_where_they_are() {
    let world = World::new(&impatient());
    let quota = format!(
        "{{apiVersion: v1, kind: ResourceQuota, metadata: {{namespace: {}, name: few}}, spec: {{hard: {{pods: \"2\"}}}}}}",
        world.namespace
    );
    world.block_on(world.cluster.apply(&quota));
    until("the quota to be counted", || {
        let quota = world.object("ResourceQuota", &world.namespace, "few")?;
        (quota["status"]["used"]["pods"] == "2").then_some(())
    });
    world.bump("1.1.0");
    // Others may have used the room up, so the version is not to blame.
    world.promote().wait().ends(75).says("exceeded quota: few");
    world.settles_on("1.0.0");
    world.keeps_the_laws();
    // With room for one more the same version goes.
    world.kubectl(&["delete", "resourcequota", "few"]);
    world.promote().wait().ends(0).says("promoted");
    world.settles_on("1.1.0");
}

#[test]
fn a_namespace_that_ends_in_the_middle_is_named_and_the_way_back_leads_into_a_new_one() {
    let world = World::new(&impatient());
    let running = world.in_the_middle_of("1.1.0");
    // It lingers as long as this does.
    let last =
        "{apiVersion: v1, kind: ConfigMap, metadata: {namespace: NS, name: last, finalizers: [piton.test/last]}}";
    world.block_on(world.cluster.apply(&last.replace("NS", &world.namespace)));
    world.kubectl(&["delete", "namespace", &world.namespace, "--wait=false"]);
    until("everything in it to be gone", || {
        let gone = world.canaries().is_empty() && world.object("Deployment", &world.namespace, "web").is_none();
        gone.then_some(())
    });
    world.may_go_on();
    running.wait().ends(5).says("is being terminated").says("wait until the namespace is gone, then try again");
    world.kubectl(&["patch", "configmap", "last", "--type=merge", "--patch", r#"{"metadata":{"finalizers":null}}"#]);
    until("the namespace to be gone", || world.object("Namespace", "", &world.namespace).is_none().then_some(()));
    world.block_on(world.cluster.kubectl(&["create", "namespace", &world.namespace]));
    world.sandbox.piton(&["rollback", "production", "--reason", "it is anew"]).ends(0).says("rolled back");
    world.settles_on("1.0.0");
}
