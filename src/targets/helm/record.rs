//! What piton itself remembers of its Helm releases: a ConfigMap beside them, which only the newest lease may write.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde::{Deserialize, Serialize};

use crate::{
    clients::kube::{Cluster, KubeError},
    model::TreeId,
    targets::{Site, TargetError, owner},
};

const FENCE: &str = "fence";
const ENVIRONMENT_LABEL: &str = "piton.dev/environment";
const CONFLICT: u16 = 409;
const NOT_FOUND: u16 = 404;
/// How often a write is tried that others come before.
const RACES_MAX: usize = 20;
/// How often the number is asked for besides being watched: a watch may be forbidden, or silently cut.
const NUMBER_PACE: Duration = Duration::from_secs(1);

/// What is known of one release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The release that was brought up and found ready last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed: Option<Deployed>,
    /// A run of Helm whose good end nobody saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<Deployed>,
}

/// A tree, and Helm's number for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    pub tree: TreeId,
    pub revision: u64,
    /// The chart's digest and Helm's version.
    #[serde(default)]
    pub with: String,
    /// The number of the lease under which it was begun.
    #[serde(default)]
    pub by: u64,
}

/// The ConfigMap of one environment in one namespace.
pub struct Record {
    maps: Api<ConfigMap>,
    namespaces: Api<Namespace>,
    namespace: String,
    site: Site,
    key: String,
}

impl Record {
    pub fn new(cluster: &Cluster, namespace: &str, site: &Site, release: &str) -> Record {
        Record {
            maps: Api::namespaced(cluster.client.clone(), namespace),
            namespaces: Api::all(cluster.client.clone()),
            namespace: namespace.to_owned(),
            site: site.clone(),
            key: format!("helm.{release}"),
        }
    }

    /// What is known; nothing when piton never was here.
    pub async fn read(&self) -> Result<Known, TargetError> {
        self.map().await?.map_or(Ok(Known::default()), |map| self.own(&map))
    }

    /// What is known, for a runner that does not come too late; nothing is changed.
    pub async fn check(&self, fence: u64) -> Result<Known, TargetError> {
        let Some(map) = self.map().await? else { return Ok(Known::default()) };
        let known = self.own(&map)?;
        not_older(&map, fence)?;
        Ok(known)
    }

    /// Writes what is known, unless a newer lease acts here. The namespace must be there.
    pub async fn change(&self, fence: u64, change: impl Fn(&mut Known)) -> Result<Known, TargetError> {
        for _ in 0..RACES_MAX {
            let seen = self.map().await?;
            let mut map = seen.clone().unwrap_or_else(|| self.fresh());
            let mut known = self.own(&map)?;
            not_older(&map, fence)?;
            change(&mut known);
            let text = serde_json::to_string(&known).map_err(|error| self.cannot("write", Box::new(error)))?;
            map.metadata.annotations.get_or_insert_default().extend([self.site.owner.annotation()]);
            let data = map.data.get_or_insert_default();
            data.insert(FENCE.to_owned(), fence.to_string());
            data.insert(self.key.clone(), text);
            // The version that was read goes with it: who wrote meanwhile is not overwritten.
            let written = match seen {
                Some(_) => self.maps.replace(&map.name_any(), &PostParams::default(), &map).await,
                None => self.maps.create(&PostParams::default(), &map).await,
            };
            match written.map_err(KubeError::from) {
                Ok(_) => return Ok(known),
                Err(error) if error.code() == Some(CONFLICT) => {}
                // It was deleted between our look and our write.
                Err(error) if seen_and_gone(&map, &error) => {}
                Err(error) => return Err(self.cannot("write", Box::new(error))),
            }
        }
        let what = format!("lost {RACES_MAX} races for the ConfigMap {}/{}", self.namespace, self.name());
        Err(TargetError::World { what, source: None })
    }

