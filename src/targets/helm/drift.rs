//! What is not as piton left it: the revision of the Helm release, and the objects of its manifest.

use std::{collections::BTreeMap, slice::from_ref};

use super::{
    HelmTarget, Place,
    config::Unit,
    live,
    objects::{self, REHEARSER},
    record::Known,
    storage::{Content, Revision, Status},
    world,
};
use crate::{
    clients::kube::{Cluster, KubeError},
    model::Release,
    targets::{
        Difference, TargetError,
        compare::difference,
        kubernetes::{
            drift::{self, Wanted},
            manifest::Manifest,
        },
    },
};

/// Every difference in every unit.
pub async fn see(
    target: &HelmTarget,
    release: &Release,
    digests: &BTreeMap<String, String>,
) -> Result<Vec<Difference>, TargetError> {
    let mut found = Vec::new();
    for unit in &target.units {
        let place = target.place(unit).await?;
        let of = |difference: Difference| match &unit.member {
            Some(member) => Difference { object: format!("{member}: {}", difference.object), ..difference },
            None => difference,
        };
        found.extend(of_unit(&place, unit, release, digests).await?.into_iter().map(of));
    }
    Ok(found)
}

async fn of_unit(
    place: &Place,
    unit: &Unit,
    release: &Release,
    digests: &BTreeMap<String, String>,
) -> Result<Vec<Difference>, TargetError> {
    let known = place.record.read().await?;
    let revisions = place.storage.revisions().await?;
    let name = format!("{}/{}", unit.namespace, unit.release);
    let about = |field: &str| difference("Helm release", &name, field);
    let Some(last) = revisions.last() else {
        return Ok(vec![Difference { wanted: Some("there".into()), ..about("") }]);
    };
    let ours = revisions.iter().rev().find(|revision| is_ours(&known, revision, release));
    // Without a revision of this release there is nothing to compare objects with.
    let Some(ours) = ours else {
        let wanted = format!("one of release {}", release.tree.short());
        return Ok(vec![differs(about("revision"), wanted, place, last).await?]);
    };
    let content = place.storage.content(ours).await?;
    let mut found = Vec::new();
    if ours.number != last.number {
        found.push(differs(about("revision"), ours.number.to_string(), place, last).await?);
    } else if ours.status != Status::Deployed {
        let (wanted, live) = (Some("deployed".into()), Some(ours.status.word().into()));
        found.push(Difference { wanted, live, ..by_whom(about("status"), &content) });
    }
    let changed = of_objects(&place.cluster, &content, unit, digests).await;
    found.extend(changed.map_err(|error| world(&format!("{unit}: cannot compare what is live"), error))?);
    Ok(found)
}

/// Whether this revision is the release, by piton's own record, or by its label where there is no record.
fn is_ours(known: &Known, revision: &Revision, release: &Release) -> bool {
    live::tree_of(known, revision).as_ref() == Some(&release.tree)
}

/// The revision that is there, in words.
async fn differs(of: Difference, wanted: String, place: &Place, last: &Revision) -> Result<Difference, TargetError> {
    let content = place.storage.content(last).await?;
    let said = if content.description.is_empty() { String::new() } else { format!(": {}", content.description) };
    let live = format!("{} ({}{said})", last.number, last.status.word());
    Ok(Difference { wanted: Some(wanted.into()), live: Some(live.into()), ..by_whom(of, &content) })
}

fn by_whom(of: Difference, content: &Content) -> Difference {
    Difference { by: content.by.clone(), at: content.since.parse().ok(), ..of }
}

/// The fields that the manifest sets, as they are; what others set besides is theirs.
async fn of_objects(
    cluster: &Cluster,
    content: &Content,
    unit: &Unit,
    digests: &BTreeMap<String, String>,
) -> Result<Vec<Difference>, KubeError> {
    cluster.forget_kinds().await;
    let mut manifests = Vec::new();
    for object in objects::parse(&content.manifest).unwrap_or_default() {
        for id in objects::names(cluster, from_ref(&object), &unit.namespace).await {
            manifests.push(Manifest { id, object: object.clone(), file: String::new(), line: 0, document: 0 });
        }
    }
    let wanted: Vec<Wanted> = manifests
        .iter()
        .map(|manifest| Wanted { manifest, marked: manifest.object.clone(), literal: false, manager: REHEARSER })
        .collect();
    drift::look(cluster, &wanted, digests).await
}
