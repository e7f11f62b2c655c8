//! The values of secrets: in memory, never on disk.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::clients::secrets;

/// What runners have brought along; every instance looks here when it is started, so that a value that came later
/// reaches it too.
#[derive(Clone, Default)]
pub struct Secrets(Arc<RwLock<BTreeMap<String, String>>>);

impl Secrets {
    pub fn add(&self, values: BTreeMap<String, String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(values);
    }

    /// The values of these variables: from a runner, or from our own environment; the error names what is missing.
    pub fn of(&self, service: &str, names: &[String]) -> Result<BTreeMap<String, String>, String> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let value = |name: &String| {
            let value = known.get(name).cloned().or_else(|| secrets::value(name).ok());
            let missing =
                || format!("service `{service}` needs the environment variable `{name}`, which is not set here");
            Ok((name.clone(), value.ok_or_else(missing)?))
        };
        names.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_from_runners_or_our_environment_and_may_come_late() {
        let secrets = Secrets::default();
        let names = ["PATH".to_owned(), "PITON_TEST_NOT_SET".to_owned()];
        let missing = secrets.clone().of("web", &names).expect_err("one is missing");
        assert!(missing.contains("service `web` needs") && missing.contains("PITON_TEST_NOT_SET"), "{missing}");
        secrets.add(BTreeMap::from([("PITON_TEST_NOT_SET".to_owned(), "late".to_owned())]));
        assert_eq!(secrets.of("web", &names).expect("both")["PITON_TEST_NOT_SET"], "late");
    }
}
