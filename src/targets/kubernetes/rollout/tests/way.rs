//! Which pod of a StatefulSet has to make way, and when.

use super::*;
use crate::targets::kubernetes::rollout::free::InTheWay;

/// `web` of three replicas on its way to the revision `good`.
fn set(partition: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": { "namespace": "hub", "name": "web", "uid": "s", "generation": 2 },
        "spec": {
            "replicas": 3, "selector": { "matchLabels": { "app": "web" } },
            "updateStrategy": { "rollingUpdate": { "partition": partition } },
        },
        "status": { "observedGeneration": 2, "updateRevision": "good" },
    })
}

/// A pod by its number, as `good+`, `bad-`: its revision and whether it is ready; `bad~` is on its way out.
fn member((number, state): (usize, &str)) -> Option<Value> {
    let (revision, sign) = state.split_at(state.len().checked_sub(1)?);
    let mut pod = pod("2", number, running(), sign == "+");
    pod["metadata"]["name"] = format!("web-{number}").into();
    pod["metadata"]["uid"] = format!("{state}{number}").into();
    pod["metadata"]["labels"]["controller-revision-hash"] = revision.into();
    pod["metadata"]["ownerReferences"] = json!([{ "uid": "s", "controller": true }]);
    if sign == "~" {
        pod["metadata"]["deletionTimestamp"] = "2026-11-21T13:00:00Z".into();
    }
    Some(pod)
}

/// The pods from the lowest number on; an empty word is one that is missing.
fn with(pods: [&str; 3], partition: i64) -> World {
    World::new(vec![id("StatefulSet", "web")])
        .lists("StatefulSet", vec![set(partition)])
        .lists("Pod", pods.into_iter().enumerate().filter_map(member).collect())
}

impl InTheWay {
    fn named(&mut self, world: &World, seconds: u64) -> Vec<String> {
        let (ripe, _) = self.ripe(&world.picture, world.begun + Duration::from_secs(seconds));
        ripe.into_iter().map(|pod| pod.id.name).collect()
    }
}

#[test]
fn one_at_a_time_makes_way_and_nobody_above_it_may_be_unready() {
    let cases = [
        (["bad+", "bad+", "bad-"], 0, Some("web-2")),
        (["bad-", "bad-", "bad-"], 0, Some("web-2")),
        (["bad-", "bad-", "good+"], 0, Some("web-1")),
        // The controller makes none above one that is not ready.
        (["bad+", "bad-", ""], 0, Some("web-1")),
        // Web-2 is being brought up: an older one that is not ready for a moment is left alone.
        (["bad-", "bad+", "good-"], 0, None),
        (["bad-", "bad+", "bad~"], 0, None),
        (["good+", "good+", "good-"], 0, None),
        // Below the partition pods stay as they are.
        (["bad-", "good+", "good+"], 1, None),
    ];
    for (pods, partition, expected) in cases {
        let (world, mut way) = (with(pods, partition), InTheWay::default());
        assert_eq!(way.named(&world, 0), [] as [String; 0], "{pods:?}: it is given a moment");
        assert_eq!(way.named(&world, 2), expected.into_iter().collect::<Vec<_>>(), "{pods:?}");
    }
}

#[test]
fn who_becomes_ready_in_its_moment_stays() {
    let mut way = InTheWay::default();
    assert!(way.named(&with(["bad+", "bad+", "bad-"], 0), 0).is_empty());
    assert!(way.named(&with(["bad+", "bad+", "bad+"], 0), 1).is_empty());
    assert!(way.named(&with(["bad+", "bad+", "bad-"], 0), 2).is_empty(), "the next one has its own moment");
}

#[test]
fn a_no_is_kept_and_asked_again_later() {
    let (world, mut way) = (with(["bad+", "bad+", "bad-"], 0), InTheWay::default());
    way.named(&world, 0);
    let (ripe, _) = way.ripe(&world.picture, world.begun + Duration::from_secs(2));
    way.answered(&ripe[0], Err("its budget says no".to_owned()), world.begun + Duration::from_secs(2));
    assert!(way.named(&world, 6).is_empty());
    let told: Vec<String> = way.who_stay().map(|(id, why)| format!("{}: {why}", id.name)).collect();
    assert_eq!(
        told,
        ["web-2: it is of the revision before, holds up its StatefulSet and cannot be evicted: its budget says no"]
    );
    assert_eq!(way.named(&world, 7), ["web-2"]);
    way.named(&with(["bad+", "bad+", "good+"], 0), 8);
    assert_eq!(way.who_stay().count(), 0);
}
