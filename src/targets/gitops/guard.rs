//! What is not as piton left it: the branch, what follows it, what the tool itself calls out of sync. And whether the
//! way back stands open.

use serde_json::Value;

use super::{
    GitOpsTarget,
    apps::{self, Seen},
    config::{Tool, Unit},
    inventory, note, world,
};
use crate::{
    clients::kube::Cluster,
    model::{CommitId, EnvironmentName, Rehearsal, Release},
    targets::{Difference, Head, TargetError, compare::difference, kubernetes::proof},
};

/// Every difference in every unit.
pub async fn drift(target: &GitOpsTarget, release: &Release) -> Result<Vec<Difference>, TargetError> {
    let mut found = Vec::new();
    for unit in &target.units {
        let cluster = unit.cluster.connect().await?;
        let head = target.site.trees.head(&unit.branch).await?;
        found.extend(of_branch(unit, head.as_ref(), &target.site.environment, release));
        let cannot = |error| world(&format!("{unit}: cannot look at it"), error);
        let Some(object) = apps::get(&cluster, &apps::id(unit)).await.map_err(cannot)? else {
            found.push(Difference { wanted: Some("there".into()), ..about(unit, "") });
            continue;
        };
        let source = match apps::source(unit, &object) {
            Some(source) => apps::get(&cluster, &source).await.map_err(cannot)?,
            None => None,
        };
        if let Some(why) = apps::obstacle(unit, &object, source.as_ref()) {
            let wanted = format!("deploying what is on `{}`", unit.branch);
            let (wanted, live) = (Some(wanted.into()), Some(why.into()));
            found.push(Difference { wanted, live, ..about(unit, "automation") });
        }
        let (seen, _) = target.look(&cluster, unit, false).await?;
        found.extend(of_tool(unit, &seen, head.as_ref()));
    }
    Ok(found)
}

fn about(unit: &Unit, field: &str) -> Difference {
    Difference { object: unit.to_string(), ..difference("", "", field) }
}

/// Whether the branch is where piton left it.
fn of_branch(unit: &Unit, head: Option<&Head>, environment: &EnvironmentName, release: &Release) -> Option<Difference> {
    let branch = format!("`{}`", unit.branch);
    let Some(head) = head else {
        return Some(Difference { wanted: Some("there".into()), ..difference("branch", &branch, "") });
    };
    let ours = note::read(&head.message).is_some_and(|pusher| pusher.environment == environment.as_str());
    if ours && head.tree == release.tree {
        return None;
    }
    let wanted = format!("piton's commit with release {}", release.tree.short());
    Some(Difference {
        wanted: Some(wanted.into()),
        live: Some(note::short(head).into()),
        by: Some(head.author.clone()),
        at: head.at,
        ..difference("branch", &branch, "head")
    })
}

/// Whether the tool is at the branch's head, and what it calls out of sync.
fn of_tool(unit: &Unit, seen: &Seen, head: Option<&Head>) -> Vec<Difference> {
    let mut found = Vec::new();
    let applied = seen.applied(unit);
    let out_of_sync = seen.object(unit).map(|object| out_of_sync(unit, object)).unwrap_or_default();
    let at_head = head.is_some_and(|head| applied.as_deref() == Some(head.commit.as_str()));
    // What is out of sync at the head explains why nothing is applied as a whole.
    if !at_head && out_of_sync.is_empty() {
        let applied = applied.and_then(|commit| CommitId::new(commit).ok());
        let live = applied.map_or_else(|| "none".to_owned(), |commit| commit.short().to_owned());
        let wanted = head.map_or_else(|| "none".to_owned(), |head| head.commit.short().to_owned());
        found.push(Difference { wanted: Some(wanted.into()), live: Some(live.into()), ..about(unit, "commit") });
    }
    found.extend(out_of_sync);
    found
}

fn out_of_sync(unit: &Unit, object: &Value) -> Vec<Difference> {
    let status = &object["status"];
    if unit.tool != Tool::ArgoCd || status["sync"]["status"] != "OutOfSync" {
        return Vec::new();
    }
    let one = |of: Difference| Difference { wanted: Some("Synced".into()), live: Some("OutOfSync".into()), ..of };
    let listed = status["resources"].as_array().into_iter().flatten();
    let resources = listed.filter(|resource| resource["status"] == "OutOfSync").filter_map(inventory::resource);
    let mut found: Vec<Difference> =
        resources.map(|id| one(Difference { object: id.to_string(), ..about(unit, "sync") })).collect();
    if found.is_empty() {
        found.push(one(about(unit, "sync")));
    }
    found
}

