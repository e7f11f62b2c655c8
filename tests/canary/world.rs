//! A small shop in a namespace of its own: a Deployment, what it reads, and what leads users to it.

use std::collections::BTreeSet;

use piton::{
    clients::kube::{Cluster as Kube, ObjectId},
    model::{Release, Share, Span},
    targets::{
        Progress, TargetError,
        kubernetes::{
            canary::{Brought, Canary, Config, hold_replicas},
            manifest::Manifest,
            rollout,
        },
    },
};
use serde_json::{Value, json};

use crate::{cluster::Cluster, kinds::Kind};

pub const PODS: u32 = 4;

pub struct World {
    pub cluster: &'static Cluster,
    pub kube: Kube,
    pub namespace: String,
    pub kind: Kind,
    pub config: Config,
    rollout: rollout::Config,
    progress: Progress,
}

pub fn share(text: &str) -> Share {
    text.parse().expect("a share")
}

/// A release is known by a digit.
pub fn release(number: u8) -> Release {
    Release {
        tree: number.to_string().repeat(40).parse().expect("a tree"),
        source: number.to_string().repeat(40).parse().expect("a commit"),
        versions: [("web".parse().expect("a name"), format!("{number}.0").parse().expect("a version"))].into(),
    }
}

impl World {
    /// A shop that runs release 1.
    pub async fn with(kind: Kind) -> World {
        World::with_config(kind, json!({})).await
    }

    /// The same with more keys for the canary.
    pub async fn with_config(kind: Kind, more: Value) -> World {
        let cluster = Cluster::shared().await;
        kind.install(cluster).await;
        let namespace = cluster.namespace("shop").await;
        let kube = cluster.client().await;
        let mut config = json!({ "deployment": "web", "service": "web", "router": kind.router(), "drain": "0s" });
        config.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        let config = serde_json::from_value(config).expect("a configuration");
        let rollout = rollout::Config::within(Span::seconds(60));
        let world = World { cluster, kube, namespace, kind, config, rollout, progress: Progress::default() };
        world.apply(&world.manifests(1)).await;
        world.stable_runs(1).await;
        world.cluster.wait_until("stable is served", || async { world.served("web").await == PODS as usize }).await;
        world
    }

    /// How many ready pods a Service has.
    pub async fn served(&self, service: &str) -> usize {
        let labels = format!("kubernetes.io/service-name={service}");
        let slices = self.cluster.list("endpointslices", &self.namespace, &labels).await;
        let all = slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        all.filter(|endpoint| endpoint["conditions"]["ready"] == true).count()
    }

    /// Acts under a lease, with the connection that is given.
    pub fn canary<'a>(&'a self, kube: &'a Kube, fence: u64) -> Canary<'a> {
        Canary {
            cluster: kube,
            config: &self.config,
            namespace: &self.namespace,
            fence,
            rollout: &self.rollout,
            progress: &self.progress,
        }
    }

    pub async fn bring_up(&self, number: u8) -> Result<Brought, TargetError> {
        self.canary(&self.kube, 1).bring_up(&release(number), &self.manifests(number)).await
    }

    pub async fn shift(&self, number: u8, to: &str) -> Result<String, TargetError> {
        self.canary(&self.kube, 1).shift(&release(number), &self.manifests(number), share(to)).await
    }

    pub async fn hand_back(&self) -> Result<String, TargetError> {
        self.canary(&self.kube, 1).hand_back(None).await
    }

    /// What the target does when a release is promoted: held by the canary, applied to stable, handed back.
    pub async fn promote(&self, kube: &Kube, number: u8) -> Result<String, TargetError> {
        let canary = self.canary(kube, 1);
        let mut notes = canary.hold(&release(number)).await?;
        let mut manifests = self.manifests(number);
        canary.shape(&mut manifests).await?;
        hold_replicas(kube, &self.namespace, &mut manifests).await?;
        self.apply_by(kube, &manifests).await?;
        self.stable_runs(number).await;
        notes.push_str(&canary.hand_back(None).await?);
        Ok(notes)
    }

    /// The share that really stands in the cluster.
    pub async fn position(&self) -> Share {
        self.canary(&self.kube, 1).look().await.expect("a look").share
    }

