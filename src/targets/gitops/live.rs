//! What is really live: by the tool's own word, and by a standing look at its pods.

use std::collections::BTreeMap;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::{AT_ONCE, GitOpsTarget, apps::Seen, config::Unit, inventory, pods};
use crate::{
    clients::kube::{Cluster, ObjectId},
    model::{CommitId, TreeId},
    targets::{
        Live, TargetError,
        command::shares_of,
        kubernetes::{
            health::Health,
            rollout::{Config, Standing},
        },
    },
};

const BROKEN: &str = "broken";
const READY: &str = "ready";
const UNFINISHED: &str = "unfinished";
const FOREIGN: &str = "foreign";

/// What one unit says.
struct Said {
    tree: Option<TreeId>,
    facts: Vec<(String, String)>,
}

pub async fn look(target: &GitOpsTarget) -> Result<Live, TargetError> {
    let looks: Vec<_> = (0..target.units.len()).map(|at| look_at(target, at).boxed()).collect();
    let looked: Vec<Said> = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
    let trees: Vec<&TreeId> = looked.iter().filter_map(|said| said.tree.as_ref()).collect();
    let releases = shares_of(trees.into_iter());
    let all_ready = looked.iter().all(|said| said.facts.iter().any(|(name, _)| name == READY));
    let mut facts: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in looked.into_iter().flat_map(|said| said.facts) {
        let known = facts.entry(name).or_default();
        let apart = if known.is_empty() || value.is_empty() { "" } else { "; " };
        known.push_str(&format!("{apart}{value}"));
    }
    if !all_ready {
        facts.remove(READY);
    }
    Ok(Live { releases, facts, ..Live::default() })
}

async fn look_at(target: &GitOpsTarget, at: usize) -> Result<Said, TargetError> {
    let unit = &target.units[at];
    let cluster = unit.cluster.connect().await?;
    let (seen, _) = target.look(&cluster, unit, false).await?;
    let applied = seen.applied(unit).and_then(|commit| CommitId::new(commit).ok());
    let tree = match &applied {
        Some(commit) => match target.site.trees.tree_of(commit) {
            Some(tree) => Some(tree),
            // Whoever pushed it was on another machine.
            None => target.site.trees.head(&unit.branch).await?.and_then(|_| target.site.trees.tree_of(commit)),
        },
        None => None,
    };
    let mut facts = pods_say(target, at, &cluster, &seen).await;
    let (name, said) = match (seen.health(unit, None), &applied, &tree) {
        (Health::Broken(trouble), ..) => (BROKEN, trouble.headline()),
        (Health::Progressing { why }, ..) => (UNFINISHED, format!("{unit}: {why}")),
        (Health::Doubtful(trouble), ..) => (UNFINISHED, trouble.headline()),
        (Health::Ready, Some(commit), None) => {
            (FOREIGN, format!("{unit} is at commit {}, which is not in this repository", commit.short()))
        }
        (Health::Ready, ..) => return Ok(Said { tree, facts }),
    };
    // The pods say more than the tool where both say that something is broken.
    match facts.iter_mut().find(|(known, value)| name == BROKEN && known == name && !value.is_empty()) {
        Some((_, value)) => value.push_str(&format!("; {said}")),
        None => facts.push((name.to_owned(), said)),
    }
    Ok(Said { tree, facts })
}

/// How the pods are doing; nothing where they cannot be looked at.
async fn pods_say(target: &GitOpsTarget, at: usize, own: &Cluster, seen: &Seen) -> Vec<(String, String)> {
    let unit = &target.units[at];
    let objects = seen.object(unit).map(|object| inventory::objects(unit, object)).unwrap_or_default();
    let objects: Vec<ObjectId> = objects.into_iter().filter(pods::lasts).collect();
    if objects.is_empty() {
        return Vec::new();
    }
    let standing = target.standing[at].get_or_try_init(|| async {
        let cluster = target.workloads(unit, own, seen).await.ok().flatten();
        cluster.map(|cluster| Standing::new(&cluster, &Config::default())).ok_or(())
    });
    let Ok(standing) = standing.await else { return Vec::new() };
    let facts = standing.glance(&objects).await.facts();
    facts.into_iter().map(|(name, value)| (name, of_member(unit, value))).collect()
}

fn of_member(unit: &Unit, value: String) -> String {
    match &unit.member {
        Some(member) if !value.is_empty() => format!("{member}: {value}"),
        Some(_) | None => value,
    }
}