    /// Does what Helm is needed for as long as no newer lease acts here. The work is dropped as soon as one does, and a
    /// Helm that is dropped is killed with its process group.
    pub async fn while_ours<T>(
        &self,
        ours: u64,
        work: impl Future<Output = Result<T, TargetError>>,
    ) -> Result<T, TargetError> {
        tokio::select! {
            biased;
            done = work => done,
            fenced = self.overtaken(ours) => Err(fenced),
        }
    }

    /// Ends only when a newer number than ours stands there.
    async fn overtaken(&self, ours: u64) -> TargetError {
        let mut events = std::pin::pin!(watcher::watch_object(self.maps.clone(), &self.name()).default_backoff());
        loop {
            let seen = match tokio::time::timeout(NUMBER_PACE, events.next()).await {
                Ok(Some(Ok(map))) => map,
                Ok(Some(Err(_)) | None) | Err(_) => self.map().await.unwrap_or_default(),
            };
            if let Some(Err(fenced)) = seen.map(|map| not_older(&map, ours)) {
                return fenced;
            }
        }
    }

    /// Whether the namespace is there.
    pub async fn has_namespace(&self) -> Result<bool, TargetError> {
        let found = self.namespaces.get_opt(&self.namespace).await.map_err(KubeError::from);
        match found {
            Ok(found) => Ok(found.is_some()),
            // Who may not look at namespaces works in one that somebody made.
            Err(error) if error.code() == Some(403) => Ok(true),
            Err(error) => Err(self.cannot("look for the namespace of", Box::new(error))),
        }
    }

    pub async fn make_namespace(&self) -> Result<(), TargetError> {
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(self.namespace.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        match self.namespaces.create(&PostParams::default(), &namespace).await.map_err(KubeError::from) {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(CONFLICT) => Ok(()),
            Err(error) => {
                let what = format!("cannot make the namespace `{}`", self.namespace);
                Err(TargetError::World { what, source: Some(Box::new(error)) })
            }
        }
    }

    async fn map(&self) -> Result<Option<ConfigMap>, TargetError> {
        let found = self.maps.get_opt(&self.name()).await.map_err(KubeError::from);
        found.map_err(|error| self.cannot("read", Box::new(error)))
    }

    fn name(&self) -> String {
        format!("piton-{}", self.site.environment)
    }

    fn fresh(&self) -> ConfigMap {
        let labels = BTreeMap::from([(ENVIRONMENT_LABEL.to_owned(), self.site.environment.to_string())]);
        let metadata = ObjectMeta { name: Some(self.name()), labels: Some(labels), ..ObjectMeta::default() };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    /// What is known, where the map is not another pipeline's.
    fn own(&self, map: &ConfigMap) -> Result<Known, TargetError> {
        let known = self.known(map);
        let trees: Vec<&TreeId> = [&known.deployed, &known.doing].into_iter().flatten().map(|it| &it.tree).collect();
        let place = format!("{}/{}", self.namespace, self.name());
        owner::check(&self.site, &place, map.metadata.annotations.as_ref(), &trees)?;
        Ok(known)
    }

    /// One that cannot be read is none: what is live is then told by Helm's own labels.
    fn known(&self, map: &ConfigMap) -> Known {
        let text = map.data.as_ref().and_then(|data| data.get(&self.key));
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    fn cannot(&self, doing: &str, source: Box<dyn std::error::Error + Send + Sync>) -> TargetError {
        let what = format!("cannot {doing} the ConfigMap {}/{}", self.namespace, self.name());
        TargetError::World { what, source: Some(source) }
    }
}

fn not_older(map: &ConfigMap, ours: u64) -> Result<(), TargetError> {
    let seen = map.data.as_ref().and_then(|data| data.get(FENCE)?.parse().ok()).unwrap_or(0);
    match ours < seen {
        true => Err(TargetError::Fenced { ours, seen }),
        false => Ok(()),
    }
}

fn seen_and_gone(map: &ConfigMap, error: &KubeError) -> bool {
    map.metadata.resource_version.is_some() && error.code() == Some(NOT_FOUND)
}
