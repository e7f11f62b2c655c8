//! The objects of Argo CD and Flux: what they follow, how far they are, and how they are asked to look again.

use std::collections::BTreeMap;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::config::{Tool, Unit};
use crate::{
    clients::kube::{Cluster, KubeError, ObjectId},
    targets::kubernetes::health::{Health, gitops},
};

const ARGO: &str = "argoproj.io/v1alpha1";
const FLUX_KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io/v1";
const FLUX_HELM: &str = "helm.toolkit.fluxcd.io/v2";
const FLUX_SOURCE: &str = "source.toolkit.fluxcd.io/v1";
const FLUX_NUDGE: &str = "reconcile.fluxcd.io/requestedAt";
const ARGO_NUDGE: &str = "argocd.argoproj.io/refresh";

/// What the cluster says of one unit.
#[derive(Debug, Clone, Default)]
pub struct Seen(pub BTreeMap<ObjectId, Value>);

/// The unit's own object.
pub fn id(unit: &Unit) -> ObjectId {
    let (api_version, kind) = match unit.tool {
        Tool::ArgoCd => (ARGO, "Application"),
        Tool::FluxKustomization => (FLUX_KUSTOMIZE, "Kustomization"),
        Tool::FluxHelmRelease => (FLUX_HELM, "HelmRelease"),
    };
    named(api_version, kind, &unit.name.namespace, &unit.name.name)
}

fn named(api_version: &str, kind: &str, namespace: &str, name: &str) -> ObjectId {
    let (api_version, kind, name) = (api_version.to_owned(), kind.to_owned(), name.to_owned());
    ObjectId { api_version, kind, namespace: Some(namespace.to_owned()), name }
}

/// The source that a Flux object names, if it is a branch of a repository.
pub fn source(unit: &Unit, object: &Value) -> Option<ObjectId> {
    let reference = match unit.tool {
        Tool::ArgoCd => return None,
        Tool::FluxKustomization => &object["spec"]["sourceRef"],
        Tool::FluxHelmRelease => &object["spec"]["chart"]["spec"]["sourceRef"],
    };
    let namespace = reference["namespace"].as_str().unwrap_or(&unit.name.namespace);
    let name = reference["name"].as_str()?;
    (reference["kind"] == "GitRepository").then(|| named(FLUX_SOURCE, "GitRepository", namespace, name))
}

/// The chart that Flux makes for a release: the one that its status names, or will.
pub fn chart(unit: &Unit, object: &Value) -> Option<ObjectId> {
    let source = source(unit, object).filter(|_| unit.tool == Tool::FluxHelmRelease)?;
    let made = object["status"]["helmChart"].as_str().and_then(|text| text.split_once('/'));
    let (namespace, name) = match made {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => (source.namespace?, format!("{}-{}", unit.name.namespace, unit.name.name)),
    };
    Some(named(FLUX_SOURCE, "HelmChart", &namespace, &name))
}

/// What a source complains about.
pub fn complaint(source: &Value) -> Option<&str> {
    let conditions = source["status"]["conditions"].as_array()?;
    let bad = conditions.iter().find(|c| c["type"] == "Ready" && c["status"] == "False")?;
    bad["message"].as_str()
}

/// An object, or nothing where there is none.
pub async fn get(cluster: &Cluster, id: &ObjectId) -> Result<Option<Value>, KubeError> {
    let found = cluster.api(id).await?.get_opt(&id.name).await?;
    Ok(found.and_then(|object| serde_json::to_value(object).ok()))
}

