use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use piton::{
    model::{CommitId, ComponentName, EnvironmentName, Portion, Release, Share, TreeId, Version},
    targets::{
        Act, Checkout, Done, Live, Site, Target, TargetError,
        helm::{Config, HelmTarget},
    },
};
use serde_json::{Value, json};
use tokio::process::Command;

use super::cluster::{self, Cluster};

/// A namespace of the shared cluster, Helm, and releases of a small chart.
pub struct World {
    pub cluster: &'static Cluster,
    pub namespace: String,
    pub helm: PathBuf,
    pub dir: tempfile::TempDir,
    pub trees: Arc<Trees>,
    identity: String,
}

/// Trees by their ids.
#[derive(Default)]
pub struct Trees(Mutex<BTreeMap<TreeId, BTreeMap<String, String>>>);

impl Checkout for Trees {
    fn checkout(&self, tree: &TreeId, dir: &Path) -> Result<(), TargetError> {
        let files = self.0.lock().expect("no panic").get(tree).cloned();
        let files = files.ok_or_else(|| TargetError::World { what: format!("no tree {tree}"), source: None })?;
        for (path, text) in files {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("room on the disk");
            match text.strip_prefix(LINK) {
                Some(to) => symlink(to, path).expect("room on the disk"),
                None => fs::write(path, text).expect("room on the disk"),
            }
        }
        Ok(())
    }
}

/// A file whose text begins so is a link to what follows.
pub const LINK: &str = "link to ";
const CHART: &str = "apiVersion: v2\nname: web\nversion: 1.0.0\n";
const TEMPLATE: &str = r#"apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-settings}
data: {greeting: {{ .Values.greeting | quote }}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Values.selector }}}}
  template:
    metadata: {labels: {app: {{ .Values.selector }}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {{ .Values.image }}:{{ .Values.tag }}
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        {{- if .Values.debug }}
        env: [{name: DEBUG, value: "1"}]
        {{- end }}
{{- if .Values.extra }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}-extra}
spec:
  selector: {matchLabels: {app: extra}}
  template:
    metadata: {labels: {app: extra}}
    spec: {containers: [{name: extra, image: "shop/extra:1"}]}
{{- end }}
{{- if .Values.hook }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-migrate
  annotations: {"helm.sh/hook": "{{ .Values.when }}", "helm.sh/hook-delete-policy": before-hook-creation}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: migrate, image: "shop/migrate:{{ .Values.hook }}"}]
{{- end }}
"#;
const VALUES: &str = "image: shop/web\ngreeting: hello\nreplicas: 2\nselector: web\nextra: false\ndebug: false\nhook: ''\nwhen: post-install,post-upgrade\n";

impl World {
    pub async fn new(major: u32) -> World {
        let cluster = Cluster::shared().await;
        let identity = cluster.client().await.identity().await.expect("it answers");
        World {
            namespace: cluster.namespace("shop").await,
            helm: cluster::helm(major).await,
            cluster,
            dir: tempfile::tempdir().expect("a folder"),
            trees: Arc::default(),
            identity,
        }
    }

    pub fn place(&self) -> Value {
        json!({ "identity": self.identity, "kubeconfig": self.cluster.kubeconfig() })
    }

    pub fn config(&self) -> Value {
        json!({
            "release": "web", "namespace": self.namespace, "chart": "chart", "values": ["prod.yaml"],
            "cluster": self.place(), "program": self.helm, "within": "60s",
        })
    }

    pub fn target(&self, config: Value) -> HelmTarget {
        let site = Site {
            environment: EnvironmentName::new("production").expect("a name"),
            owner: piton::targets::Owner { pipeline: "shop".into(), branch: "piton/production".into() },
            state_dir: self.dir.path().join("state"),
            trees: self.trees.clone(),
            program: "piton".into(),
            progress: piton::targets::Progress::default(),
        };
        let read: Config = serde_json::from_value(config).expect("it reads");
        HelmTarget::new(&serde_json::to_value(read).expect("JSON"), site).expect("a good configuration")
    }

    /// A release of the small chart with these values.
    pub fn release(&self, tag: &str, values: &str) -> Release {
        self.release_with(&[("prod.yaml", &format!("tag: {tag}\n{values}"))])
    }

