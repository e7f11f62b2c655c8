//! The real definitions of the routers' kinds, as their own projects publish them in Go modules. They are read where Go keeps
//! modules; what comes is checked against the sums here, whatever the proxy says.

use std::{fs, path::Path, process::Command};

use serde::Deserialize as _;
use serde_json::{Value, json};

/// A file of a module at a version.
pub struct Definition {
    module: &'static str,
    sum: &'static str,
    file: &'static str,
    /// The definition's name in it.
    name: &'static str,
}

pub const HTTP_ROUTE: Definition = Definition {
    module: "sigs.k8s.io/gateway-api@v1.6.3",
    sum: "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=",
    file: "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    name: "httproutes.gateway.networking.k8s.io",
};
/// Of a version that has no fraction of a mirror.
pub const GRPC_ROUTE: Definition = Definition {
    module: "sigs.k8s.io/gateway-api@v1.2.0",
    sum: "h1:LrToiFwtqKTKZcZtoQPTuo3FxhrrhTgzQG0Te+YGSo8=",
    file: "config/crd/standard/gateway.networking.k8s.io_grpcroutes.yaml",
    name: "grpcroutes.gateway.networking.k8s.io",
};
pub const VIRTUAL_SERVICE: Definition = Definition {
    module: "istio.io/api@v1.31.1",
    sum: "h1:5Yb5ihcz4YQsCkciusK7DnFpBMwRB6EFWeUKH1Atuyk=",
    file: "kubernetes/customresourcedefinitions.gen.yaml",
    name: "virtualservices.networking.istio.io",
};
pub const TRAEFIK_SERVICE: Definition = Definition {
    module: "github.com/traefik/traefik/v3@v3.7.13",
    sum: "h1:T8wy9KuaFzCkmXCqAzDy7t73pBDR1DHrJe3pqXpNXTw=",
    file: "docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml",
    name: "traefikservices.traefik.io",
};
pub const HTTP_PROXY: Definition = Definition {
    module: "github.com/projectcontour/contour@v1.33.8",
    sum: "h1:QoOfwqWws+CVRFpsRC2+f1DmB5IdurtyUtepIsiWfE0=",
    file: "examples/contour/01-crds.yaml",
    name: "httpproxies.projectcontour.io",
};
/// It serves `v1alpha4` only.
pub const TRAFFIC_SPLIT: Definition = Definition {
    module: "github.com/servicemeshinterface/smi-sdk-go@v0.5.0",
    sum: "h1:9cZdhvGbGDlmnp9qqmcQL+RL6KZ3IzHfDLoA5Axg8n0=",
    file: "crds/split.yaml",
    name: "trafficsplits.split.smi-spec.io",
};

impl Definition {
    /// The definition, as every server since Kubernetes 1.22 takes it.
    pub fn object(&self) -> Value {
        let text = fs::read_to_string(Path::new(&self.folder()).join(self.file)).expect("the module has the file");
        let documents = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize);
        let mut all = documents.filter_map(|document| document.ok()).filter(|one| one["metadata"]["name"] == self.name);
        let found = all.next().unwrap_or_else(|| panic!("{} has no {}", self.module, self.name));
        if found["apiVersion"] == "apiextensions.k8s.io/v1" { found } else { renewed(found) }
    }

    /// Where Go keeps the module, fetched at first use.
    fn folder(&self) -> String {
        let mut go = Command::new("go");
        go.args(["mod", "download", "-json", self.module]).current_dir(std::env::temp_dir());
        go.env("GOTOOLCHAIN", "local").env_remove("GOFLAGS");
        let output =
            go.output().unwrap_or_else(|error| panic!("cannot run `go`, which fetches {}: {error}", self.module));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
        assert!(output.status.success(), "cannot fetch {}: {}", self.module, text("Error"));
        assert_eq!(text("Sum"), self.sum, "{} is another one than was pinned", self.module);
        text("Dir")
    }
}

/// A definition of the first form, which has one schema for all versions.
fn renewed(old: Value) -> Value {
    let mut schema = old["spec"]["validation"]["openAPIV3Schema"].clone();
    schema["type"] = "object".into();
    let versions = old["spec"]["versions"].as_array().expect("versions").iter().map(|version| {
        json!({"name": version["name"], "served": version["served"], "storage": version["storage"],
            "schema": {"openAPIV3Schema": schema}})
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": old["metadata"]["name"]},
        "spec": {"group": old["spec"]["group"], "scope": old["spec"]["scope"], "names": old["spec"]["names"],
            "versions": versions.collect::<Vec<_>>()},
    })
}
