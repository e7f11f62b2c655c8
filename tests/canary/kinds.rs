//! The routers: their resources as small as they can be, and a route of each.

use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{cluster::Cluster, world::World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Gateway,
    Istio,
    Nginx,
    Traefik,
    Alb,
    Apisix,
    Contour,
    Gloo,
    Smi,
    Replicas,
}

/// Definitions are the cluster's own: two tests must not install one at once.
static INSTALLING: Mutex<()> = Mutex::const_new(());

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Gateway,
        Kind::Istio,
        Kind::Nginx,
        Kind::Traefik,
        Kind::Alb,
        Kind::Apisix,
        Kind::Contour,
        Kind::Gloo,
        Kind::Smi,
        Kind::Replicas,
    ];

    /// Group, version, kind and plural of a custom resource.
    fn resource(self) -> Option<[&'static str; 4]> {
        match self {
            Kind::Gateway => Some(["gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"]),
            Kind::Istio => Some(["networking.istio.io", "v1", "VirtualService", "virtualservices"]),
            Kind::Traefik => Some(["traefik.io", "v1alpha1", "TraefikService", "traefikservices"]),
            Kind::Apisix => Some(["apisix.apache.org", "v2", "ApisixRoute", "apisixroutes"]),
            Kind::Contour => Some(["projectcontour.io", "v1", "HTTPProxy", "httpproxies"]),
            Kind::Gloo => Some(["gateway.solo.io", "v1", "RouteTable", "routetables"]),
            Kind::Smi => Some(["split.smi-spec.io", "v1alpha2", "TrafficSplit", "trafficsplits"]),
            Kind::Nginx | Kind::Alb | Kind::Replicas => None,
        }
    }

    pub async fn install(self, cluster: &Cluster) {
        let Some([group, version, kind, plural]) = self.resource() else { return };
        let _one = INSTALLING.lock().await;
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}"), "annotations": {
                // The group of the Gateway API is the cluster's own, for which a word of approval is asked.
                "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api",
            }},
            "spec": {
                "group": group, "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }}}],
            },
        });
        cluster.apply(&definition.to_string()).await;
    }

    /// `router:` in the pipeline file.
    pub fn router(self) -> Value {
        match self {
            Kind::Gateway => json!({"gateway": {"routes": ["web"]}}),
            Kind::Istio => json!({"istio": {"virtual_services": ["web"]}}),
            Kind::Nginx => json!({"nginx": {"ingresses": ["web"]}}),
            Kind::Traefik => json!({"traefik": {"services": ["web"]}}),
            Kind::Alb => json!({"generic": {"preset": "alb", "name": "web"}}),
            Kind::Apisix => json!({"generic": {"preset": "apisix", "name": "web"}}),
            Kind::Contour => json!({"generic": {"preset": "contour", "name": "web"}}),
            Kind::Gloo => json!({"generic": {"preset": "gloo", "name": "web"}}),
            Kind::Smi => json!({"generic": {"preset": "smi", "name": "web"}}),
            Kind::Replicas => json!("replicas"),
        }
    }

    /// A route to the stable Service.
    pub fn route(self, namespace: &str) -> Option<Value> {
        let spec = match self {
            Kind::Gateway => json!({"parentRefs": [{"name": "front"}], "rules": [
                {"matches": [{"path": {"type": "PathPrefix", "value": "/docs"}}], "backendRefs": [{"name": "docs", "port": 80}]},
                {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": [{"name": "web", "port": 80}]},
            ]}),
            Kind::Istio => json!({"hosts": ["shop.example"], "http": [{"route": [{"destination": {"host": "web"}}]}]}),
            Kind::Traefik => json!({"weighted": {"services": [{"name": "web", "port": 80}]}}),
            Kind::Apisix => json!({"http": [{"name": "all", "match": {"paths": ["/*"]}, "backends": [
                {"serviceName": "web", "servicePort": 80},
            ]}]}),
            Kind::Contour => json!({"routes": [{"services": [{"name": "web", "port": 80}]}]}),
            Kind::Gloo => json!({"routes": [{"routeAction": {"multi": {"destinations": [
                {"destination": {"kube": {"ref": {"name": "web", "namespace": namespace}, "port": 80}}, "weight": 1},
            ]}}}]}),
            Kind::Smi => json!({"service": "root", "backends": [{"service": "web", "weight": 1}]}),
            Kind::Nginx | Kind::Alb => return Some(self.ingress()),
            Kind::Replicas => return None,
        };
        let [group, version, kind, _] = self.resource().expect("it has one");
        let api_version = format!("{group}/{version}");
        Some(json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "web"}, "spec": spec}))
    }

    fn ingress(self) -> Value {
        let backend = match self {
            Kind::Alb => json!({"service": {"name": "web", "port": {"name": "use-annotation"}}}),
            _ => json!({"service": {"name": "web", "port": {"number": 80}}}),
        };
        let mut ingress = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"},
            "spec": {"rules": [{"host": "shop.example", "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": backend},
            ]}}]},
        });
        if self == Kind::Alb {
            let action = json!({"type": "forward", "forwardConfig": {"targetGroups": [
                {"serviceName": "web", "servicePort": 80, "weight": 1},
            ]}});
            ingress["metadata"]["annotations"] = json!({"alb.ingress.kubernetes.io/actions.web": action.to_string()});
        }
        ingress
    }

    /// What stands in the cluster as the custom route.
    pub async fn route_of(self, world: &World) -> Option<Value> {
        let [group, _, _, plural] = self.resource()?;
        world.get(&format!("{plural}.{group}"), "web").await
    }
}
