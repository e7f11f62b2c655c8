use std::path::{Path, PathBuf};

use super::super::answer::Failure;
use crate::{
    clients::process::Program,
    edit::{self, At, Part, Place},
    model::{Span, Version},
};

const PIPELINE: &str = include_str!("pipeline.yaml");

/// How versions of the services behave; one that is not named is good.
const SERVICES: [(&str, &str); 3] = [
    ("web", ""),
    ("api", "versions:\n  1.1.0: { work_fails: true } # the page loads all the same\n"),
    (
        "store",
        "versions:\n  1.1.0: { fails_under: { per_second: 7, percent: 60 } } # staging never sees so much traffic\n",
    ),
];

/// A deploy repository and its origin.
pub struct Sandbox {
    pub clone: PathBuf,
}

impl Sandbox {
    pub async fn make(dir: &Path) -> Result<Sandbox, Failure> {
        let (origin, clone) = (dir.join("origin.git"), dir.join("deploy"));
        git(dir, &["init", "--quiet", "--bare", "--initial-branch=main", &origin.display().to_string()]).await?;
        git(dir, &["clone", "--quiet", &origin.display().to_string(), &clone.display().to_string()]).await?;
        git(&clone, &["checkout", "--quiet", "-B", "main"]).await?;
        for (key, value) in [("user.name", "demo"), ("user.email", "demo@localhost"), ("commit.gpgsign", "false")] {
            git(&clone, &["config", key, value]).await?;
        }
        let sandbox = Sandbox { clone };
        let me = std::env::current_exe().map_err(|e| Failure::world("cannot find this program", &e))?;
        let pipeline = PIPELINE.replace("@PITON@", &me.display().to_string().replace('"', "\\\""));
        sandbox.write("pipelines/demo.yaml", &pipeline)?;
        for (name, behaviour) in SERVICES {
            sandbox.write(&format!("services/{name}.yaml"), &format!("name: {name}\nversion: 1.0.0\n{behaviour}"))?;
        }
        sandbox.commit("three services").await?;
        Ok(sandbox)
    }

    /// Changes one version, commits and pushes, as a person or a bot would.
    pub async fn bump(&self, component: &str, version: &str) -> Result<(), Failure> {
        let file = format!("services/{component}.yaml");
        let path = self.clone.join(&file);
        let wrong = |e: edit::EditError| Failure::usage(e.to_string());
        let bytes = std::fs::read(&path).map_err(|e| Failure::world(&format!("cannot read {file}"), &e))?;
        let place = Place { file: file.clone(), at: At::Path("version".parse().map_err(wrong)?), part: Part::Whole };
        let to = Version::new(version).map_err(|e| Failure::usage(e.to_string()))?;
        let changed = edit::write(&bytes, &place, None, &to).map_err(wrong)?;
        std::fs::write(&path, changed).map_err(|e| Failure::world(&format!("cannot write {file}"), &e))?;
        self.commit(&format!("{component}: {version}")).await
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Failure> {
        let path = self.clone.join(file);
        let folder = path.parent().unwrap_or(&self.clone);
        let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, text));
        written.map_err(|e| Failure::world(&format!("cannot write {file}"), &e))
    }

    async fn commit(&self, subject: &str) -> Result<(), Failure> {
        git(&self.clone, &["add", "--all"]).await?;
        git(&self.clone, &["commit", "--quiet", "--message", subject]).await?;
        git(&self.clone, &["push", "--quiet", "origin", "main"]).await
    }
}

async fn git(dir: &Path, words: &[&str]) -> Result<(), Failure> {
    let program = Program::new(std::iter::once("git").chain(words.iter().copied()), Span::minutes(1)).in_dir(dir);
    let ran = program.run().await.map_err(|e| Failure::world("the demo needs git", &e))?;
    match ran.succeeded() {
        true => Ok(()),
        false => Err(Failure::usage(ran.sentence(&format!("git {}", words.first().unwrap_or(&""))))),
    }
}
