use std::{collections::BTreeMap, num::NonZeroU32};

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Entry, Gate, Scene,
    expectation::{expect_rule, once},
};
use crate::{
    model::Saw,
    pipeline::{GateKind, Kind, checked},
};

pub const ENTRY: Entry = Entry {
    kind: GateKind {
        kind: Kind {
            name: "workload",
            about: "sees at once when something of the release is visibly broken",
            help: HELP,
            example: EXAMPLE,
            check: checked::<Config>,
            schema: |generator| generator.subschema_for::<Config>(),
        },
        rule: expect_rule,
    },
    build: |config| Ok(Box::new(serde_json::from_value::<Config>(config.clone())?)),
};

const HELP: &str = "\
Asks the target whether anything that the release runs is visibly broken at this moment: a pod that crashes or cannot pull its image,
an object that was deleted. It is bad with that sentence (the pod, its node, the reason, the last lines of its log) and good when
everything is ready. A pod that is merely not ready, or a node that is gone, is blind: it holds and blames nobody.

A look costs the cluster nothing: the target watches as long as the promotion runs. So look often, `every: 2s`, and a crash in the
middle of a canary step or a bake goes back within seconds. Targets that do not watch what they run give no answer: blind.

`passes` good looks in a row pass; more than `tolerate` bad looks in one step fail.";

const EXAMPLE: &str = "\
- workload: {}
  name: pods
  every: 2s
";

/// Facts of the target: what is visibly broken (empty when nothing is), that all is ready, and what is not.
const BROKEN: &str = "broken";
const READY: &str = "ready";
const UNSETTLED: &str = "unsettled";

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WorkloadGate")]
struct Config {
    /// Good looks in a row that pass.
    #[serde(default = "once")]
    passes: NonZeroU32,
    /// Bad looks in one step that are forgiven.
    #[serde(default)]
    tolerate: u32,
}

impl Gate for Config {
    fn look<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Saw> {
        Box::pin(async { see(&scene.facts) })
    }
}

fn see(facts: &BTreeMap<String, String>) -> Saw {
    match facts.get(BROKEN) {
        None => Saw::Blind("the target does not say whether anything is broken".to_owned()),
        Some(broken) if !broken.is_empty() => Saw::Bad(broken.clone()),
        Some(_) => match (facts.get(READY), facts.get(UNSETTLED)) {
            (Some(ready), _) => Saw::Good(ready.clone()),
            (None, Some(why)) => Saw::Blind(format!("not everything is ready: {why}")),
            (None, None) => Saw::Blind("the target does not say whether everything is ready".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_is_bad_ready_is_good_and_anything_else_is_unknown() {
        let facts = |facts: &[(&str, &str)]| {
            see(&facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let crash = "Pod hub/web-1, container web, on node-1: CrashLoopBackOff";
        assert_eq!(facts(&[("broken", crash)]), Saw::Bad(crash.to_owned()));
        assert_eq!(facts(&[("broken", ""), ("ready", "3 pods ready")]), Saw::Good("3 pods ready".to_owned()));
        let unsettled = facts(&[("broken", ""), ("unsettled", "deployment web: 2 of 3")]);
        assert_eq!(unsettled, Saw::Blind("not everything is ready: deployment web: 2 of 3".to_owned()));
        assert!(matches!(facts(&[("broken", "")]), Saw::Blind(_)));
        assert!(matches!(facts(&[("url", "http://x")]), Saw::Blind(_)));
    }
}