/// Why the tool would never deploy what is pushed to the unit's branch; `source` is its Flux source.
pub fn obstacle(unit: &Unit, object: &Value, source: Option<&Value>) -> Option<String> {
    let branch = &unit.branch;
    match unit.tool {
        Tool::ArgoCd => {
            let spec = &object["spec"];
            // Argo CD takes an empty list for none.
            let several = spec["sources"].as_array().filter(|several| !several.is_empty());
            let sources = several.map_or(std::slice::from_ref(&spec["source"]), Vec::as_slice);
            let follows =
                |source: &Value| source["targetRevision"].as_str().is_some_and(|found| same_branch(found, branch));
            let automated = &spec["syncPolicy"]["automated"];
            if !sources.iter().any(follows) {
                let found = sources.first().and_then(|first| first["targetRevision"].as_str()).unwrap_or("HEAD");
                Some(format!("{unit} follows `{found}`, not the branch `{branch}`: set its `targetRevision`"))
            } else if automated.is_null() || automated["enabled"] == false {
                Some(format!("{unit} does not sync by itself: set `syncPolicy.automated`"))
            } else {
                None
            }
        }
        Tool::FluxKustomization | Tool::FluxHelmRelease => {
            if object["spec"]["suspend"] == true {
                return Some(format!("{unit} is suspended; `flux resume` wakes it"));
            }
            let Some(source) = source else {
                return Some(format!(
                    "{unit} has no GitRepository as its source, so it does not follow the branch `{branch}`"
                ));
            };
            let name = source["metadata"]["name"].as_str().unwrap_or_default();
            if source["spec"]["suspend"] == true {
                return Some(format!("the GitRepository `{name}` of {unit} is suspended; `flux resume` wakes it"));
            }
            let reference = &source["spec"]["ref"];
            let found = reference["branch"].as_str();
            let fixed = ["tag", "semver", "commit"].iter().find(|key| !reference[**key].is_null());
            match (fixed, found) {
                (None, Some(found)) if found == branch => None,
                (Some(fixed), _) => Some(format!("the GitRepository `{name}` of {unit} is fixed to a {fixed}")),
                (None, found) => {
                    let found = found.unwrap_or("master");
                    Some(format!("the GitRepository `{name}` of {unit} follows `{found}`, not the branch `{branch}`"))
                }
            }
        }
    }
}

fn same_branch(found: &str, branch: &str) -> bool {
    found == branch || found.strip_prefix("refs/heads/") == Some(branch)
}

impl Seen {
    pub fn object(&self, unit: &Unit) -> Option<&Value> {
        self.0.get(&id(unit))
    }

    /// The commit that the tool is at, or is just trying.
    pub fn commit(&self, unit: &Unit) -> Option<String> {
        let status = &self.object(unit)?["status"];
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let revision = match unit.tool {
            Tool::ArgoCd => text(&status["sync"]["revision"]).or_else(|| text(&status["sync"]["revisions"][0])),
            Tool::FluxKustomization => {
                text(&status["lastAttemptedRevision"]).or_else(|| text(&status["lastAppliedRevision"]))
            }
            Tool::FluxHelmRelease => text(&self.chart(unit)?["status"]["observedSourceArtifactRevision"]),
        };
        revision.map(|revision| revision.rsplit([':', '/', '@']).next().unwrap_or(&revision).to_owned())
    }

    /// The commit that is really applied.
    pub fn applied(&self, unit: &Unit) -> Option<String> {
        let status = &self.object(unit)?["status"];
        match unit.tool {
            Tool::ArgoCd => self.commit(unit).filter(|_| status["sync"]["status"] == "Synced"),
            Tool::FluxKustomization => {
                let revision = status["lastAppliedRevision"].as_str()?;
                revision.rsplit([':', '/', '@']).next().map(str::to_owned)
            }
            // Its chart is of the commit before Helm has begun with it, and stays so when Helm fails or Flux goes back.
            Tool::FluxHelmRelease => self.commit(unit).filter(|_| is_ready(status) && self.runs_its_chart(unit)),
        }
    }

