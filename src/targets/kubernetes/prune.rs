//! Deletes what earlier releases made and the one that is wanted lacks. Nothing is deleted that we did not make, that is not
//! marked as ours any more, or that holds what people made, unless the pipeline says so.

use std::collections::BTreeSet;

use super::{
    config::Precious,
    fence::Guard,
    inventory::{ENVIRONMENT_LABEL, Entry, INVENTORY_LABEL, made_since},
    order,
    refusals::about,
    stage::Stage,
};
use crate::{
    clients::kube::{KubeError, ObjectId, Seen},
    targets::TargetError,
};

/// A lost race with another writer of the object is run again, so often.
const RACES_MAX: u32 = 5;

/// What was deleted, and what was not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pruned {
    pub deleted: Vec<ObjectId>,
    /// With the reason.
    pub kept: Vec<(ObjectId, &'static str)>,
    /// What could not be deleted, in a sentence each; the inventory keeps it for the next act.
    pub left: Vec<String>,
}

/// What becomes of an act when something cannot be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// It fails.
    Fail,
    /// It is done: users are where they are to be, and what is left over does them no harm.
    Tell,
}

/// What to do with an object that is wanted no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Delete,
    /// It stays ours; the pipeline may say otherwise one day.
    Keep(&'static str),
    /// It is not ours (any more).
    Forget(&'static str),
}

/// Deletes in the reverse order of applying. Whoever is killed in the middle goes on the next time.
pub async fn prune(
    stage: &mut Stage<'_>,
    wanted: &[ObjectId],
    guard: &Guard,
    leftovers: Leftovers,
) -> Result<Pruned, TargetError> {
    let wanted: BTreeSet<_> = wanted.iter().map(name).collect();
    let objects = stage.held.inventory.objects.iter();
    let mut surplus: Vec<(ObjectId, Entry)> =
        objects.filter(|(id, _)| !wanted.contains(&name(id))).map(|(id, entry)| (id.clone(), entry.clone())).collect();
    surplus.sort_by(|(a, _), (b, _)| (order::rank(b), b).cmp(&(order::rank(a), a)));
    let mut pruned = Pruned::default();
    for (id, entry) in surplus {
        guard.check()?;
        if let Some(why) = before_looking(stage, &id, &entry) {
            keep(stage, &id, why, &mut pruned);
            continue;
        }
        stage.say(format!("deleting {id}"));
        let removed = remove(stage, &id, &entry).await;
        let Some(verdict) = pruned.told(removed, leftovers)? else { continue };
        if verdict == Verdict::Delete {
            stage.held.inventory.objects.forget(&id);
            pruned.deleted.push(id);
        } else {
            keep(stage, &id, verdict, &mut pruned);
        }
    }
    Ok(pruned)
}

impl Pruned {
    /// What became of one; `None`: it is left, and noted.
    fn told(
        &mut self,
        removed: Result<Verdict, TargetError>,
        leftovers: Leftovers,
    ) -> Result<Option<Verdict>, TargetError> {
        match (removed, leftovers) {
            (Ok(verdict), _) => Ok(Some(verdict)),
            (
                Err(error @ (TargetError::World { .. } | TargetError::Unreached { .. } | TargetError::Release(_))),
                Leftovers::Tell,
            ) => {
                self.left.push(error.to_string());
                Ok(None)
            }
            (Err(error), _) => Err(error),
        }
    }
}

fn keep(stage: &mut Stage<'_>, id: &ObjectId, verdict: Verdict, pruned: &mut Pruned) {
    match verdict {
        Verdict::Delete => {}
        Verdict::Keep(why) => pruned.kept.push((id.clone(), why)),
        Verdict::Forget(why) => {
            stage.held.inventory.objects.forget(id);
            pruned.kept.push((id.clone(), why));
        }
    }
}

/// The group, kind, namespace and name: the version does not tell objects apart.
fn name(id: &ObjectId) -> (String, String, Option<String>, String) {
    (id.group().to_owned(), id.kind.clone(), id.namespace.clone(), id.name.clone())
}

/// What is clear without a look at the object.
fn before_looking(stage: &Stage<'_>, id: &ObjectId, entry: &Entry) -> Option<Verdict> {
    if *entry == Entry::Adopted {
        return Some(Verdict::Forget("it was there before us"));
    }
    if !stage.config.prune() {
        return Some(Verdict::Keep("the pipeline says `prune: false`"));
    }
    match precious(id).filter(|precious| !stage.config.prune_also().contains(precious))? {
        Precious::Namespaces => Some(Verdict::Keep("namespaces go only with `prune_also: [namespaces]`")),
        Precious::Crds => Some(Verdict::Keep("CRDs go only with `prune_also: [crds]`")),
        Precious::VolumeClaims => Some(Verdict::Keep("volume claims go only with `prune_also: [volume_claims]`")),
    }
}

fn precious(id: &ObjectId) -> Option<Precious> {
    match (id.group(), id.kind.as_str()) {
        ("", "Namespace") => Some(Precious::Namespaces),
        ("", "PersistentVolumeClaim" | "PersistentVolume") => Some(Precious::VolumeClaims),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => Some(Precious::Crds),
        _ => None,
    }
}

/// Looks at the object and deletes exactly what was seen.
async fn remove(stage: &Stage<'_>, id: &ObjectId, entry: &Entry) -> Result<Verdict, TargetError> {
    for _ in 0..RACES_MAX {
        let seen = match stage.cluster.seen(id).await {
            Ok(Some(seen)) => seen,
            // Its kind went with its CRD, and so did it.
            Ok(None) | Err(KubeError::UnknownKind { .. }) => return Ok(Verdict::Delete),
            Err(error) => return Err(about("look at", id, &error)),
        };
        let verdict = judge(entry, &seen, stage.site.environment.as_str(), stage.held.uid());
        if verdict != Verdict::Delete || seen.deletion_timestamp.is_some() {
            return Ok(verdict);
        }
        if !stage.config.prune_also().contains(&Precious::VolumeClaims) && takes_claims_along(stage, id).await? {
            return Ok(Verdict::Keep(
                "its `persistentVolumeClaimRetentionPolicy` deletes its volume claims with it; it goes only with \
                 `prune_also: [volume_claims]`, or with `whenDeleted: Retain`",
            ));
        }
        match stage.cluster.delete(id, &seen).await {
            Ok(_) => return Ok(Verdict::Delete),
            // It changed since we looked: look again.
            Err(error) if error.code() == Some(409) => {}
            Err(error) => return Err(about("delete", id, &error)),
        }
    }
    Err(super::refusals::world(format!("cannot delete {id}: others change it all the time")))
}

/// Whether deleting it deletes what people keep in its volumes.
async fn takes_claims_along(stage: &Stage<'_>, id: &ObjectId) -> Result<bool, TargetError> {
    if id.group() != "apps" || id.kind != "StatefulSet" {
        return Ok(false);
    }
    let api = stage.cluster.api(id).await.map_err(|error| about("look at", id, &error))?;
    let live = api.get_opt(&id.name).await.map_err(|error| about("look at", id, &error.into()))?;
    Ok(live.is_some_and(|live| live.data["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"))
}

fn judge(entry: &Entry, seen: &Seen, environment: &str, inventory: Option<&str>) -> Verdict {
    let label = |key: &str| seen.labels.as_ref().and_then(|labels| labels.get(key));
    if label(ENVIRONMENT_LABEL).is_none_or(|label| label != environment) {
        return Verdict::Forget("it is not marked as ours");
    }
    // An older piton did not write it.
    if label(INVENTORY_LABEL).is_some_and(|label| Some(label.as_str()) != inventory) {
        return Verdict::Forget("another pipeline has applied it since");
    }
    let is_ours = match entry {
        Entry::Ours { uid } => seen.uid.as_ref() == Some(uid),
        Entry::Wanted { since } => made_since(seen, *since),
        Entry::Adopted => false,
    };
    if is_ours { Verdict::Delete } else { Verdict::Forget("someone else made it") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(uid: &str, label: Option<&str>, created: &str) -> Seen {
        let labels = label.map(|label| json!({ ENVIRONMENT_LABEL: label }));
        serde_json::from_value(json!({"uid": uid, "labels": labels, "creationTimestamp": created}))
            .expect("it is metadata")
    }

    #[test]
    fn a_deletion_that_fails_is_told_where_users_are_home_already() {
        let failed = || Err(super::super::refusals::world("cannot delete Service shop/a: no"));
        let mut pruned = Pruned::default();
        pruned.told(failed(), Leftovers::Fail).expect_err("the act fails");
        assert_eq!(pruned.told(failed(), Leftovers::Tell).expect("the act goes on"), None);
        assert_eq!(pruned.left, ["cannot delete Service shop/a: no"]);
        let fenced = Err(TargetError::Fenced { ours: 1, seen: 2 });
        pruned.told(fenced, Leftovers::Tell).expect_err("somebody else acts here");
    }

    #[test]
    fn only_what_we_made_and_what_is_marked_is_deleted() {
        let at = |second: &str| format!("2026-01-01T00:00:{second}Z");
        let since = jiff::Timestamp::from_second(1_767_225_630).expect("a time");
        assert_eq!(since.to_string(), at("30"));
        let ours = Entry::Ours { uid: "u".to_owned() };
        let wanted = Entry::Wanted { since: Some(since.as_second()) };
        let cases = [
            (&ours, seen("u", Some("staging"), &at("00")), Verdict::Delete),
            (&ours, seen("other", Some("staging"), &at("00")), Verdict::Forget("someone else made it")),
            (&ours, seen("u", Some("production"), &at("00")), Verdict::Forget("it is not marked as ours")),
            (&ours, seen("u", None, &at("00")), Verdict::Forget("it is not marked as ours")),
            (&wanted, seen("x", Some("staging"), &at("31")), Verdict::Delete),
            (&wanted, seen("x", Some("staging"), &at("29")), Verdict::Forget("someone else made it")),
            (&Entry::Adopted, seen("u", Some("staging"), &at("31")), Verdict::Forget("someone else made it")),
        ];
        for (entry, seen, expected) in cases {
            assert_eq!(judge(entry, &seen, "staging", Some("list")), expected, "{entry:?} {seen:?}");
        }
        let listed = |inventory: &str| {
            let mut seen = seen("u", Some("staging"), &at("00"));
            seen.labels.get_or_insert_default().insert(INVENTORY_LABEL.to_owned(), inventory.to_owned());
            judge(&ours, &seen, "staging", Some("list"))
        };
        assert_eq!(listed("list"), Verdict::Delete);
        assert_eq!(listed("another"), Verdict::Forget("another pipeline has applied it since"));
    }
}
