//! Any kind that follows the conventions: `observedGeneration`, and the conditions `Stalled`, `Reconciling`, `Ready`,
//! `Available`, as `kstatus` of the Kubernetes command-line tools reads them.

use serde_json::Value;

use super::{
    Blame, Health, Trouble,
    read::{condition, id, is_observed},
};

/// Conditions that say that an object serves; the first one that is there counts.
const GOOD_SIGNS: [&str; 3] = ["Ready", "Available", "Established"];

pub(super) fn of(object: &Value) -> Health {
    if !is_observed(object) {
        return Health::progressing("its controller has not seen the change yet");
    }
    let status = &object["status"];
    if let Some(stalled) = condition(status, "Stalled").filter(|c| c.is_true()) {
        return Health::broken(Trouble::new(
            id(object),
            word(stalled.reason, "Stalled"),
            stalled.message,
            Blame::Release,
        ));
    }
    if let Some(under_way) = condition(status, "Reconciling").filter(|c| c.is_true()) {
        return Health::progressing(word(under_way.said(), "it is being reconciled"));
    }
    for sign in GOOD_SIGNS {
        if let Some(found) = condition(status, sign) {
            return match found.is_true() {
                true => Health::Ready,
                // Most controllers say so while they work, too: only `Stalled` is final.
                false => Health::progressing(format!(
                    "it is not {}: {}",
                    sign.to_lowercase(),
                    word(found.said(), "no reason")
                )),
            };
        }
    }
    Health::Ready
}

fn word<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}
