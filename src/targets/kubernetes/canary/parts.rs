//! Which objects of a release go when: what is so new that stable cannot notice it goes before the canary, what is stable's
//! own goes when the promotion is over, and all the rest goes with the last step, so that gates and bake judge it.

use serde_json::Value;

use super::{
    Canary, Stand,
    copies::{self, KINDS, Kind, Renames},
    find, id, is,
    labels::{self, Labels},
    shape,
};
use crate::{
    clients::kube::ObjectId,
    targets::{
        TargetError,
        kubernetes::{
            manifest::Manifest,
            order::{self, Rank},
        },
    },
};

impl Canary<'_> {
    /// What the release brings that is not there yet and changes nothing for stable. `ours` are those that were made for this
    /// try before.
    pub async fn newcomers(
        &self,
        manifests: &[Manifest],
        ours: impl Fn(&ObjectId) -> bool,
    ) -> Result<Vec<Manifest>, TargetError> {
        let own = self.stables_own(manifests).await?;
        let mut new = Vec::new();
        for manifest in manifests.iter().filter(|manifest| changes_nothing_for_others(manifest)) {
            let held = own.iter().any(|own| is(&manifest.id, own, self.namespace));
            let there = || async { self.hand().get(&manifest.id).await };
            if held || !(ours(&manifest.id) || there().await?.is_none()) {
                continue;
            }
            if order::rank(&manifest.id) == Rank::Workloads && self.is_served(manifest, &ours).await? {
                continue;
            }
            new.push(self.with_copies(manifest, manifests, &own).await?.unwrap_or_else(|| manifest.clone()));
        }
        Ok(new)
    }

    /// What goes with the last step, as it is to be applied then; each with the names of copies where it reads what is stable's.
    pub async fn others(&self, manifests: &[Manifest]) -> Result<Vec<Manifest>, TargetError> {
        let own = self.stables_own(manifests).await?;
        let mut others = Vec::new();
        for manifest in manifests.iter().filter(|m| !own.iter().any(|own| is(&m.id, own, self.namespace))) {
            others.extend(self.with_copies(manifest, manifests, &own).await?);
        }
        Ok(others)
    }

    /// The object with the names of copies. `None`: a Job's pods cannot be given other names later, so that it waits until what
    /// it reads is there itself.
    async fn with_copies(
        &self,
        manifest: &Manifest,
        manifests: &[Manifest],
        own: &[ObjectId],
    ) -> Result<Option<Manifest>, TargetError> {
        let mut manifest = manifest.clone();
        let renames = self.copies_for(&manifest, manifests, own).await?;
        if !renames.is_empty() && manifest.id.kind == "Job" {
            return Ok(None);
        }
        if let Some(spec) = pod_spec(&mut manifest.object) {
            copies::rename(spec, &renames);
        }
        Ok(Some(manifest))
    }

    /// What stable is and reads. It must stay as it is for as long as users may have to go back to it.
    async fn stables_own(&self, manifests: &[Manifest]) -> Result<Vec<ObjectId>, TargetError> {
        let mut own = Vec::new();
        for stand in self.stands() {
            let deployment = stand.stable_id();
            let live = stand.stable().await?;
            let wanted = find(manifests, &deployment, self.namespace).map(|manifest| &manifest.object);
            for object in live.iter().chain(wanted) {
                let read = copies::references(&object["spec"]["template"]["spec"]);
                own.extend(read.into_iter().map(|(kind, name)| kind.id(stand.namespace(), &name)));
            }
            let scalers = manifests.iter().filter(|manifest| shape::counts(&manifest.object, &deployment));
            own.extend(scalers.map(|manifest| manifest.id.clone()));
            own.push(stand.service_id(&stand.pair.stable));
            own.push(deployment);
        }
        Ok(own)
    }

    /// Copies of what a workload reads, what is stable's, and what the release changes.
    async fn copies_for(
        &self,
        manifest: &Manifest,
        manifests: &[Manifest],
        own: &[ObjectId],
    ) -> Result<Renames, TargetError> {
        let mut object = manifest.object.clone();
        let Some(spec) = pod_spec(&mut object) else { return Ok(Renames::new()) };
        let place = manifest.id.namespace.as_deref().unwrap_or(self.namespace);
        let mut renames = Renames::new();
        for stand in self.stands().iter().filter(|stand| stand.namespace() == place) {
            let held = |kind: Kind, name: &str| own.contains(&kind.id(place, name));
            let open = |kind: Kind, name: &str| held(kind, name) && !renames.contains_key(&(kind, name.to_owned()));
            let read: Vec<_> = copies::references(spec).into_iter().filter(|(kind, name)| open(*kind, name)).collect();
            renames.extend(stand.copy_configuration(read, manifests).await?);
        }
        Ok(renames)
    }

    /// Whether users come to a workload as soon as it is there: a Service that is not new selects its pods.
    async fn is_served(&self, manifest: &Manifest, ours: impl Fn(&ObjectId) -> bool) -> Result<bool, TargetError> {
        let place = manifest.id.namespace.as_deref().unwrap_or(self.namespace);
        let pods = labels::read(&manifest.object["spec"]["template"]["metadata"]["labels"]);
        let services = self.hand().list(&id("v1", "Service", place, ""), "").await?;
        let old = services.iter().filter(|service| ObjectId::of(service).is_none_or(|id| !ours(&id)));
        let selectors: Vec<Labels> = old.map(|service| labels::read(&service["spec"]["selector"])).collect();
        Ok(selectors.iter().any(|selector| labels::matches(selector, &pods)))
    }
}

