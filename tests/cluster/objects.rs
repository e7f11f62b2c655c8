//! Objects of the cluster, in few words.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    sync::Arc,
};

use kube::{
    Api, Client, Discovery,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    discovery::{ApiCapabilities, ApiResource, Scope},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Cluster, LONGEST, access, programs::KUBECTL, waiting};

/// Where the accounts live that `Cluster::user` makes.
const USERS: &str = "test-users";

/// Our own connection, as administrator.
#[derive(Clone)]
pub struct Objects {
    pub client: Client,
    kinds: Arc<Mutex<Option<Discovery>>>,
}

impl Cluster {
    /// A fresh namespace whose name begins so, with its default service account there.
    pub async fn namespace(&self, prefix: &str) -> String {
        let name = format!("{prefix}-{}", self.next_number());
        self.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}")).await;
        let (objects, namespace) = (self.objects.clone(), name.clone());
        self.inside(async move { objects.default_account(&namespace).await }).await;
        name
    }

    /// Applies all documents by server-side apply as field manager `tester`, who takes fields from others. A CRD is waited for.
    pub async fn apply(&self, yaml: &str) {
        self.apply_as("tester", yaml).await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// Applies all documents as this field manager, by force.
    pub async fn apply_as(&self, manager: &str, yaml: &str) -> Result<(), String> {
        let documents = serde_yaml::Deserializer::from_str(yaml).map(Value::deserialize);
        let documents: Result<Vec<_>, _> = documents.collect();
        let (objects, manager) = (self.objects.clone(), manager.to_owned());
        let documents = documents.map_err(|error| format!("the test's YAML is wrong: {error}"))?;
        self.inside(async move {
            for document in documents.into_iter().filter(|document| !document.is_null()) {
                objects.apply(&manager, document).await?;
            }
            Ok(())
        })
        .await
    }

    /// The object, if it is there. The kind is a word such as `Deployment`, `pods` or `httproutes.gateway.networking.k8s.io`.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let (objects, kind) = (self.objects.clone(), kind.to_owned());
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let found = self.inside(async move {
            let api = objects.named(&kind, &namespace).await?;
            api.get_opt(&name).await.map_err(|error| format!("cannot get {kind} {namespace}/{name}: {error}"))
        });
        let object = found.await.unwrap_or_else(|why| panic!("{why}"));
        object.map(|object| serde_json::to_value(object).expect("it was JSON"))
    }

    /// All objects of the kind with these labels (`a=b`; empty: all) in a namespace (empty: all).
    pub async fn list(&self, kind: &str, namespace: &str, labels: &str) -> Vec<Value> {
        let (objects, kind, namespace) = (self.objects.clone(), kind.to_owned(), namespace.to_owned());
        let params = kube::api::ListParams::default().labels(labels);
        let found = self.inside(async move {
            let api = objects.named(&kind, &namespace).await?;
            api.list(&params).await.map_err(|error| format!("cannot list {kind} in {namespace}: {error}"))
        });
        let list = found.await.unwrap_or_else(|why| panic!("{why}"));
        list.into_iter().map(|object| serde_json::to_value(object).expect("it was JSON")).collect()
    }

    /// Runs kubectl as administrator; what it printed.
    pub async fn kubectl(&self, words: &[&str]) -> String {
        self.try_kubectl(words).await.unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same where it may fail: its complaint.
    pub async fn try_kubectl(&self, words: &[&str]) -> Result<String, String> {
        let program = tokio::task::spawn_blocking(|| KUBECTL.path()).await.expect("kubectl builds");
        let mut kubectl = tokio::process::Command::new(program);
        kubectl.args(words).env_clear().env("KUBECONFIG", self.kubeconfig()).env("HOME", self.folder());
        kubectl.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(LONGEST, kubectl.output()).await;
        let output = output.map_err(|_| format!("kubectl {words:?} took more than {LONGEST:?}"))?;
        let Output { status, stdout, stderr } = output.expect("kubectl starts");
        match status.success() {
            true => Ok(String::from_utf8_lossy(&stdout).into_owned()),
            false => Err(format!("kubectl {words:?}: {}", String::from_utf8_lossy(&stderr))),
        }
    }

    /// A service account with exactly these rules in the whole cluster; its kubeconfig file. The rules are a YAML list such as
    /// `[{apiGroups: [""], resources: [pods], verbs: [get]}]`. The same name again changes the rules of the same user.
    pub async fn user(&self, name: &str, rules: &str) -> PathBuf {
        let account = USER.replace("@USERS@", USERS).replace("@NAME@", name).replace("@RULES@", rules);
        self.apply(&account).await;
        let token = self.token(name, 3600).await;
        self.kubeconfig_with(name, &token)
    }

    /// A fresh token of a user that `user` made; the API server refuses less than 600 seconds.
    pub async fn token(&self, user: &str, seconds: u32) -> String {
        let (objects, user) = (self.objects.clone(), user.to_owned());
        self.inside(async move { objects.token(&user, seconds).await }).await
    }

    /// Writes a kubeconfig file for the bearer of a token, whether it is good or not.
    pub fn kubeconfig_with(&self, name: &str, token: &str) -> PathBuf {
        access::write_kubeconfig(&self.folder(), &self.url(), name, token).expect("room on the disk")
    }
}