    /// A release's objects, as they stand in its files.
    pub fn manifests(&self, number: u8) -> Vec<Manifest> {
        let tree = release(number).tree.to_string();
        let mut all = vec![
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"},
                "data": {"greeting": format!("hello from {number}")}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "same"}, "data": {"a": "1"}}),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"},
                "stringData": {"key": format!("k{number}")}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
                "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}),
            deployment(number),
        ];
        all.extend(self.kind.route(&self.namespace));
        let manifest = |mut object: Value| {
            object["metadata"]["namespace"] = self.namespace.clone().into();
            object["metadata"]["annotations"]["piton.dev/tree"] = tree.clone().into();
            manifest(object)
        };
        all.into_iter().map(manifest).collect()
    }

    pub async fn apply(&self, manifests: &[Manifest]) {
        self.apply_by(&self.kube, manifests).await.expect("it is applied");
    }

    /// Server-side apply as the target does it: what we wrote before ourselves is no conflict.
    async fn apply_by(&self, kube: &Kube, manifests: &[Manifest]) -> Result<(), TargetError> {
        let params = kube::api::PatchParams::apply("piton").force();
        let failed = |error: String| TargetError::World { what: error, source: None };
        for manifest in manifests {
            let api = kube.api(&manifest.id).await.map_err(|error| failed(error.to_string()))?;
            let patch = kube::api::Patch::Apply(&manifest.object);
            api.patch(&manifest.id.name, &params, &patch).await.map_err(|error| failed(error.to_string()))?;
        }
        Ok(())
    }

    /// All of stable's pods are of the release and ready.
    pub async fn stable_runs(&self, number: u8) {
        let what = format!("stable runs release {number}");
        self.cluster
            .wait_until(&what, || async {
                let stable = self.get("Deployment", "web").await.ok_or("no Deployment")?;
                let status = &stable["status"];
                let wanted = stable["spec"]["replicas"].as_u64();
                let current = status["observedGeneration"] == stable["metadata"]["generation"];
                let all = [&status["replicas"], &status["updatedReplicas"], &status["availableReplicas"]];
                let done = current && all.iter().all(|count| count.as_u64() == wanted);
                let image = stable["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
                let right = image.is_some_and(|image| image == self::image(number));
                if done && right { Ok(()) } else { Err(format!("{status}")) }
            })
            .await;
    }

    pub async fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.cluster.get(kind, &self.namespace, name).await
    }

    /// The UIDs of stable's own pods: who they are, not only how many.
    pub async fn stable_pods(&self) -> BTreeSet<String> {
        let pods = self.cluster.list("pods", &self.namespace, "team=shop,!piton.dev/canary").await;
        let alive = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        alive.filter_map(|pod| pod["metadata"]["uid"].as_str().map(str::to_owned)).collect()
    }

    /// Everything that a canary could change, without what differs from run to run.
    pub async fn state(&self) -> Value {
        let mut state = json!({});
        for kind in ["deployments", "services", "configmaps", "secrets", "ingresses"] {
            let objects = self.cluster.list(kind, &self.namespace, "").await;
            for object in objects.iter().filter(|object| object["metadata"]["name"] != "kube-root-ca.crt") {
                let name = object["metadata"]["name"].as_str().expect("a name");
                let spec = match kind {
                    "deployments" => json!([object["spec"]["replicas"], object["spec"]["template"]]),
                    "services" => json!([object["spec"]["selector"], object["spec"]["ports"]]),
                    "ingresses" => json!([annotations(object), object["spec"]]),
                    _ => object["data"].clone(),
                };
                state[kind][name] = spec;
            }
        }
        if let Some(route) = self.kind.route_of(self).await {
            state["route"] = json!([route["spec"], annotations(&route)]);
        }
        state
    }

    /// Deletes the namespace without waiting for its end.
    pub async fn gone(self) {
        self.cluster.kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]).await;
    }
}

fn annotations(object: &Value) -> Value {
    let all = object["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    let ours = |key: &String| !key.starts_with("piton.dev/") || key.ends_with("traffic");
    Value::Object(all.into_iter().filter(|(key, _)| ours(key)).collect())
}

/// An HTTPRoute leads nobody to anything but stable.
pub fn only_stable(route: &Value) {
    let backends = route["spec"]["rules"][1]["backendRefs"].as_array().expect("backends");
    let names: Vec<&Value> = backends.iter().map(|backend| &backend["name"]).collect();
    assert_eq!((names.as_slice(), &backends[0]["weight"]), ([&json!("web")].as_slice(), &json!(1)), "{route}");
}

pub fn manifest(object: Value) -> Manifest {
    let id = ObjectId::of(&object).expect("a name");
    Manifest { id, object, file: "k8s/web.yaml".to_owned(), line: 1, document: 0 }
}

pub fn image(number: u8) -> String {
    // The fake kubelet reads the last words of a tag; 9 is a release that crashes.
    let how = if number == 9 { "crash" } else { "good" };
    format!("shop/web:{number}.0.0-{how}")
}

fn deployment(number: u8) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": PODS,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web", "team": "shop"}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "web", "image": image(number), "ports": [{"containerPort": 8080}],
                        "envFrom": [{"configMapRef": {"name": "settings"}}, {"configMapRef": {"name": "same"}}],
                        "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "key"}}}],
                    }],
                },
            },
        },
    })
}
