//! What a release's own manifests must say while users are led by us, and while an autoscaler counts pods.

use serde_json::Value;

use super::{Stand, id, is, names::CANARY};
use crate::{
    clients::kube::{Cluster, ObjectId},
    targets::{
        TargetError,
        kubernetes::{
            manifest::Manifest,
            traffic::{
                self,
                hand::{Hand, MANAGER},
                record,
            },
        },
    },
};

impl Stand<'_> {
    /// Routes and the stable Service keep what leads users at this moment.
    pub async fn shape(&self, manifests: &mut [Manifest]) -> Result<(), TargetError> {
        for route in self.steer().routes().await? {
            let Some(manifest) = manifests.iter_mut().find(|m| is(&m.id, &route, self.home)) else { continue };
            let live = self.hand.get(&route).await?;
            let Some(record) = live.as_ref().and_then(record::read) else { continue };
            let extras = self.track.extras();
            manifest.object = traffic::steered(
                &self.track.router,
                &self.pair,
                &manifest.object,
                record.share,
                &extras,
                self.hand.fence,
            )
            .map_err(|fault| TargetError::Release(format!("{}: {route}: {fault}", manifest.file)))?;
        }
        if self.is_narrowed().await? {
            let service = self.service_id(&self.pair.stable);
            if let Some(manifest) = manifests.iter_mut().find(|m| is(&m.id, &service, self.home)) {
                manifest.object["spec"]["selector"][CANARY] = self.name.clone().into();
            }
        }
        Ok(())
    }
}

/// Leaves the number of pods to autoscalers: a workload that one of them counts gets the number that it has.
pub async fn hold_replicas(cluster: &Cluster, namespace: &str, manifests: &mut [Manifest]) -> Result<(), TargetError> {
    let hand = Hand { cluster, fence: 0, owner: String::new() };
    let places: std::collections::BTreeSet<String> = manifests
        .iter()
        .filter(|manifest| !manifest.object["spec"]["replicas"].is_null())
        .map(|manifest| manifest.id.namespace.clone().unwrap_or_else(|| namespace.to_owned()))
        .collect();
    let mut scalers: Vec<(String, Value)> = Vec::new();
    for place in &places {
        let live = hand.list(&id("autoscaling/v2", "HorizontalPodAutoscaler", place, ""), "").await?;
        scalers.extend(live.into_iter().map(|scaler| (place.clone(), scaler)));
    }
    let own = manifests.iter().filter(|manifest| manifest.id.kind == "HorizontalPodAutoscaler");
    let place = |id: &ObjectId| id.namespace.clone().unwrap_or_else(|| namespace.to_owned());
    scalers.extend(own.map(|manifest| (place(&manifest.id), manifest.object.clone())));
    for manifest in manifests.iter_mut() {
        let at = place(&manifest.id);
        let scaled = scalers.iter().any(|(place, scaler)| *place == at && counts(scaler, &manifest.id));
        if !scaled || manifest.object["spec"]["replicas"].is_null() {
            continue;
        }
        let id = ObjectId { namespace: Some(at), ..manifest.id.clone() };
        if let Some(live) = hand.get(&id).await? {
            keep_replicas(&mut manifest.object, &live);
        }
    }
    Ok(())
}

/// Whether an object is an autoscaler of a workload.
pub fn counts(scaler: &Value, workload: &ObjectId) -> bool {
    let target = &scaler["spec"]["scaleTargetRef"];
    target["kind"] == workload.kind.as_str() && target["name"] == workload.name.as_str()
}

/// The number is left out where it is not ours. Where it is, leaving it out would reset it to one, so it stays as it is.
/// None at all is no autoscaler's number: none counts a workload that somebody has put to zero.
fn keep_replicas(wanted: &mut Value, live: &Value) {
    if live["spec"]["replicas"] == 0 && wanted["spec"]["replicas"] != 0 {
        return;
    }
    let entries = live["metadata"]["managedFields"].as_array().into_iter().flatten();
    let ours = entries.into_iter().any(|entry| {
        let applied = entry["manager"] == MANAGER && entry["operation"] == "Apply";
        applied && !entry["fieldsV1"]["f:spec"]["f:replicas"].is_null()
    });
    match (ours, wanted["spec"].as_object_mut()) {
        (true, Some(spec)) => drop(spec.insert("replicas".to_owned(), live["spec"]["replicas"].clone())),
        (false, Some(spec)) => drop(spec.shift_remove("replicas")),
        (_, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_autoscalers_number_is_kept() {
        let live = |manager: &str| {
            json!({"metadata": {"managedFields": [
                {"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            ]}, "spec": {"replicas": 9}})
        };
        let mut wanted = json!({"spec": {"replicas": 3}});
        keep_replicas(&mut wanted, &live("piton"));
        assert_eq!(wanted, json!({"spec": {"replicas": 9}}));
        keep_replicas(&mut wanted, &live("kube-controller-manager"));
        assert_eq!(wanted, json!({"spec": {}}));
        let mut down = live("kubectl");
        down["spec"]["replicas"] = json!(0);
        for (wants, kept) in [(json!(3), json!({"spec": {"replicas": 3}})), (json!(0), json!({"spec": {}}))] {
            let mut wanted = json!({"spec": {"replicas": wants}});
            keep_replicas(&mut wanted, &down);
            assert_eq!(wanted, kept);
        }
    }

    #[test]
    fn an_autoscaler_counts_what_it_names() {
        let scaler =
            json!({"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
        let named = |kind: &str, name: &str| id("apps/v1", kind, "hub", name);
        assert!(counts(&scaler, &named("Deployment", "web")));
        assert!(!counts(&scaler, &named("Deployment", "api")));
        assert!(!counts(&scaler, &named("StatefulSet", "web")));
    }
}
