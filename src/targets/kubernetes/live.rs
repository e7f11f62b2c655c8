//! What is live: by the inventory of each place, and by a standing look at what runs there.

use std::collections::BTreeMap;

use super::{
    KubernetesTarget, canary,
    inventory::{self, Inventory},
    order,
    rollout::{self, Watched},
    stage,
};
use crate::{
    clients::kube::ObjectId,
    model::TreeId,
    targets::{Live, TargetError},
};

/// Everyone, in hundredths of a percent.
const ALL: usize = 10_000;

impl KubernetesTarget {
    pub(super) async fn look(&self) -> Result<Live, TargetError> {
        let mut live = Live::default();
        let (mut trees, mut split) = (Vec::new(), canary::Seen::default());
        for (at, seat) in self.config.seats.iter().enumerate() {
            let cluster = self.cluster(at).await?;
            // Once for each connection: whoever only looks may look at what an act has checked.
            let standing = self.places[at].standing.get_or_try_init(|| async {
                stage::identify(cluster, seat).await?;
                Ok::<_, TargetError>(rollout::Standing::new(cluster, self.config.rollout()))
            });
            let standing = standing.await?;
            let found = inventory::look(cluster, &seat.namespace, &self.site).await?;
            trees.push(found.as_ref().and_then(|inventory| inventory.stable.clone()));
            let Some(inventory) = found else { continue };
            if let Some(doing) = &inventory.doing {
                live.facts.insert(format!("{}unfinished", prefix(seat)), doing.to_string());
            }
            let mut objects = to_watch(&inventory);
            let canary = stage::canary_of(cluster, &self.config, seat, &self.site, &inventory);
            if let Some(canary) = &canary {
                let seen = canary.look().await?;
                objects.extend(canary.deployments().into_iter().filter(|_| seen.tree.is_some()));
                split = seen;
            }
            for (name, value) in standing.glance(Watched::from(&objects).with_passing(inventory.passing)).await.facts()
            {
                tell(&mut live.facts, seat, name, value);
            }
        }
        live.releases = shares(&trees);
        tell_split(&mut live, split);
        Ok(live)
    }
}

/// Who has the canary, and what is wrong with it or with the way to it.
fn tell_split(live: &mut Live, split: canary::Seen) {
    let share = split.share.hundredths();
    if let Some(tree) = split.tree.filter(|tree| !live.releases.contains_key(tree)) {
        for stable in live.releases.values_mut() {
            *stable -= share.min(*stable);
        }
        live.releases.insert(tree, share);
    }
    for (name, sentences) in [("broken", split.broken), ("foreign", split.foreign)] {
        let known = live.facts.remove(name).filter(|known| !known.is_empty());
        let all: Vec<String> = known.into_iter().chain(sentences).collect();
        if !all.is_empty() || name == "broken" {
            live.facts.insert(name.to_owned(), all.join("; "));
        }
    }
}

/// One member is told by its name; what is broken anywhere is also told without one, for gates.
fn tell(facts: &mut BTreeMap<String, String>, seat: &super::Seat, name: String, value: String) {
    let place = prefix(seat);
    if !place.is_empty() {
        facts.insert(format!("{place}{name}"), value.clone());
    }
    let known = facts.entry(name).or_default();
    if !value.is_empty() {
        let value = stage::of_member(seat) + &value;
        *known = if known.is_empty() { value } else { format!("{known}; {value}") };
    }
}

fn prefix(seat: &super::Seat) -> String {
    seat.member.as_ref().map(|member| format!("{member}.")).unwrap_or_default()
}

fn to_watch(inventory: &Inventory) -> Vec<ObjectId> {
    inventory.objects.iter().map(|(id, _)| id).filter(|id| !order::is_only_text(id)).cloned().collect()
}

/// Each place has the same part of the users; what does not divide goes to the first.
fn shares(trees: &[Option<TreeId>]) -> BTreeMap<TreeId, u16> {
    let mut shares: BTreeMap<TreeId, u16> = BTreeMap::new();
    let (part, rest) = (ALL / trees.len().max(1), ALL % trees.len().max(1));
    for (at, tree) in trees.iter().enumerate() {
        if let Some(tree) = tree {
            let part = u16::try_from(part + usize::from(at == 0) * rest).unwrap_or(u16::MAX);
            *shares.entry(tree.clone()).or_default() += part;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_equal_parts() {
        let tree = |c: &str| Some(c.repeat(40).parse::<TreeId>().expect("a tree"));
        let told = |trees: &[Option<TreeId>]| shares(trees).into_values().collect::<Vec<_>>();
        assert_eq!(told(&[tree("a")]), [10_000]);
        assert_eq!(told(&[tree("a"), tree("a"), tree("b")]), [6_667, 3_333]);
        assert_eq!(told(&[None]), [0; 0]);
    }
}
