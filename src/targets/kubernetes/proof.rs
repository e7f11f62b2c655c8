//! Whether a release could be applied again: every image and chart of it is still there, and the server would take its objects.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{FutureExt, StreamExt, stream};
use serde_json::Value;

use super::drift::{Answer, Wanted, would_be};
use crate::{
    clients::{
        kube::{Cluster, KubeError},
        registry::{Found, Logins, Reference},
    },
    model::Rehearsal,
};

/// Questions under way at the same time.
const AT_ONCE: usize = 8;
/// Obstacles that are told; whoever mends ten will ask again.
const OBSTACLES_MAX: usize = 10;

/// Tries everything and changes nothing.
pub async fn rehearse(cluster: &Cluster, wanted: &[Wanted<'_>]) -> Rehearsal {
    let objects: Vec<&Value> = wanted.iter().map(|wanted| &wanted.marked).collect();
    let mut rehearsal = images(&objects).await;
    let tries: Vec<_> = wanted.iter().map(|wanted| try_one(cluster, wanted).boxed()).collect();
    let tried: Vec<Result<Option<String>, KubeError>> = stream::iter(tries).buffered(AT_ONCE).collect().await;
    for result in tried {
        match result {
            Ok(obstacle) => rehearsal.obstacles.extend(obstacle),
            Err(error) => rehearsal.blind = rehearsal.blind.or(Some(error.to_string())),
        }
    }
    rehearsal.obstacles.truncate(OBSTACLES_MAX);
    rehearsal
}

async fn try_one(cluster: &Cluster, wanted: &Wanted<'_>) -> Result<Option<String>, KubeError> {
    let id = &wanted.manifest.id;
    match would_be(cluster, wanted).await {
        Ok(Answer::Would(_)) => Ok(None),
        Ok(Answer::Refuses(why)) => Ok(Some(format!("{id} would be refused: {why}"))),
        // The kind, or the namespace, comes with the release or is gone: the deploy makes it.
        Err(KubeError::UnknownKind { .. }) => Ok(None),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where each image of these objects leads.
pub async fn images(objects: &[&Value]) -> Rehearsal {
    let mut texts = BTreeSet::new();
    objects.iter().for_each(|object| collect(object, &mut texts));
    let logins = Logins::of_this_machine();
    let looks: Vec<_> = texts.into_iter().map(|text| look_up(text, &logins).boxed()).collect();
    let seen: Vec<(String, Seen)> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    let (mut obstacles, mut digests, mut blind) = (Vec::new(), BTreeMap::new(), None);
    for (text, seen) in seen {
        match seen {
            Seen::There(digest) => drop(digests.insert(text, digest)),
            Seen::Gone(why) => obstacles.push(why),
            Seen::Unknown(why) => blind = blind.or(Some(why)),
        }
    }
    Rehearsal { obstacles, digests, blind }
}

enum Seen {
    There(String),
    Gone(String),
    Unknown(String),
}

async fn look_up(text: String, logins: &Logins) -> (String, Seen) {
    let reference = match text.parse::<Reference>() {
        Ok(reference) => reference,
        Err(error) => return (text, Seen::Gone(error.to_string())),
    };
    let seen = match reference.look_up(logins).await {
        Ok(Found::Digest(digest)) => match reference.digest.as_ref().filter(|wanted| **wanted != digest) {
            Some(wanted) => Seen::Gone(format!("image `{text}` should be {wanted} and is {digest}")),
            None => Seen::There(digest),
        },
        Ok(Found::Nothing) => Seen::Gone(format!("image `{text}` is not in its registry any more")),
        Err(error) => Seen::Unknown(format!("image `{text}`: {error}")),
    };
    (text, seen)
}

/// The images of every pod that an object describes, wherever it does: custom kinds have pods in odd places.
fn collect(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if matches!(key.as_str(), "containers" | "initContainers") {
                    let images = value.as_array().into_iter().flatten().filter_map(|c| c["image"].as_str());
                    found.extend(images.filter(|image| !image.is_empty()).map(str::to_owned));
                }
                collect(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn images_are_found_wherever_pods_are_described() {
        let pod = json!({"containers": [{"name": "a", "image": "a:1"}], "initContainers": [{"image": "b:1"}]});
        let cron = json!({"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}});
        let twice = json!({"kind": "Pod", "spec": {"containers": [{"image": "a:1"}, {"name": "no image"}]}});
        let mut found = BTreeSet::new();
        [&cron, &twice].into_iter().for_each(|object| collect(object, &mut found));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a:1", "b:1"]);
    }
}