/// Whether the release could be put on the branches again, and whether its images are still there.
pub async fn rehearse(target: &GitOpsTarget, release: &Release) -> Rehearsal {
    let mut all = Rehearsal::default();
    for unit in &target.units {
        match of_way_back(target, unit, release).await {
            Ok(tried) => {
                all.obstacles.extend(tried.obstacles);
                all.digests.extend(tried.digests);
                all.blind = all.blind.or(tried.blind.map(|why| format!("{unit}: {why}")));
            }
            Err(TargetError::World { what, source: None } | TargetError::Unreached { what, source: None }) => {
                all.obstacles.push(what);
            }
            Err(error) => all.blind = all.blind.or(Some(crate::targets::sentence(&error))),
        }
    }
    all
}

async fn of_way_back(target: &GitOpsTarget, unit: &Unit, release: &Release) -> Result<Rehearsal, TargetError> {
    let cluster = unit.cluster.connect().await?;
    let (seen, _) = target.look(&cluster, unit, true).await?;
    // Nothing is pushed, so that the number cannot be too old.
    target.head(unit, u64::MAX).await?;
    let live = seen.applied(unit).and_then(|commit| CommitId::new(commit).ok());
    let is_live = live.is_some_and(|commit| target.site.trees.tree_of(&commit).as_ref() == Some(&release.tree));
    let Some(workloads) = target.workloads(unit, &cluster, &seen).await?.filter(|_| is_live) else {
        let why = format!("the images of release {} are known only while it is live", release.tree.short());
        return Ok(Rehearsal { blind: Some(why), ..Rehearsal::default() });
    };
    let objects = live_objects(unit, &workloads, &seen).await?;
    Ok(proof::images(&objects.iter().collect::<Vec<_>>()).await)
}

/// What the tool made, as it is.
async fn live_objects(unit: &Unit, cluster: &Cluster, seen: &Seen) -> Result<Vec<Value>, TargetError> {
    let mut objects = Vec::new();
    let listed = seen.object(unit).map(|object| inventory::objects(unit, object)).unwrap_or_default();
    for id in listed.iter().filter(|id| has_images(id)) {
        let found = apps::get(cluster, id).await;
        objects.extend(found.map_err(|error| world(&format!("{unit}: cannot look at {id}"), error))?);
    }
    Ok(objects)
}

fn has_images(id: &crate::clients::kube::ObjectId) -> bool {
    matches!(id.group(), "apps" | "batch") || id.kind == "Pod"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::{model::TreeId, targets::gitops::config::unit_of};

    fn head(message: &str) -> Head {
        let (commit, tree) = (CommitId::new("c".repeat(40)), TreeId::new("1".repeat(40)));
        let (commit, tree) = (commit.expect("an id"), tree.expect("an id"));
        let at = Some(crate::model::Stamp(0));
        Head { commit, tree, message: message.to_owned(), author: "mallory".to_owned(), at }
    }

    #[test]
    fn who_pushed_besides_piton_is_named() {
        let prod = EnvironmentName::new("prod").expect("a name");
        let Head { commit: source, tree, .. } = head("");
        let release = Release { tree, source, versions: BTreeMap::new() };
        let unit = unit_of(Tool::FluxKustomization);
        let said = |head: Option<&Head>| of_branch(&unit, head, &prod, &release).map(|found| found.to_string());
        assert_eq!(said(Some(&head(&note::write(&prod, &release, false, 3)))), None);
        let told = said(Some(&head("a quick fix"))).expect("it is another's");
        let expected = "branch `deploy/prod` head is cccccccccc (\"a quick fix\" by mallory) and should be piton's \
                        commit with release 1111111111 (mallory, 1970-01-01T00:00:00.000Z)";
        assert_eq!(told, expected);
        assert_eq!(said(None).expect("it is gone"), "branch `deploy/prod` is missing");
    }

    #[test]
    fn what_argo_cd_calls_out_of_sync_is_named() {
        let unit = unit_of(Tool::ArgoCd);
        let resource = |name: &str, status: &str| {
            json!({ "group": "apps", "version": "v1", "kind": "Deployment", "namespace": "shop", "name": name,
                "status": status })
        };
        let seen = |sync: &str, commit: &str, resources: Value| {
            let status = json!({ "sync": { "status": sync, "revision": commit }, "resources": resources });
            let mut seen = Seen::default();
            seen.0.insert(apps::id(&unit), json!({ "status": status }));
            seen
        };
        let head = head("");
        let told = |seen: &Seen| of_tool(&unit, seen, Some(&head)).iter().map(ToString::to_string).collect::<Vec<_>>();
        let at_head = head.commit.to_string();
        assert_eq!(told(&seen("Synced", &at_head, json!([]))), [] as [&str; 0]);
        let changed = seen("OutOfSync", &at_head, json!([resource("web", "OutOfSync"), resource("api", "Synced")]));
        assert_eq!(told(&changed), ["Deployment shop/web sync is OutOfSync and should be Synced"]);
        let behind = seen("Synced", &"b".repeat(40), json!([]));
        assert_eq!(told(&behind), ["Application apps/hub commit is bbbbbbbbbb and should be cccccccccc"]);
    }
}
