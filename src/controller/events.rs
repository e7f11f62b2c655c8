//! Kubernetes Events of what people want to see with `kubectl`: a promotion began, was promoted, went back, is stuck.
//! Each has a name that follows from what it tells, so that it is there once; none of them ever matters to a
//! promotion.

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, api::PostParams};
use tokio::sync::mpsc;

use super::metrics::{Metrics, Place};
use crate::{
    clients::kube::{Cluster, KubeError},
    commands::LeaseName,
};

/// Events that wait to be sent; one more is dropped.
const WAITING_MAX: usize = 64;
/// What Kubernetes takes of a note, in bytes.
const NOTE_BYTES_MAX: usize = 1_000;

/// Something that people want to see.
#[derive(Debug, Clone)]
pub struct Announcement {
    pub place: Place,
    pub attempt: u64,
    pub reason: &'static str,
    pub warning: bool,
    pub note: String,
}

/// Where announcements go. Clones share it.
#[derive(Clone, Default)]
pub struct Announcer(Option<mpsc::Sender<Announcement>>);

impl Announcer {
    /// Starts the task that writes them; it ends with the last clone.
    pub fn start(cluster: &Cluster, lease: &LeaseName, replica: String, metrics: Metrics) -> Announcer {
        let (to, mut announcements) = mpsc::channel::<Announcement>(WAITING_MAX);
        let scribe = Scribe { cluster: cluster.clone(), regarding: regarding(lease), replica };
        tokio::spawn(async move {
            let mut said = None;
            while let Some(announcement) = announcements.recv().await {
                metrics.asked_cluster("event");
                let written = scribe.write(&announcement).await.err().map(|error| error.to_string());
                if written.is_some() && written != said {
                    tracing::warn!("an Event could not be written: {}", written.as_deref().unwrap_or_default());
                }
                said = written;
            }
        });
        Announcer(Some(to))
    }

    pub fn announce(&self, announcement: Announcement) {
        if let Some(to) = &self.0 {
            // A full queue drops it: the ledger has it all.
            let _ = to.try_send(announcement);
        }
    }
}

struct Scribe {
    cluster: Cluster,
    regarding: ObjectReference,
    replica: String,
}

impl Scribe {
    async fn write(&self, announcement: &Announcement) -> Result<(), KubeError> {
        let namespace = self.regarding.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.cluster.client.clone(), &namespace);
        match api.create(&PostParams::default(), &self.event(announcement, namespace)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn event(&self, announcement: &Announcement, namespace: String) -> Event {
        let Announcement { place, attempt, reason, warning, note } = announcement;
        let key = format!("{}/{}/{attempt}/{reason}", place.pipeline, place.environment);
        let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
        let hex: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("piton-{hex}")),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(jiff::Timestamp::now())),
            type_: Some(if *warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some((*reason).to_owned()),
            action: Some("Promote".to_owned()),
            note: Some(shortened(&format!("{} {}: {note}", place.pipeline, place.environment))),
            regarding: Some(self.regarding.clone()),
            reporting_controller: Some("piton.dev/controller".to_owned()),
            reporting_instance: Some(self.replica.clone()),
            ..Event::default()
        }
    }
}

/// Our own pod, if we are told which; else the Lease.
fn regarding(lease: &LeaseName) -> ObjectReference {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (variable("POD_NAME"), variable("POD_NAMESPACE"), variable("POD_UID")) {
        (Some(name), Some(namespace), uid @ Some(_)) => ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name),
            namespace: Some(namespace),
            uid,
            ..ObjectReference::default()
        },
        _ => ObjectReference {
            api_version: Some("coordination.k8s.io/v1".to_owned()),
            kind: Some("Lease".to_owned()),
            name: Some(lease.name.clone()),
            namespace: Some(lease.namespace.clone()),
            ..ObjectReference::default()
        },
    }
}

fn shortened(text: &str) -> String {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= NOTE_BYTES_MAX).last();
    text[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"ü".repeat(600)).len(), 1_000);
        assert_eq!(shortened(""), "");
    }
}