impl Stand<'_> {
    /// Copies of what differs from the live one, which stable's pods still read.
    pub async fn copy_configuration(
        &self,
        read: Vec<(Kind, String)>,
        manifests: &[Manifest],
    ) -> Result<Renames, TargetError> {
        let mut renames = Renames::new();
        for (kind, name) in read {
            let original = kind.id(self.namespace(), &name);
            let Some(wanted) = find(manifests, &original, self.home) else { continue };
            let live = self.hand.get(&original).await?;
            if live.is_some_and(|live| copies::same(kind, &wanted.object, &live)) {
                continue;
            }
            let copy = copies::copy(kind, &wanted.object, self.namespace(), &self.name);
            let new = copy["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            self.hand.apply(copy).await?;
            renames.insert((kind, name), new);
        }
        Ok(renames)
    }
}

/// Whether an object that is new is noticed only by those who name it. Quotas, network policies, defaults, admission rules and
/// routes are noticed by all; what a Job does, it does to data that stable has too; and of other kinds nothing is known.
fn changes_nothing_for_others(manifest: &Manifest) -> bool {
    let object = &manifest.object;
    let default = "storageclass.kubernetes.io/is-default-class";
    match (manifest.id.group(), manifest.id.kind.as_str()) {
        ("", "Namespace" | "ServiceAccount" | "Service" | "PersistentVolume" | "PersistentVolumeClaim")
        | ("apiextensions.k8s.io", "CustomResourceDefinition")
        | ("rbac.authorization.k8s.io", _)
        | ("node.k8s.io", "RuntimeClass")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet") => true,
        ("", kind) => KINDS.iter().any(|known| known.name() == kind),
        ("scheduling.k8s.io", "PriorityClass") => object["globalDefault"] != true,
        ("storage.k8s.io", "StorageClass") => object["metadata"]["annotations"][default] != "true",
        _ => false,
    }
}

/// The description of the pods that an object makes.
fn pod_spec(object: &mut Value) -> Option<&mut Value> {
    let path = match object["kind"].as_str()? {
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        _ => "/spec/template/spec",
    };
    object.pointer_mut(path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(object: Value) -> Manifest {
        let id = ObjectId::of(&object).expect("a name");
        Manifest { id, object, file: String::new(), line: 0, document: 0 }
    }

    #[test]
    fn what_all_would_notice_does_not_go_first() {
        let object = |api_version: &str, kind: &str, more: Value| {
            let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "new"}});
            object.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
            manifest(object)
        };
        let none = || json!({});
        let cases = [
            (object("v1", "ServiceAccount", none()), true),
            (object("v1", "PersistentVolumeClaim", none()), true),
            (object("v1", "Secret", none()), true),
            (object("rbac.authorization.k8s.io/v1", "RoleBinding", none()), true),
            (object("apiextensions.k8s.io/v1", "CustomResourceDefinition", none()), true),
            (object("scheduling.k8s.io/v1", "PriorityClass", json!({"value": 1})), true),
            (object("scheduling.k8s.io/v1", "PriorityClass", json!({"globalDefault": true})), false),
            (object("apps/v1", "Deployment", none()), true),
            (object("batch/v1", "Job", none()), false),
            (object("v1", "ResourceQuota", none()), false),
            (object("v1", "LimitRange", none()), false),
            (object("networking.k8s.io/v1", "NetworkPolicy", none()), false),
            (object("networking.k8s.io/v1", "Ingress", none()), false),
            (object("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", none()), false),
            (object("autoscaling/v2", "HorizontalPodAutoscaler", none()), false),
            (object("example.org/v1", "Widget", none()), false),
        ];
        for (manifest, first) in cases {
            assert_eq!(changes_nothing_for_others(&manifest), first, "{}", manifest.id);
        }
    }
}
