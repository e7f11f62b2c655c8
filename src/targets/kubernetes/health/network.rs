//! Where requests come in: Services with their endpoints, and the routes of the Gateway API.

use serde_json::Value;

use super::{
    Blame, Health, Trouble,
    read::{Condition, id, items, number, read, text},
};

/// Whether a Service sends requests to pods that it selects. One without a selector, or for an external name, does not.
pub fn is_served(service: &Value) -> bool {
    let spec = &service["spec"];
    text(&spec["type"]) != "ExternalName" && spec["selector"].as_object().is_some_and(|labels| !labels.is_empty())
}

/// A Service together with the EndpointSlices that belong to it.
pub fn endpoints<'a>(service: &Value, slices: impl IntoIterator<Item = &'a Value>) -> Health {
    if !is_served(service) {
        return Health::Ready;
    }
    let ready = |endpoint: &&Value| endpoint["conditions"]["ready"].as_bool().unwrap_or(true);
    let any = slices.into_iter().flat_map(|slice| items(&slice["endpoints"])).any(|endpoint| ready(&endpoint));
    match any || service["spec"]["publishNotReadyAddresses"] == true {
        true => Health::Ready,
        false => Health::progressing("it has no ready endpoints"),
    }
}

/// A route that no gateway has answered for is ready: nobody may be there who would. One that was refused is broken.
pub(super) fn route(object: &Value) -> Health {
    let generation = number(&object["metadata"]["generation"]);
    let mut wait = None;
    for parent in items(&object["status"]["parents"]) {
        for condition in items(&parent["conditions"]) {
            if condition["observedGeneration"].as_i64().is_some_and(|seen| seen < generation) {
                wait = Some("a gateway has not seen the change yet".to_owned());
                continue;
            }
            if let Some(trouble) = refusal(object, parent, text(&condition["type"]), read(condition)) {
                return trouble;
            }
        }
    }
    wait.map_or(Health::Ready, Health::progressing)
}

fn refusal(route: &Value, parent: &Value, kind: &str, condition: Condition<'_>) -> Option<Health> {
    if !condition.is_false() {
        return None;
    }
    let gateway = text(&parent["parentRef"]["name"]);
    let message = format!("gateway {gateway}: {}", condition.said());
    let trouble = Trouble::new(id(route), condition.reason, message, Blame::Release);
    match kind {
        "Accepted" => Some(Health::broken(trouble)),
        // A Service of the same release may come a moment after its route.
        "ResolvedRefs" => Some(Health::doubtful(trouble)),
        _ => None,
    }
}
