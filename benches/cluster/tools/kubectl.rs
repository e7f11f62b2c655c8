//! `kubectl set image`, `rollout status`, and `rollout undo` when that fails: what a CI job without a tool does.

use futures_util::future::BoxFuture;

use super::{Answer, Ending, PATIENCE_SECONDS, Site, Tool, bare_start, built, image, workload};
use crate::cluster::programs::KUBECTL;

pub fn make(site: Site) -> Box<dyn Tool> {
    Box::new(Kubectl { site })
}

struct Kubectl {
    site: Site,
}

impl Kubectl {
    async fn wait(&self) -> Answer<()> {
        let within = format!("--timeout={PATIENCE_SECONDS}s");
        self.site.kubectl(&["rollout", "status", "deployment/web", &within]).await.map(drop)
    }

    async fn undo(&self) -> Answer<()> {
        self.site.kubectl(&["rollout", "undo", "deployment/web"]).await?;
        self.wait().await
    }
}

impl Tool for Kubectl {
    fn name(&self) -> &'static str {
        "kubectl rollout"
    }

    fn agents(&self) -> &'static [&'static str] {
        &["kubectl"]
    }

    fn startup(&self) -> BoxFuture<'_, Answer<Option<f64>>> {
        let words = ["version", "--client"];
        Box::pin(async move { bare_start(&self.site, &built(KUBECTL).await?, &words).await })
    }

    fn start<'a>(&'a mut self, tag: &'a str) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async move {
            self.site.apply("web.yaml", &workload(tag)).await?;
            self.wait().await
        })
    }

    fn change<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, Answer<Ending>> {
        Box::pin(async move {
            let set = format!("web={}", image(tag));
            self.site.kubectl(&["set", "image", "deployment/web", &set]).await?;
            match self.wait().await {
                Ok(()) => Ok(Ending::Good),
                Err(_) => self.undo().await.map(|()| Ending::WentBack),
            }
        })
    }

    fn back<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Answer<()>> {
        Box::pin(self.undo())
    }

    fn mend<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async { Ok(()) })
    }
}
