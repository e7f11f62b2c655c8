//! The routers: the definitions of their resources, and a route of each.

use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    cluster::Cluster,
    definitions::{self, Definition},
    world::World,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Gateway,
    Grpc,
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

/// Definitions are the cluster's own: two tests must not install one at once, and once is enough.
static INSTALLED: Mutex<Vec<Kind>> = Mutex::const_new(Vec::new());

impl Kind {
    pub const ALL: [Kind; 11] = [
        Kind::Gateway,
        Kind::Grpc,
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
            Kind::Grpc => Some(["gateway.networking.k8s.io", "v1", "GRPCRoute", "grpcroutes"]),
            Kind::Istio => Some(["networking.istio.io", "v1", "VirtualService", "virtualservices"]),
            Kind::Traefik => Some(["traefik.io", "v1alpha1", "TraefikService", "traefikservices"]),
            Kind::Apisix => Some(["apisix.apache.org", "v2", "ApisixRoute", "apisixroutes"]),
            Kind::Contour => Some(["projectcontour.io", "v1", "HTTPProxy", "httpproxies"]),
            Kind::Gloo => Some(["gateway.solo.io", "v1", "RouteTable", "routetables"]),
            Kind::Smi => Some(["split.smi-spec.io", "v1alpha4", "TrafficSplit", "trafficsplits"]),
            Kind::Nginx | Kind::Alb | Kind::Replicas => None,
        }
    }

    /// The definition that its project publishes. Of APISIX and Gloo there is no module to read one from.
    fn definition(self) -> Option<&'static Definition> {
        match self {
            Kind::Gateway => Some(&definitions::HTTP_ROUTE),
            Kind::Grpc => Some(&definitions::GRPC_ROUTE),
            Kind::Istio => Some(&definitions::VIRTUAL_SERVICE),
            Kind::Traefik => Some(&definitions::TRAEFIK_SERVICE),
            Kind::Contour => Some(&definitions::HTTP_PROXY),
            Kind::Smi => Some(&definitions::TRAFFIC_SPLIT),
            Kind::Apisix | Kind::Gloo | Kind::Nginx | Kind::Alb | Kind::Replicas => None,
        }
    }

    pub async fn install(self, cluster: &Cluster) {
        let Some([group, version, kind, plural]) = self.resource() else { return };
        let mut installed = INSTALLED.lock().await;
        if installed.contains(&self) {
            return;
        }
        let definition = match self.definition() {
            Some(found) => tokio::task::spawn_blocking(move || found.object()).await.expect("a definition"),
            None => json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{plural}.{group}")},
                "spec": {
                    "group": group, "scope": "Namespaced",
                    "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                    "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    }}}],
                },
            }),
        };
        cluster.apply(&definition.to_string()).await;
        installed.push(self);
    }

    /// `router:` in the pipeline file.
    pub fn router(self) -> Value {
        match self {
            Kind::Gateway => json!({"gateway": {"routes": ["web"]}}),
            Kind::Grpc => json!({"gateway": {"routes": ["web"], "kind": "GRPCRoute"}}),
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
            Kind::Grpc => json!({"parentRefs": [{"name": "front"}], "rules": [
                {"matches": [{"method": {"service": "shop.Cart"}}], "backendRefs": [{"name": "web", "port": 80}]},
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

    /// Whom the router leads users to, with the weight of each; `None` without a route, or with one that says no weights.
    pub async fn led(self, cluster: &Cluster, namespace: &str) -> Option<Vec<(String, u64)>> {
        let (list, name) = match self {
            Kind::Gateway => ("/spec/rules/1/backendRefs", "/name"),
            Kind::Grpc => ("/spec/rules/0/backendRefs", "/name"),
            Kind::Istio => ("/spec/http/0/route", "/destination/host"),
            Kind::Traefik => ("/spec/weighted/services", "/name"),
            Kind::Apisix => ("/spec/http/0/backends", "/serviceName"),
            Kind::Contour => ("/spec/routes/0/services", "/name"),
            Kind::Gloo => ("/spec/routes/0/routeAction/multi/destinations", "/destination/kube/ref/name"),
            Kind::Smi => ("/spec/backends", "/service"),
            Kind::Nginx => return Some(by_ingress(cluster, namespace).await),
            Kind::Alb | Kind::Replicas => return None,
        };
        let [group, _, _, plural] = self.resource()?;
        let route = cluster.get(&format!("{plural}.{group}"), namespace, "web").await?;
        let entries = route.pointer(list)?.as_array()?.clone();
        // A host may be a complete one.
        let service = |entry: &Value| entry.pointer(name)?.as_str()?.split('.').next().map(str::to_owned);
        let weighed = entries.iter().filter_map(|entry| Some((service(entry)?, entry["weight"].as_u64().unwrap_or(1))));
        Some(weighed.collect())
    }
}

/// What the controller makes of an Ingress and of the one beside it.
async fn by_ingress(cluster: &Cluster, namespace: &str) -> Vec<(String, u64)> {
    let beside = cluster.get("ingresses", namespace, "web-piton").await.unwrap_or_default();
    let weight = &beside["metadata"]["annotations"]["nginx.ingress.kubernetes.io/canary-weight"];
    let canary = weight.as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let service = &beside["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"];
    vec![("web".to_owned(), 10_000 - canary), (service.as_str().unwrap_or_default().to_owned(), canary)]
}
