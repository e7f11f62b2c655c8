//! Argo Rollouts: a canary of one step, aborted at its progress deadline. A person goes back by writing the old image.

use futures_util::future::BoxFuture;

use super::{
    Answer, Controller, Ending, LONGEST, PACE, PATIENCE_SECONDS, REPLICAS, SERVICE, Site, Tool, built, image,
    module_folder, until,
};
use crate::cluster::{ports::Port, programs::GoProgram};

pub const PROGRAM: GoProgram = GoProgram {
    name: "rollouts-controller",
    folder: "benches/cluster/modules/argo-rollouts",
    package: "github.com/argoproj/argo-rollouts/cmd/rollouts-controller",
    version_of: "github.com/argoproj/argo-rollouts",
    stamps: &[],
    crds: None,
};

/// Its names before the API server.
pub const AGENTS: &[&str] = &["rollouts-controller", "argo-rollouts"];

pub fn make(site: Site) -> Box<dyn Tool> {
    Box::new(Argo { site, controller: None, ports: [Port::reserve(), Port::reserve()] })
}

struct Argo {
    site: Site,
    controller: Option<Controller>,
    ports: [Port; 2],
}

fn rollout(tag: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{ name: web }}
spec:
  replicas: {REPLICAS}
  progressDeadlineSeconds: {PATIENCE_SECONDS}
  progressDeadlineAbort: true
  selector: {{ matchLabels: {{ app: web }} }}
  strategy: {{ canary: {{ steps: [{{ setWeight: 20 }}] }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{ name: web, image: {} }}]
{SERVICE}",
        image(tag)
    )
}

impl Argo {
    async fn set(&self, tag: &str) -> Answer<()> {
        let patch = serde_json::json!([{
            "op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image(tag),
        }]);
        self.site.kubectl(&["patch", "rollout", "web", "--type=json", "--patch", &patch.to_string()]).await.map(drop)
    }

    async fn over(&self) -> Answer<Ending> {
        until("the Rollout to come to an end", LONGEST, PACE, || async {
            let rollout = self.site.get("argoproj.io", "v1alpha1", "Rollout", "web").await?;
            let (meta, status) = (&rollout["metadata"], &rollout["status"]);
            let seen = status["observedGeneration"].as_str() == Some(&meta["generation"].to_string());
            let whole = status["stableRS"] == status["currentPodHash"];
            Ok(match status["phase"].as_str() {
                Some("Healthy") if seen && whole => Some(Ending::Good),
                Some("Degraded") if seen && status["abort"] == true => Some(Ending::WentBack),
                _ => None,
            })
        })
        .await
    }
}

/// Installs what it needs and starts it, for one namespace.
pub async fn controller(site: &Site, ports: &[Port; 2], more: &[&str]) -> Answer<Controller> {
    let program = built(PROGRAM).await?;
    let folder = module_folder(PROGRAM)?;
    for crd in ["rollout", "experiment", "analysis-run", "analysis-template", "cluster-analysis-template"] {
        let file = format!("{}/manifests/crds/{crd}-crd.yaml", folder.display());
        site.kubectl(&["apply", "--server-side", "--filename", &file]).await?;
    }
    site.kubectl(&["wait", "--for=condition=Established", "crd/rollouts.argoproj.io"]).await?;
    let mut words = vec![
        format!("--kubeconfig={}", site.kubeconfig.display()),
        format!("--namespace={}", site.namespace),
        "--leader-elect=false".to_owned(),
        "--loglevel=warn".to_owned(),
        format!("--healthzPort={}", ports[0].number),
        format!("--metricsPort={}", ports[1].number),
    ];
    words.extend(more.iter().map(|word| (*word).to_owned()));
    site.start(&program, &words).map(Controller)
}

impl Tool for Argo {
    fn name(&self) -> &'static str {
        "Argo Rollouts"
    }

    fn agents(&self) -> &'static [&'static str] {
        AGENTS
    }

    fn start<'a>(&'a mut self, tag: &'a str) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async move {
            self.controller = Some(controller(&self.site, &self.ports, &[]).await?);
            self.site.apply("web.yaml", &rollout(tag)).await?;
            self.over().await.map(drop)
        })
    }

    fn change<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, Answer<Ending>> {
        Box::pin(async move {
            self.set(tag).await?;
            self.over().await
        })
    }

    fn back<'a>(&'a self, _: &'a str, to: &'a str) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async move {
            self.set(to).await?;
            self.over().await.map(drop)
        })
    }

    fn mend<'a>(&'a self, good: &'a str) -> BoxFuture<'a, Answer<()>> {
        self.back("", good)
    }
}
