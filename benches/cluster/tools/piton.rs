//! piton as a CI job runs it: a commit, a push, `piton promote`. The time of commit and push counts.

use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;

use super::{Answer, Ending, PATIENCE_SECONDS, Site, Tool, bare_start, deployment, image, service};

pub fn rolling(site: Site) -> Box<dyn Tool> {
    Box::new(Piton { site, name: "piton", target: "", steps: "" })
}

pub fn canary(site: Site) -> Box<dyn Tool> {
    Box::new(Piton {
        site,
        name: "piton, canary of 20 %",
        target: "\n      canary: { deployment: web, service: web, router: replicas }",
        steps: "\n    canary: [{ share: 20%, hold: 0s }, { share: 100%, hold: 0s }]",
    })
}

struct Piton {
    site: Site,
    name: &'static str,
    target: &'static str,
    steps: &'static str,
}

const IMAGE: &str = "spec.template.spec.containers[name=web].image";

impl Piton {
    fn pipeline(&self, identity: &str) -> String {
        let (kubeconfig, namespace) = (self.site.kubeconfig.display(), &self.site.namespace);
        let (target, steps) = (self.target, self.steps);
        format!(
            "name: bench
components:
  web: {{ file: deploy/web.yaml, path: \"{IMAGE}\", part: tag }}
defaults:
  target:
    kubernetes:
      cluster: {{ identity: \"{identity}\", kubeconfig: \"{kubeconfig}\" }}
      namespace: {namespace}
      manifests: [\"deploy/*.yaml\"]
      rollout: {{ within: {PATIENCE_SECONDS}s }}{target}
environments:
  production:
    gates: {{ during: [{{ command: {{ run: [\"true\"] }}, every: 100ms, name: looks }}] }}{steps}
    bake: 0s
    deploy: {{ tries: 1 }}
"
        )
    }

    fn deploy(&self) -> PathBuf {
        self.site.dir.join("deploy")
    }

    async fn git(&self, dir: &Path, words: &[&str]) -> Answer<String> {
        let dir = dir.display().to_string();
        let words: Vec<&str> = ["-C", &dir].into_iter().chain(words.iter().copied()).collect();
        let who = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
        self.site.run_with(Path::new("git"), &words, &who.map(|name| (name, "bench"))).await
    }

    async fn piton(&self, words: &[&str]) -> Answer<String> {
        let dir = self.deploy().display().to_string();
        let state = self.site.dir.join("state").display().to_string();
        let words: Vec<&str> = ["-C", &dir].into_iter().chain(words.iter().copied()).collect();
        let variables = [("PITON_STATE_DIR", state.as_str()), ("PITON_ACTOR", "bench")];
        self.site.run_with(Path::new(env!("CARGO_BIN_EXE_piton")), &words, &variables).await
    }

    async fn commit(&self, subject: &str) -> Answer<()> {
        let deploy = self.deploy();
        self.git(&deploy, &["add", "--all"]).await?;
        self.git(&deploy, &["commit", "--quiet", "--message", subject]).await?;
        self.git(&deploy, &["push", "--quiet", "origin", "main"]).await.map(drop)
    }

    async fn promote(&self) -> Answer<Ending> {
        match self.piton(&["promote", "production"]).await {
            Ok(_) => Ok(Ending::Good),
            Err(why) if why.contains("exit status: 1") => Ok(Ending::WentBack),
            Err(why) => Err(why),
        }
    }
}

impl Tool for Piton {
    fn name(&self) -> &'static str {
        self.name
    }

    fn agents(&self) -> &'static [&'static str] {
        &["piton"]
    }

    fn startup(&self) -> BoxFuture<'_, Answer<Option<f64>>> {
        Box::pin(bare_start(&self.site, Path::new(env!("CARGO_BIN_EXE_piton")), &["--version"]))
    }

    fn start<'a>(&'a mut self, tag: &'a str) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async move {
            let root = self.site.dir.clone();
            self.git(&root, &["init", "--quiet", "--bare", "--initial-branch=main", "origin.git"]).await?;
            self.git(&root, &["clone", "--quiet", "origin.git", "deploy"]).await?;
            self.git(&self.deploy(), &["checkout", "--quiet", "-B", "main"]).await?;
            let words = ["get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}"];
            let identity = self.site.kubectl(&words).await?;
            self.site.write("deploy/pipelines/bench.yaml", &self.pipeline(identity.trim()))?;
            self.site.write("deploy/deploy/web.yaml", &deployment(tag))?;
            self.site.write("deploy/deploy/service.yaml", service())?;
            self.commit("the first version").await?;
            self.promote().await.map(drop)
        })
    }

    fn change<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, Answer<Ending>> {
        Box::pin(async move {
            let file = self.deploy().join("deploy/web.yaml").display().to_string();
            self.piton(&["edit", &file, IMAGE, &image(tag)]).await?;
            self.commit(tag).await?;
            self.promote().await
        })
    }

    fn back<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async { self.piton(&["rollback", "production", "--reason", "measured"]).await.map(drop) })
    }

    fn mend<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async { Ok(()) })
    }
}
