//! `helm upgrade --install --wait` that goes back by itself, and `helm rollback`.

use futures_util::future::BoxFuture;

use super::{Answer, Ending, PATIENCE_SECONDS, Site, Tool, bare_start, built, image, workload};
use crate::cluster::programs::{GoProgram, HELM_3, HELM_4};

pub fn three(site: Site) -> Box<dyn Tool> {
    Box::new(Helm { site, program: HELM_3, name: "helm 3", goes_back: "--atomic" })
}

pub fn four(site: Site) -> Box<dyn Tool> {
    Box::new(Helm { site, program: HELM_4, name: "helm 4", goes_back: "--rollback-on-failure" })
}

struct Helm {
    site: Site,
    program: GoProgram,
    name: &'static str,
    goes_back: &'static str,
}

const CHART: &str = "apiVersion: v2\nname: web\nversion: 0.1.0\n";

impl Helm {
    async fn helm(&self, words: &[&str]) -> Answer<String> {
        let namespace = format!("--namespace={}", self.site.namespace);
        let words: Vec<&str> = words.iter().copied().chain([namespace.as_str()]).collect();
        self.site.run(&built(self.program).await?, &words).await
    }

    async fn upgrade(&self, tag: &str) -> Answer<String> {
        let (tag, within) = (format!("tag={tag}"), format!("--timeout={PATIENCE_SECONDS}s"));
        self.helm(&["upgrade", "--install", "web", "chart", "--set", &tag, "--wait", self.goes_back, &within]).await
    }
}

impl Tool for Helm {
    fn name(&self) -> &'static str {
        self.name
    }

    fn agents(&self) -> &'static [&'static str] {
        &["Helm", "helm3", "helm4"]
    }

    fn startup(&self) -> BoxFuture<'_, Answer<Option<f64>>> {
        Box::pin(async move { bare_start(&self.site, &built(self.program).await?, &["version", "--short"]).await })
    }

    fn start<'a>(&'a mut self, tag: &'a str) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async move {
            let template = workload("TAG").replace(&image("TAG"), &image("{{ .Values.tag }}"));
            self.site.write("chart/Chart.yaml", CHART)?;
            self.site.write("chart/templates/web.yaml", &template)?;
            self.upgrade(tag).await.map(drop)
        })
    }

    fn change<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, Answer<Ending>> {
        Box::pin(async move {
            match self.upgrade(tag).await {
                Ok(_) => Ok(Ending::Good),
                Err(why) if why.contains("rolled back") || why.contains("rollback") => Ok(Ending::WentBack),
                Err(why) => Err(why),
            }
        })
    }

    fn back<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async move {
            let within = format!("--timeout={PATIENCE_SECONDS}s");
            self.helm(&["rollback", "web", "--wait", &within]).await.map(drop)
        })
    }

    fn mend<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async { Ok(()) })
    }
}
