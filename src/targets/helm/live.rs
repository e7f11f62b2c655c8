//! What is really live, from Helm's own records and what piton remembers of them.

use std::collections::BTreeMap;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::{
    AT_ONCE, HelmTarget,
    config::Unit,
    record::Known,
    storage::{Revision, Status},
};
use crate::{
    model::TreeId,
    targets::{Live, TargetError, command::shares_of},
};

/// What one unit says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Said {
    /// `None`: nothing is deployed, or nobody knows from which tree.
    tree: Option<TreeId>,
    fact: Option<(&'static str, String)>,
}

pub async fn look(target: &HelmTarget) -> Result<Live, TargetError> {
    let looks = target.units.iter().map(|unit| look_at(target, unit).boxed());
    let looked: Vec<Said> = stream::iter(super::each(looks)).buffered(AT_ONCE).try_collect().await?;
    let trees: Vec<&TreeId> = looked.iter().filter_map(|said| said.tree.as_ref()).collect();
    let mut facts: BTreeMap<String, String> = BTreeMap::new();
    for (name, sentence) in looked.iter().filter_map(|said| said.fact.clone()) {
        facts.entry(name.to_owned()).and_modify(|text| *text = format!("{text}; {sentence}")).or_insert(sentence);
    }
    Ok(Live { releases: shares_of(trees.into_iter()), facts, ..Live::default() })
}

async fn look_at(target: &HelmTarget, unit: &Unit) -> Result<Said, TargetError> {
    let place = target.place(unit).await?;
    let known = place.record.read().await?;
    let revisions = place.storage.revisions().await?;
    Ok(said(unit, &known, &revisions))
}

fn said(unit: &Unit, known: &Known, revisions: &[Revision]) -> Said {
    let Some(last) = revisions.last() else { return Said::default() };
    let deployed = revisions.iter().rev().find(|revision| revision.status == Status::Deployed);
    let tree = deployed.and_then(|revision| tree_of(known, revision));
    let fact = match (&last.status, &tree) {
        (Status::Deployed, Some(_)) => None,
        (Status::Deployed, None) => {
            Some(("foreign", format!("{unit}: revision {} was not deployed by piton", last.number)))
        }
        (Status::Failed | Status::Superseded, _) => {
            Some(("unfinished", format!("{unit}: revision {} failed, and may be there in part", last.number)))
        }
        (Status::Pending(word) | Status::Other(word), _) => {
            Some(("unfinished", format!("{unit}: revision {} is in `{word}`", last.number)))
        }
    };
    Said { tree, fact }
}

/// Helm hands labels on to revisions that others make, so a label alone proves nothing while there is a record.
pub(super) fn tree_of(known: &Known, revision: &Revision) -> Option<TreeId> {
    let label = revision.tree.clone();
    let of = |one: &super::record::Deployed| one.revision == revision.number && Some(&one.tree) == label.as_ref();
    match (&known.deployed, &known.doing) {
        (None, None) => label,
        (deployed, doing) => label.clone().filter(|_| deployed.iter().chain(doing).any(of)),
    }
}