    /// How the unit is doing on the way to a commit, or with any.
    pub fn health(&self, unit: &Unit, commit: Option<&str>) -> Health {
        let waits = |why: String| Health::Progressing { why };
        let Some(object) = self.object(unit) else { return waits(format!("{unit} is not there")) };
        match unit.tool {
            Tool::ArgoCd => gitops::application(object, commit),
            Tool::FluxKustomization => gitops::kustomization(object, commit),
            Tool::FluxHelmRelease => {
                let at = self.commit(unit);
                if commit.is_some_and(|commit| at.as_deref() != Some(commit)) {
                    let at = at.map_or_else(|| "no commit".to_owned(), |at| at.chars().take(8).collect());
                    return waits(format!("its chart is of {at}"));
                }
                match self.has_its_chart(unit) {
                    true => match gitops::helm_release(object) {
                        // For a moment `Ready` is still said of the release before.
                        Health::Ready if !self.runs_its_chart(unit) => waits("Helm has not begun with it".to_owned()),
                        health => health,
                    },
                    false => waits("it has not begun with its new chart".to_owned()),
                }
            }
        }
    }

    /// Whether Helm was last tried with the chart as its source has it.
    fn has_its_chart(&self, unit: &Unit) -> bool {
        self.is_its_chart(unit, |status| &status["lastAttemptedRevision"])
    }

    /// Whether what Helm has deployed last is of the chart as its source has it.
    fn runs_its_chart(&self, unit: &Unit) -> bool {
        let deployed = self.object(unit).is_some_and(|object| object["status"]["history"][0]["status"] == "deployed");
        deployed && self.is_its_chart(unit, |status| &status["history"][0]["chartVersion"])
    }

    fn is_its_chart(&self, unit: &Unit, version: fn(&Value) -> &Value) -> bool {
        let found = self.object(unit).map(|object| version(&object["status"]));
        let packed = self.chart(unit).map(|chart| &chart["status"]).filter(|status| is_packed(status));
        let made = packed.map(|status| &status["artifact"]["revision"]);
        made.is_some_and(|made| made.is_string() && Some(made) == found)
    }

    fn chart(&self, unit: &Unit) -> Option<&Value> {
        self.0.get(&chart(unit, self.object(unit)?)?)
    }
}

fn is_ready(status: &Value) -> bool {
    ready(status).is_some_and(|condition| condition["status"] == "True")
}

fn ready(status: &Value) -> Option<&Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")
}

/// Whether a HelmChart's package is the one that it speaks of: for a moment the commit is the new one already, the condition
/// says `packaged 'web' chart with version '1.0.0+2'`, and the package is still the old one.
fn is_packed(status: &Value) -> bool {
    let message = ready(status).and_then(|condition| condition["message"].as_str()).unwrap_or_default();
    let told = message.split_once(" with version '").and_then(|(_, rest)| rest.split('\'').next());
    let is_told = told.is_none_or(|version| status["artifact"]["revision"] == version);
    is_ready(status) && is_told
}

