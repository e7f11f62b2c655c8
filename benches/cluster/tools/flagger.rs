//! Flagger without a mesh: one look, the shortest interval it takes. A person goes back by writing the old image.

use futures_util::future::BoxFuture;

use super::{
    Answer, Controller, Ending, LONGEST, PACE, PATIENCE_SECONDS, Site, Tool, built, deployment, image, module_folder,
    until,
};
use crate::cluster::{ports::Port, programs::GoProgram};

pub const PROGRAM: GoProgram = GoProgram {
    name: "flagger",
    folder: "benches/cluster/modules/flagger",
    package: "github.com/fluxcd/flagger/cmd/flagger",
    version_of: "github.com/fluxcd/flagger",
    stamps: &[],
    crds: None,
};

/// Its names before the API server.
pub const AGENTS: &[&str] = &["flagger"];

pub fn make(site: Site) -> Box<dyn Tool> {
    Box::new(Flagger { site, controller: None, port: Port::reserve() })
}

struct Flagger {
    site: Site,
    controller: Option<Controller>,
    port: Port,
}

/// Ten seconds is the least interval: shorter ones are raised to it without a word.
fn canary() -> String {
    format!(
        "apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {{ name: web }}
spec:
  provider: kubernetes
  targetRef: {{ apiVersion: apps/v1, kind: Deployment, name: web }}
  progressDeadlineSeconds: {PATIENCE_SECONDS}
  service: {{ port: 80 }}
  analysis: {{ interval: 10s, threshold: 1, iterations: 1 }}
"
    )
}

impl Flagger {
    async fn set(&self, tag: &str) -> Answer<()> {
        let set = format!("web={}", image(tag));
        self.site.kubectl(&["set", "image", "deployment/web", &set]).await.map(drop)
    }

    async fn phase(&self) -> Answer<String> {
        let canary = self.site.get("flagger.app", "v1beta1", "Canary", "web").await?;
        Ok(canary["status"]["phase"].as_str().unwrap_or_default().to_owned())
    }

    async fn over(&self) -> Answer<Ending> {
        until("Flagger to begin", LONGEST, PACE, || async {
            let phase = self.phase().await?;
            Ok((!["Initialized", "Succeeded", "Failed"].contains(&phase.as_str())).then_some(()))
        })
        .await?;
        until("Flagger to come to an end", LONGEST, PACE, || async {
            Ok(match self.phase().await?.as_str() {
                "Succeeded" => Some(Ending::Good),
                "Failed" => Some(Ending::WentBack),
                _ => None,
            })
        })
        .await
    }
}

/// Installs what it needs and starts it, for one namespace.
pub async fn controller(site: &Site, port: &Port, more: &[&str]) -> Answer<Controller> {
    let program = built(PROGRAM).await?;
    let crd = format!("{}/artifacts/flagger/crd.yaml", module_folder(PROGRAM)?.display());
    site.kubectl(&["apply", "--server-side", "--filename", &crd]).await?;
    site.kubectl(&["wait", "--for=condition=Established", "crd/canaries.flagger.app"]).await?;
    let mut words = vec![
        format!("-kubeconfig={}", site.kubeconfig.display()),
        "-mesh-provider=kubernetes".to_owned(),
        format!("-namespace={}", site.namespace),
        "-log-level=warning".to_owned(),
        // No metric is asked for; nobody listens there.
        "-metrics-server=http://127.0.0.1:9".to_owned(),
        format!("-port={}", port.number),
    ];
    words.extend(more.iter().map(|word| (*word).to_owned()));
    site.start(&program, &words).map(Controller)
}

impl Tool for Flagger {
    fn name(&self) -> &'static str {
        "Flagger"
    }

    fn agents(&self) -> &'static [&'static str] {
        AGENTS
    }

    /// A minute each.
    fn times(&self) -> usize {
        1
    }

    fn start<'a>(&'a mut self, tag: &'a str) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async move {
            self.controller = Some(controller(&self.site, &self.port, &[]).await?);
            self.site.apply("web.yaml", &deployment(tag)).await?;
            self.site.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).await?;
            self.site.apply("canary.yaml", &canary()).await?;
            until("Flagger to know the workload", LONGEST, PACE, || async {
                Ok((self.phase().await? == "Initialized").then_some(()))
            })
            .await
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

    fn mend<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async { Ok(()) })
    }
}