    /// The small chart, with these files besides, or in its place.
    pub fn release_with(&self, files: &[(&str, &str)]) -> Release {
        let chart =
            [("chart/Chart.yaml", CHART), ("chart/values.yaml", VALUES), ("chart/templates/web.yaml", TEMPLATE)];
        let all = chart.iter().chain(files).map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        let files: BTreeMap<String, String> = all.collect();
        let hash =
            |text: &str| git2::Oid::hash_object(git2::ObjectType::Blob, text.as_bytes()).expect("a hash").to_string();
        let tree = TreeId::new(hash(&format!("{files:?}"))).expect("an id");
        self.trees.0.lock().expect("no panic").insert(tree.clone(), files);
        let hub = ComponentName::new("hub").expect("a name");
        Release {
            source: CommitId::new(hash(tree.as_str())).expect("an id"),
            tree,
            versions: BTreeMap::from([(hub, Version::new("1.0.0").expect("a version"))]),
        }
    }

    pub async fn by_hand(&self, words: &[&str]) -> String {
        let mut command = self.helm_command(words);
        let ran = command.output().await.expect("it runs");
        let text = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "helm {words:?}: {text}");
        text
    }

    pub fn helm_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.helm);
        command.args(words).arg("--namespace").arg(&self.namespace).arg("--kubeconfig").arg(self.cluster.kubeconfig());
        command.kill_on_drop(true);
        command
    }

    /// Helm behind a script that writes down when it begins to change something, and whether one before it is still alive.
    pub fn watched_helm(&self) -> (PathBuf, PathBuf) {
        let (program, log) = (self.dir.path().join("helm"), self.dir.path().join("log"));
        let (pids, log_name, helm) = (self.dir.path().join("pids"), log.display(), self.helm.display());
        let pids = pids.display();
        let script = format!(
            "#!/bin/sh
case \"$*\" in
*--dry-run*) ;;
upgrade*|uninstall*|rollback*)
  # What is killed and not yet waited for has no program any more.
  for pid in $(cat {pids} 2>/dev/null); do readlink /proc/$pid/exe >/dev/null && echo overlaps >>{log_name}; done
  echo begins >>{log_name}
  echo $$ >>{pids} ;;
esac
exec {helm} \"$@\"
"
        );
        fs::write(&program, script).expect("room on the disk");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        (program, log)
    }

    /// Writes a release's files where Helm can be run by hand.
    pub fn files(&self, release: &Release) -> PathBuf {
        let dir = self.dir.path().join("by-hand").join(release.tree.as_str());
        self.trees.checkout(&release.tree, &dir).expect("it is known");
        dir
    }

    /// The revisions as Helm sees them: number and status, oldest first.
    pub async fn history(&self) -> Vec<(u64, String)> {
        let text = self.by_hand(&["history", "web", "--output=json"]).await;
        let rows: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        let row = |row: &Value| {
            (row["revision"].as_u64().expect("a number"), row["status"].as_str().expect("a word").to_owned())
        };
        rows.iter().map(row).collect()
    }

    /// The Deployment's image and environment.
    pub async fn container(&self, name: &str) -> Value {
        let found = self.cluster.get("Deployment", &self.namespace, name).await.expect("it is there");
        found["spec"]["template"]["spec"]["containers"][0].clone()
    }
}

pub fn whole() -> Portion {
    Portion::Share(Share::WHOLE)
}

pub async fn apply(target: &HelmTarget, release: &Release, fence: u64) -> Result<Done, TargetError> {
    target.perform(&Act::Apply { release: release.clone() }, fence).await
}

/// Brings the release up and all users to it.
pub async fn deploy(target: &HelmTarget, release: &Release, fence: u64) -> Result<Done, TargetError> {
    apply(target, release, fence).await?;
    target.perform(&Act::Shift { release: release.clone(), to: whole() }, fence).await
}

pub async fn back(target: &HelmTarget, from: &Release, to: Option<&Release>, fence: u64) -> Result<Done, TargetError> {
    target.perform(&Act::Retreat { from: from.clone(), to: to.cloned() }, fence).await
}

pub async fn live(target: &HelmTarget) -> Live {
    target.live().await.expect("it can be looked at")
}

/// How long something took, printed for whoever reads the test's output.
pub async fn timed<T>(what: &str, work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    let done = work.await;
    let took = began.elapsed();
    println!("{what}: {:.2} s", took.as_secs_f64());
    (done, took)
}
