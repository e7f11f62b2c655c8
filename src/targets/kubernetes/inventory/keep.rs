//! Reading and writing the inventory's ConfigMap.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};

use super::{BYTES_MAX, ENVIRONMENT_LABEL, FENCE_ANNOTATION, Inventory, MANAGER, SCHEMA, name};
use crate::{
    clients::kube::{Cluster, KubeError},
    model::EnvironmentName,
    targets::{Site, TargetError, kubernetes::refusals::with_hint, owner},
};

const KEY: &str = "inventory.json";
/// Others change it seldom: an older runner on its last breath, a person.
const WRITES_MAX: u32 = 5;

/// The inventory, in the hands of one act.
pub struct Held {
    pub inventory: Inventory,
    pub environment: EnvironmentName,
    pub fence: u64,
    site: Site,
    namespace: String,
    configmaps: Api<ConfigMap>,
    /// The ConfigMap as it was seen last; `None`: it is not there.
    seen: Option<ConfigMap>,
}

/// Reads it and refuses those whose it is not, and those who come too late. Nothing is written yet; `keep` raises the number.
pub async fn hold(cluster: &Cluster, namespace: &str, site: &Site, fence: u64) -> Result<Held, TargetError> {
    let mut held = Held {
        inventory: Inventory::default(),
        environment: site.environment.clone(),
        fence,
        site: site.clone(),
        namespace: namespace.to_owned(),
        configmaps: Api::namespaced(cluster.client.clone(), namespace),
        seen: None,
    };
    if let Some((inventory, seen)) = held.load().await? {
        if inventory.fence > fence {
            return Err(TargetError::Fenced { ours: fence, seen: inventory.fence });
        }
        held.inventory = inventory;
        held.seen = Some(seen);
    }
    held.inventory.fence = fence;
    Ok(held)
}

/// What the inventory says, for those who only look; `None`: there is none.
pub async fn look(cluster: &Cluster, namespace: &str, site: &Site) -> Result<Option<Inventory>, TargetError> {
    let configmaps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), namespace);
    Ok(load(&configmaps, namespace, site, None).await?.map(|(inventory, _)| inventory))
}

impl Held {
    /// Writes it down; on a lost race with someone of a lower or the same number, joins what they knew and writes again.
    pub async fn keep(&mut self) -> Result<(), TargetError> {
        for _ in 0..WRITES_MAX {
            let map = self.configmap()?;
            let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            let wrote = match self.seen {
                Some(_) => self.configmaps.replace(&name(&self.environment), &params, &map).await,
                None => self.configmaps.create(&params, &map).await,
            };
            match wrote {
                Ok(written) => {
                    if let Some(at) = written_at(&written.metadata) {
                        self.inventory.objects.date(at);
                    }
                    self.seen = Some(written);
                    return Ok(());
                }
                Err(error) => self.after(error.into()).await?,
            }
        }
        Err(world(format!("the inventory {} was changed by others {WRITES_MAX} times in a row", self.place())))
    }

    /// What to do after a write that failed: a lost race is joined, the rest is an error.
    async fn after(&mut self, error: KubeError) -> Result<(), TargetError> {
        let gone = error.is_not_found() && self.is_there();
        if error.code() != Some(409) && !gone {
            let hint = match error.is_not_found() {
                true => "; create the namespace, or put it among the manifests",
                false => "",
            };
            return Err(world(format!("cannot write the inventory {}: {}{hint}", self.place(), with_hint(&error))));
        }
        match self.load().await? {
            Some((theirs, _)) if theirs.fence > self.fence => {
                Err(TargetError::Fenced { ours: self.fence, seen: theirs.fence })
            }
            Some((theirs, seen)) => {
                self.inventory.objects.join(theirs.objects);
                self.seen = Some(seen);
                Ok(())
            }
            None => {
                self.seen = None;
                Ok(())
            }
        }
    }

    pub fn is_there(&self) -> bool {
        self.seen.is_some()
    }

    /// Of the ConfigMap as it was seen last.
    pub fn version(&self) -> Option<&str> {
        self.seen.as_ref()?.metadata.resource_version.as_deref()
    }

    /// What tells this inventory from every other; `None` until it is there.
    pub fn uid(&self) -> Option<&str> {
        self.seen.as_ref()?.metadata.uid.as_deref()
    }

    /// The number that stands there at this moment.
    pub async fn fence_there(&self) -> Result<u64, TargetError> {
        let seen = self.configmaps.get_metadata_opt(&name(&self.environment)).await;
        let seen =
            seen.map_err(|error| world(format!("cannot read {}: {}", self.place(), with_hint(&error.into()))))?;
        Ok(seen.map_or(0, |seen| fence_of(&seen.metadata)))
    }

    pub fn configmaps(&self) -> &Api<ConfigMap> {
        &self.configmaps
    }

    async fn load(&self) -> Result<Option<(Inventory, ConfigMap)>, TargetError> {
        load(&self.configmaps, &self.namespace, &self.site, Some(self.fence)).await
    }

    fn place(&self) -> String {
        format!("{}/{}", self.namespace, name(&self.environment))
    }

    fn configmap(&self) -> Result<ConfigMap, TargetError> {
        let inventory = Inventory { schema: SCHEMA, fence: self.fence, ..self.inventory.clone() };
        let text = serde_json::to_string(&inventory).map_err(|error| TargetError::World {
            what: "cannot write the inventory".to_owned(),
            source: Some(error.into()),
        })?;
        if text.len() > BYTES_MAX {
            return Err(TargetError::Release(format!(
                "the inventory of all objects would need {} bytes, more than the {BYTES_MAX} of one ConfigMap; split the \
                 release into several environments",
                text.len()
            )));
        }
        let name = (name(&self.environment), self.namespace.clone());
        Ok(written(self.seen.clone(), name, &self.site, self.fence, text))
    }
}

