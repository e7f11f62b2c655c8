//! Reading and writing the inventory's ConfigMap.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};

use super::{BYTES_MAX, ENVIRONMENT_LABEL, FENCE_ANNOTATION, Inventory, MANAGER, SCHEMA, name};
use crate::{
    clients::kube::{Cluster, KubeError},
    model::EnvironmentName,
    targets::{TargetError, kubernetes::refusals::sentence},
};

const KEY: &str = "inventory.json";
/// Others change it seldom: an older runner on its last breath, a person.
const WRITES_MAX: u32 = 5;

/// The inventory, in the hands of one act.
pub struct Held {
    pub inventory: Inventory,
    pub environment: EnvironmentName,
    pub namespace: String,
    pub fence: u64,
    configmaps: Api<ConfigMap>,
    /// Of the ConfigMap as it was seen last; `None`: it is not there.
    pub version: Option<String>,
}

/// Reads it and refuses those who come too late. Nothing is written yet; `keep` raises the number.
pub async fn hold(
    cluster: &Cluster,
    namespace: &str,
    environment: &EnvironmentName,
    fence: u64,
) -> Result<Held, TargetError> {
    let configmaps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), namespace);
    let (environment, namespace) = (environment.clone(), namespace.to_owned());
    let mut held = Held { inventory: Inventory::default(), environment, namespace, fence, configmaps, version: None };
    if let Some((inventory, version)) = held.load().await? {
        if inventory.fence > fence {
            return Err(TargetError::Fenced { ours: fence, seen: inventory.fence });
        }
        held.inventory = inventory;
        held.version = version;
    }
    held.inventory.fence = fence;
    Ok(held)
}

/// What the inventory says, for those who only look; `None`: there is none.
pub async fn look(
    cluster: &Cluster,
    namespace: &str,
    environment: &EnvironmentName,
) -> Result<Option<Inventory>, TargetError> {
    let configmaps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), namespace);
    Ok(load(&configmaps, namespace, environment).await?.map(|(inventory, _)| inventory))
}

impl Held {
    /// Writes it down; on a lost race with someone of a lower or the same number, joins what they knew and writes again.
    pub async fn keep(&mut self) -> Result<(), TargetError> {
        for _ in 0..WRITES_MAX {
            let map = self.configmap()?;
            let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            let wrote = match self.version {
                Some(_) => self.configmaps.replace(&name(&self.environment), &params, &map).await,
                None => self.configmaps.create(&params, &map).await,
            };
            match wrote {
                Ok(written) => {
                    self.version = written.metadata.resource_version.clone();
                    if let Some(at) = written_at(&written.metadata) {
                        self.inventory.objects.date(at);
                    }
                    return Ok(());
                }
                Err(error) => self.after(error.into()).await?,
            }
        }
        Err(world(format!("the inventory {} was changed by others {WRITES_MAX} times in a row", self.place())))
    }

    /// What to do after a write that failed: a lost race is joined, the rest is an error.
    async fn after(&mut self, error: KubeError) -> Result<(), TargetError> {
        let gone = error.is_not_found() && self.version.is_some();
        if error.code() != Some(409) && !gone {
            let hint = match error.is_not_found() {
                true => "; create the namespace, or put it among the manifests",
                false => "",
            };
            return Err(world(format!("cannot write the inventory {}: {}{hint}", self.place(), sentence(&error))));
        }
        match self.load().await? {
            Some((theirs, _)) if theirs.fence > self.fence => {
                Err(TargetError::Fenced { ours: self.fence, seen: theirs.fence })
            }
            Some((theirs, version)) => {
                self.inventory.objects.join(theirs.objects);
                self.version = version;
                Ok(())
            }
            None => {
                self.version = None;
                Ok(())
            }
        }
    }

    /// The number that stands there at this moment.
    pub async fn fence_there(&self) -> Result<u64, TargetError> {
        let seen = self.configmaps.get_metadata_opt(&name(&self.environment)).await;
        let seen = seen.map_err(|error| world(format!("cannot read {}: {}", self.place(), sentence(&error.into()))))?;
        Ok(seen.map_or(0, |seen| fence_of(&seen.metadata)))
    }

    pub fn configmaps(&self) -> &Api<ConfigMap> {
        &self.configmaps
    }

    async fn load(&self) -> Result<Option<(Inventory, Option<String>)>, TargetError> {
        load(&self.configmaps, &self.namespace, &self.environment).await
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
        let labels = [("app.kubernetes.io/managed-by", MANAGER), (ENVIRONMENT_LABEL, self.environment.as_str())];
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        Ok(ConfigMap {
            metadata: ObjectMeta {
                name: Some(name(&self.environment)),
                namespace: Some(self.namespace.clone()),
                labels: Some(labels.into_iter().map(owned).collect()),
                annotations: Some(BTreeMap::from([owned((FENCE_ANNOTATION, &self.fence.to_string()))])),
                resource_version: self.version.clone(),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(KEY.to_owned(), text)])),
            ..ConfigMap::default()
        })
    }
}

/// The inventory and the version of its ConfigMap. What was wanted when it was written gets the time of that writing.
async fn load(
    configmaps: &Api<ConfigMap>,
    namespace: &str,
    environment: &EnvironmentName,
) -> Result<Option<(Inventory, Option<String>)>, TargetError> {
    let place = || format!("{namespace}/{}", name(environment));
    let found = configmaps.get_opt(&name(environment)).await;
    let found =
        found.map_err(|error| world(format!("cannot read the inventory {}: {}", place(), sentence(&error.into()))))?;
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
    if let Some(at) = written_at(&map.metadata) {
        inventory.objects.date(at);
    }
    Ok(Some((inventory, map.metadata.resource_version)))
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