const USER: &str = r#"
{apiVersion: v1, kind: Namespace, metadata: {name: "@USERS@"}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: "@NAME@", namespace: "@USERS@"}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: "@USERS@:@NAME@" }
rules: @RULES@
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: "@USERS@:@NAME@" }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "@USERS@:@NAME@" }
subjects: [{ kind: ServiceAccount, name: "@NAME@", namespace: "@USERS@" }]
"#;

impl Objects {
    pub fn new(cluster: piton::clients::kube::Cluster) -> Objects {
        Objects { client: cluster.client, kinds: Arc::default() }
    }

    /// Whether the API server says that it is ready.
    pub async fn ready(&self) -> Result<(), String> {
        let request = hyper::http::Request::get("/readyz").body(Vec::new()).expect("a good request");
        self.client.request_text(request).await.map(drop).map_err(|error| error.to_string())
    }

    /// Waits for the account that pods use.
    pub async fn default_account(&self, namespace: &str) {
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let there = waiting::until("the default service account", LONGEST, || accounts.get("default")).await;
        there.unwrap_or_else(|why| panic!("{why} in {namespace}"));
    }

    /// Waits until the scheduler may use the nodes.
    pub async fn nodes_take_pods(&self, names: &[String]) -> Result<(), String> {
        let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(self.client.clone());
        for name in names {
            let free = waiting::until("the node takes pods", LONGEST, || async {
                let node = nodes.get(name).await.map_err(|error| error.to_string())?;
                let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
                if taints.is_empty() { Ok(()) } else { Err(format!("it has taints: {taints:?}")) }
            });
            free.await.map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(())
    }

    async fn apply(&self, manager: &str, document: Value) -> Result<(), String> {
        let text = |path: &str| document.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let of_kind = |resource: &ApiResource| resource.kind == kind && resource.api_version == version;
        let api = self.api(&format!("{version} {kind}"), &namespace, of_kind).await?;
        let params = PatchParams::apply(manager).force();
        let applied = api.patch(&name, &params, &Patch::Apply(&document)).await;
        applied.map_err(|error| format!("cannot apply {kind} {namespace}/{name}: {error}"))?;
        if kind == "CustomResourceDefinition" {
            self.established(&api, &name).await?;
        }
        Ok(())
    }

    async fn established(&self, api: &Api<DynamicObject>, name: &str) -> Result<(), String> {
        let look = || async {
            let crd = api.get(name).await.ok()?;
            let conditions = crd.data.pointer("/status/conditions")?.as_array()?.clone();
            conditions.iter().find(|one| one["type"] == "Established" && one["status"] == "True").map(drop)
        };
        waiting::until(&format!("the CRD {name} to be established"), LONGEST, look).await?;
        *self.kinds.lock().await = None;
        Ok(())
    }

    /// The endpoint of a kind by its name, its plural, or `PLURAL.GROUP`.
    async fn named(&self, kind: &str, namespace: &str) -> Result<Api<DynamicObject>, String> {
        let is = |resource: &ApiResource| {
            let full = format!("{}.{}", resource.plural, resource.group);
            [&resource.kind, &resource.plural, &full].into_iter().any(|name| name.eq_ignore_ascii_case(kind))
        };
        self.api(kind, namespace, is).await
    }

    async fn api(
        &self,
        kind: &str,
        namespace: &str,
        is: impl Fn(&ApiResource) -> bool,
    ) -> Result<Api<DynamicObject>, String> {
        let (resource, capabilities) = self.resource(kind, is).await?;
        Ok(match (capabilities.scope, namespace) {
            (Scope::Cluster, _) | (Scope::Namespaced, "") => Api::all_with(self.client.clone(), &resource),
            (Scope::Namespaced, namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
        })
    }

    /// Kinds are asked for once, and again when one is unknown.
    async fn resource(
        &self,
        kind: &str,
        is: impl Fn(&ApiResource) -> bool,
    ) -> Result<(ApiResource, ApiCapabilities), String> {
        let mut kinds = self.kinds.lock().await;
        let find = |kinds: &Discovery| {
            // The core group comes first, so that `events` and `pods` are those that everybody means.
            let mut groups: Vec<_> = kinds.groups_alphabetical().into_iter().collect();
            groups.sort_by_key(|group| !group.name().is_empty());
            groups.iter().flat_map(|group| group.recommended_resources()).find(|(resource, _)| is(resource))
        };
        if let Some(found) = kinds.as_ref().and_then(find) {
            return Ok(found);
        }
        let fresh = Discovery::new(self.client.clone()).run_aggregated().await.map_err(|error| error.to_string())?;
        let found = find(&fresh).ok_or_else(|| format!("the cluster does not know the kind {kind}"));
        *kinds = Some(fresh);
        found
    }

    async fn token(&self, user: &str, seconds: u32) -> String {
        use k8s_openapi::api::{authentication::v1::TokenRequest, core::v1::ServiceAccount};
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), USERS);
        let wanted = json!({"spec": {"audiences": [], "expirationSeconds": seconds}});
        let wanted: TokenRequest = serde_json::from_value(wanted).expect("a good request");
        let given = accounts.create_token_request(user, &PostParams::default(), &wanted).await;
        let given = given.unwrap_or_else(|error| panic!("no token for {user}: {error}"));
        given.status.expect("an answer has a token").token
    }
}