/// The ConfigMap with our keys as they are to be. What others keep in it stays: the record of Helm releases, a person's notes.
fn written(
    seen: Option<ConfigMap>,
    (name, namespace): (String, String),
    site: &Site,
    fence: u64,
    text: String,
) -> ConfigMap {
    let mut map = seen.unwrap_or_default();
    let metadata: &mut ObjectMeta = &mut map.metadata;
    (metadata.name, metadata.namespace, metadata.managed_fields) = (Some(name), Some(namespace), None);
    let labels = [("app.kubernetes.io/managed-by", MANAGER), (ENVIRONMENT_LABEL, site.environment.as_str())];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    metadata.labels.get_or_insert_default().extend(labels);
    let annotations = [(FENCE_ANNOTATION.to_owned(), fence.to_string()), site.owner.annotation()];
    metadata.annotations.get_or_insert_default().extend(annotations);
    map.data.get_or_insert_default().insert(KEY.to_owned(), text);
    map
}

/// The inventory and its ConfigMap. What was wanted when it was written gets the time of that writing.
async fn load(
    configmaps: &Api<ConfigMap>,
    namespace: &str,
    site: &Site,
    fence: Option<u64>,
) -> Result<Option<(Inventory, ConfigMap)>, TargetError> {
    let environment = &site.environment;
    let place = || format!("{namespace}/{}", name(environment));
    let found = configmaps.get_opt(&name(environment)).await;
    let found =
        found.map_err(|error| world(format!("cannot read the inventory {}: {}", place(), with_hint(&error.into()))))?;
    let Some(map) = found else { return Ok(None) };
    let text = map.data.as_ref().and_then(|data| data.get(KEY)).map_or("{}", String::as_str);
    // Someone emptied it: what can be known again is learned from the cluster.
    let text = if text.trim() == "{}" { r#"{"schema":1,"fence":0}"# } else { text };
    let mut inventory: Inventory = serde_json::from_str(text).map_err(|error| TargetError::World {
        what: format!(
            "the inventory {} cannot be read; `kubectl edit` it, or delete it: then nothing is pruned",
            place()
        ),
        source: Some(error.into()),
    })?;
    if inventory.schema != SCHEMA {
        return Err(world(format!(
            "the inventory {} has the schema {}, which this piton does not know; use the newer one",
            place(),
            inventory.schema
        )));
    }
    inventory.fence = inventory.fence.max(fence_of(&map.metadata));
    // The releases of a newer number need not be known here yet: who is fenced off hears that.
    let is_newer = fence.is_some_and(|ours| inventory.fence > ours);
    let trees = if is_newer { Vec::new() } else { inventory.trees() };
    owner::check(site, &place(), map.metadata.annotations.as_ref(), &trees)?;
    if let Some(at) = written_at(&map.metadata) {
        inventory.objects.date(at);
    }
    Ok(Some((inventory, map)))
}

/// The number in the annotation, which a watch sees without the rest.
pub fn fence_of(metadata: &ObjectMeta) -> u64 {
    let annotations = metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(FENCE_ANNOTATION)).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// When we wrote it last, by the server's clock, in seconds.
fn written_at(metadata: &ObjectMeta) -> Option<i64> {
    let ours = metadata.managed_fields.iter().flatten().filter(|entry| entry.manager.as_deref() == Some(MANAGER));
    ours.filter_map(|entry| entry.time.as_ref()).map(|time| time.0.as_second()).max()
}

fn world(what: String) -> TargetError {
    TargetError::World { what, source: None }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use serde_json::json;

    use super::*;
    use crate::{
        model::TreeId,
        targets::{Checkout, Owner},
    };

    struct Nothing;

    impl Checkout for Nothing {
        fn checkout(&self, _: &TreeId, _: &Path) -> Result<(), TargetError> {
            Ok(())
        }
    }

    #[test]
    fn what_others_keep_in_the_same_map_stays() {
        let site = Site {
            environment: "production".parse().expect("a name"),
            owner: Owner { pipeline: "hub".to_owned(), branch: "piton/production".to_owned() },
            state_dir: "/nowhere".into(),
            trees: Arc::new(Nothing),
            program: "/nowhere".into(),
            progress: Default::default(),
        };
        let seen: ConfigMap = serde_json::from_value(json!({
            "metadata": {"name": "piton-production", "namespace": "shop", "resourceVersion": "12", "uid": "u",
                "labels": {"team": "hub"}, "annotations": {"a": "b", "piton.dev/fence": "3"}},
            "data": {"helm.web": "{}", "fence": "3", "inventory.json": "old"},
        }))
        .expect("a map");
        let name = || ("piton-production".to_owned(), "shop".to_owned());
        let new = written(Some(seen), name(), &site, 4, "new".to_owned());
        let new = serde_json::to_value(new).expect("it is JSON");
        assert_eq!(new["data"], json!({"helm.web": "{}", "fence": "3", "inventory.json": "new"}));
        assert_eq!(new["metadata"]["resourceVersion"], "12");
        assert_eq!(
            (&new["metadata"]["labels"]["team"], &new["metadata"]["annotations"]["a"]),
            (&json!("hub"), &json!("b"))
        );
        assert_eq!(new["metadata"]["annotations"]["piton.dev/fence"], "4");
        let fresh = written(None, name(), &site, 4, "new".to_owned());
        assert_eq!(Owner::of(fresh.metadata.annotations.as_ref()), Some(site.owner));
        assert_eq!(fresh.data.expect("it has some").len(), 1);
    }
}
