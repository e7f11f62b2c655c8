//! The events that a kubelet writes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Something that happened to a pod or a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Said {
    kind: &'static str,
    reason: &'static str,
    message: String,
}

impl Said {
    pub fn normal(reason: &'static str, message: String) -> Said {
        Said { kind: "Normal", reason, message }
    }

    pub fn warning(reason: &'static str, message: String) -> Said {
        Said { kind: "Warning", reason, message }
    }
}

/// About whom something is said.
#[derive(Debug, Clone)]
pub struct About {
    pub node: String,
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// The container's place in the pod, as in `spec.containers{web}`.
    pub field: Option<String>,
}

/// Writes events in their order, apart from everything else, so that nobody waits for them.
#[derive(Debug, Clone)]
pub struct Voice {
    sender: mpsc::UnboundedSender<(About, Said)>,
}

impl Voice {
    pub fn start(client: Client) -> Voice {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(write_all(client, receiver));
        Voice { sender }
    }

    pub fn say(&self, about: &About, said: Said) {
        // The cluster may be at its end.
        let _ = self.sender.send((about.clone(), said));
    }
}

/// What is said again is counted, as the real kubelet does.
async fn write_all(client: Client, mut receiver: mpsc::UnboundedReceiver<(About, Said)>) {
    let mut known: BTreeMap<(String, Option<String>, Said), (String, u32)> = BTreeMap::new();
    let mut number = 0u64;
    while let Some((about, said)) = receiver.recv().await {
        let events: Api<Event> = Api::namespaced(client.clone(), &about.namespace);
        let key = (about.uid.clone(), about.field.clone(), said.clone());
        // An event that cannot be written is not worth a second try: the namespace is on its way out.
        if let Some((name, count)) = known.get_mut(&key) {
            *count += 1;
            let more = json!({"count": *count, "lastTimestamp": Timestamp::now()});
            let _ = events.patch(name, &PatchParams::default(), &Patch::Merge(&more)).await;
            continue;
        }
        number += 1;
        let name = format!("{}.{:016x}", about.pod, (Timestamp::now().as_nanosecond() as u64).wrapping_add(number));
        let event = serde_json::from_value(event(&name, &about, &said)).expect("a good event");
        let _ = events.create(&PostParams::default(), &event).await;
        known.insert(key, (name, 1));
    }
}

fn event(name: &str, about: &About, said: &Said) -> Value {
    let now = Timestamp::now();
    json!({
        "metadata": {"name": name, "namespace": about.namespace},
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": about.namespace, "name": about.pod, "uid": about.uid,
            "fieldPath": about.field,
        },
        "type": said.kind, "reason": said.reason, "message": said.message,
        "source": {"component": "kubelet", "host": about.node},
        "reportingComponent": "kubelet", "reportingInstance": about.node,
        "firstTimestamp": now, "lastTimestamp": now, "count": 1,
    })
}
