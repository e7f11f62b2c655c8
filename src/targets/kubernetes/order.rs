//! The order in which objects are applied: what others need goes first; what stops others from being made goes last.

use super::manifest::Manifest;
use crate::clients::kube::ObjectId;

/// A place in the order. What has the same place is applied together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Namespaces,
    Definitions,
    Rules,
    Accounts,
    Configuration,
    Services,
    Workloads,
    Rest,
    Admission,
}

/// The rank of an object by its kind.
pub fn rank(id: &ObjectId) -> Rank {
    match (id.group(), id.kind.as_str()) {
        ("", "Namespace") => Rank::Namespaces,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => Rank::Definitions,
        ("", "ResourceQuota" | "LimitRange")
        | ("scheduling.k8s.io" | "storage.k8s.io" | "node.k8s.io", _)
        | ("networking.k8s.io", "NetworkPolicy" | "IngressClass") => Rank::Rules,
        ("", "ServiceAccount") | ("rbac.authorization.k8s.io", _) => Rank::Accounts,
        ("", "ConfigMap" | "Secret" | "PersistentVolume" | "PersistentVolumeClaim") => Rank::Configuration,
        ("", "Service" | "Endpoints") | ("discovery.k8s.io", _) => Rank::Services,
        ("", "Pod" | "ReplicationController") | ("apps" | "batch", _) => Rank::Workloads,
        ("admissionregistration.k8s.io" | "apiregistration.k8s.io", _) => Rank::Admission,
        _ => Rank::Rest,
    }
}

/// The manifests by rank; within one, in the order of their names.
pub fn ranks(manifests: &[Manifest]) -> Vec<(Rank, Vec<&Manifest>)> {
    let mut sorted: Vec<&Manifest> = manifests.iter().collect();
    sorted.sort_by(|a, b| (rank(&a.id), &a.id).cmp(&(rank(&b.id), &b.id)));
    let mut ranks: Vec<(Rank, Vec<&Manifest>)> = Vec::new();
    for manifest in sorted {
        let rank = rank(&manifest.id);
        match ranks.last_mut().filter(|(last, _)| *last == rank) {
            Some((_, same)) => same.push(manifest),
            None => ranks.push((rank, vec![manifest])),
        }
    }
    ranks
}

/// Whether an object of this kind is there for all it can be as soon as it is written.
pub fn is_only_text(id: &ObjectId) -> bool {
    match rank(id) {
        Rank::Rules | Rank::Accounts => true,
        // An API that others serve says whether it does.
        Rank::Admission => id.group() == "admissionregistration.k8s.io",
        Rank::Configuration => matches!(id.kind.as_str(), "ConfigMap" | "Secret"),
        Rank::Namespaces | Rank::Definitions | Rank::Services | Rank::Workloads | Rank::Rest => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_is_needed_goes_first() {
        let kinds = [
            ("example.org/v1", "Widget"),
            ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
            ("apps/v1", "Deployment"),
            ("v1", "Service"),
            ("v1", "Secret"),
            ("rbac.authorization.k8s.io/v1", "RoleBinding"),
            ("v1", "ResourceQuota"),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
            ("v1", "Namespace"),
            ("batch/v1", "Job"),
        ];
        let manifests: Vec<Manifest> = kinds.iter().map(|(version, kind)| manifest(version, kind)).collect();
        let order: Vec<&str> =
            ranks(&manifests).iter().flat_map(|(_, same)| same).map(|m| m.id.kind.as_str()).collect();
        let expected = [
            "Namespace",
            "CustomResourceDefinition",
            "ResourceQuota",
            "RoleBinding",
            "Secret",
            "Service",
            "Deployment",
            "Job",
            "Widget",
            "ValidatingWebhookConfiguration",
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn what_says_how_it_is_doing_is_watched() {
        let texts = |version: &str, kind: &str| is_only_text(&id(version, kind));
        assert!(texts("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"));
        assert!(!texts("apiregistration.k8s.io/v1", "APIService"));
        assert!(texts("v1", "Secret") && !texts("v1", "PersistentVolumeClaim"));
    }

    fn id(version: &str, kind: &str) -> ObjectId {
        ObjectId { api_version: version.to_owned(), kind: kind.to_owned(), namespace: None, name: "x".to_owned() }
    }

    fn manifest(version: &str, kind: &str) -> Manifest {
        let id = id(version, kind);
        Manifest { id, object: Value::Null, file: String::new(), line: 0, document: 0 }
    }
}