/// Asks the tool to look at its branch without waiting for its interval.
pub async fn nudge(cluster: &Cluster, unit: &Unit, object: &Value) -> Result<(), KubeError> {
    let (id, key, value) = match unit.tool {
        Tool::ArgoCd => (id(unit), ARGO_NUDGE, "normal".to_owned()),
        Tool::FluxKustomization | Tool::FluxHelmRelease => {
            let Some(source) = source(unit, object) else { return Ok(()) };
            (source, FLUX_NUDGE, jiff::Timestamp::now().to_string())
        }
    };
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { key: value } } }));
    cluster.api(&id).await?.patch(&id.name, &PatchParams::default(), &patch).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::gitops::config::unit_of as unit;

    #[test]
    fn what_would_never_deploy_is_said_before_anything_is_pushed() {
        let argo = |target: &str, policy: Value| {
            let object = json!({ "spec": { "source": { "targetRevision": target }, "syncPolicy": policy } });
            obstacle(&unit(Tool::ArgoCd), &object, None)
        };
        assert_eq!(argo("refs/heads/deploy/prod", json!({ "automated": {} })), None);
        assert!(argo("main", json!({ "automated": {} })).is_some_and(|why| why.contains("follows `main`")));
        assert!(argo("deploy/prod", json!({})).is_some_and(|why| why.contains("does not sync by itself")));
        let empty = json!({ "spec": { "source": { "targetRevision": "deploy/prod" }, "sources": [],
            "syncPolicy": { "automated": {} } } });
        assert_eq!(obstacle(&unit(Tool::ArgoCd), &empty, None), None, "an empty list counts as none");
        let flux =
            |object: Value, source: Option<Value>| obstacle(&unit(Tool::FluxKustomization), &object, source.as_ref());
        let on = |reference: Value| Some(json!({ "metadata": { "name": "repo" }, "spec": { "ref": reference } }));
        assert_eq!(flux(json!({ "spec": {} }), on(json!({ "branch": "deploy/prod" }))), None);
        assert!(flux(json!({ "spec": { "suspend": true } }), None).is_some_and(|why| why.contains("suspended")));
        assert!(flux(json!({ "spec": {} }), None).is_some_and(|why| why.contains("no GitRepository")));
        assert!(flux(json!({}), on(json!({ "branch": "main" }))).is_some_and(|why| why.contains("follows `main`")));
        assert!(flux(json!({}), on(json!({ "tag": "v1" }))).is_some_and(|why| why.contains("fixed to a tag")));
    }

    #[test]
    fn a_helm_release_is_at_the_commit_of_its_chart() {
        let unit = unit(Tool::FluxHelmRelease);
        let commit = "1234567890123456789012345678901234567890";
        let release = json!({
            "kind": "HelmRelease", "apiVersion": FLUX_HELM,
            "metadata": { "name": "hub", "namespace": "apps", "generation": 1 },
            "spec": { "chart": { "spec": { "sourceRef": { "kind": "GitRepository", "name": "repo" } } } },
            "status": { "helmChart": "apps/apps-hub", "lastAttemptedRevision": "1.0.0+2", "observedGeneration": 1,
                "history": [{ "chartVersion": "1.0.0+2", "status": "deployed" }],
                "conditions": [
                    { "type": "Ready", "status": "True", "reason": "UpgradeSucceeded", "observedGeneration": 1 },
                ] },
        });
        let packed = |revision: &str, told: &str, ready: &str| {
            let message = format!("packaged 'hub' chart with version '{told}'");
            json!({ "status": { "observedSourceArtifactRevision": format!("deploy/prod@sha1:{commit}"),
                "artifact": { "revision": revision },
                "conditions": [{ "type": "Ready", "status": ready, "message": message }] } })
        };
        let chart_of = |revision: &str| packed(revision, revision, "True");
        let chart_id = chart(&unit, &release).expect("it has one");
        let seen =
            |revision| Seen(BTreeMap::from([(id(&unit), release.clone()), (chart_id.clone(), chart_of(revision))]));
        assert_eq!(seen("1.0.0+2").commit(&unit).as_deref(), Some(commit));
        assert_eq!(seen("1.0.0+2").health(&unit, Some(commit)), Health::Ready);
        assert!(matches!(seen("1.0.0+3").health(&unit, Some(commit)), Health::Progressing { .. }));
        assert!(matches!(seen("1.0.0+2").health(&unit, Some("other")), Health::Progressing { .. }));

        for packing in [packed("1.0.0+2", "1.0.0+2", "Unknown"), packed("1.0.0+2", "1.0.0+3", "True")] {
            let seen = Seen(BTreeMap::from([(id(&unit), release.clone()), (chart_id.clone(), packing)]));
            assert!(matches!(seen.health(&unit, Some(commit)), Health::Progressing { .. }), "of the chart before");
        }

        assert_eq!(seen("1.0.0+2").applied(&unit).as_deref(), Some(commit));
        assert_eq!(seen("1.0.0+3").applied(&unit), None, "Helm has not begun with it");
        for (reason, status) in [("UpgradeFailed", "False"), ("RollbackSucceeded", "False"), ("Progressing", "Unknown")]
        {
            let mut failed = release.clone();
            let condition = &mut failed["status"]["conditions"][0];
            (condition["reason"], condition["status"]) = (reason.into(), status.into());
            let seen = Seen(BTreeMap::from([(id(&unit), failed), (chart_id.clone(), chart_of("1.0.0+2"))]));
            assert_eq!(seen.commit(&unit).as_deref(), Some(commit));
            assert_eq!(seen.applied(&unit), None, "{reason}: what runs is of another commit");
        }
    }
}
