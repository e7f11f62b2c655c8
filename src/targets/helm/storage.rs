//! Helm's own memory of a release: a Secret for each revision.

use std::io::{Read, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use futures_util::TryStreamExt;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{ListParams, ObjectMeta, PartialObjectMeta, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::Value;

use crate::{
    clients::kube::{Cluster, KubeError},
    model::TreeId,
};

/// The label with the tree that a revision was deployed from; Helm keeps it with the revision.
pub const TREE_LABEL: &str = "piton.dev/tree";

/// The revisions of one Helm release.
pub struct Storage {
    secrets: Api<Secret>,
    /// The same without their content, which may be large.
    metas: Api<PartialObjectMeta<Secret>>,
    release: String,
}

/// One revision, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    pub number: u64,
    pub status: Status,
    /// What the label says; Helm copies labels to later revisions, so it counts only where the record agrees.
    pub tree: Option<TreeId>,
    secret: String,
}

/// Helm's word for how a revision is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    Deployed,
    Superseded,
    Failed,
    /// `pending-install`, `pending-upgrade` or `pending-rollback`.
    Pending(String),
    /// `uninstalling`, `uninstalled`, or something that a later Helm says.
    Other(String),
}

/// What a revision holds, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    pub manifest: String,
    /// The manifests of its hooks.
    pub hooks: Vec<String>,
    /// When Helm began with it, as Helm writes it.
    pub since: String,
    /// What whoever made it says of it: `Upgrade complete`.
    pub description: String,
    /// The program that wrote it, as the API server knows it.
    pub by: Option<String>,
}

/// Why Helm's memory could not be read or mended.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("cannot {doing} of Helm release `{release}`")]
    Kube {
        doing: &'static str,
        release: String,
        #[source]
        source: KubeError,
    },
    #[error("cannot read Helm's record {secret}: {why}")]
    Content { secret: String, why: String },
}

type Result<T> = std::result::Result<T, StorageError>;

impl Status {
    fn of(word: &str) -> Status {
        match word {
            "deployed" => Status::Deployed,
            "superseded" => Status::Superseded,
            "failed" => Status::Failed,
            pending if pending.starts_with("pending-") => Status::Pending(pending.to_owned()),
            other => Status::Other(other.to_owned()),
        }
    }

    pub fn word(&self) -> &str {
        match self {
            Status::Deployed => "deployed",
            Status::Superseded => "superseded",
            Status::Failed => "failed",
            Status::Pending(word) | Status::Other(word) => word,
        }
    }
}

impl Storage {
    pub fn new(cluster: &Cluster, namespace: &str, release: &str) -> Storage {
        let (secrets, metas) = (cluster.client.clone(), cluster.client.clone());
        Storage {
            secrets: Api::namespaced(secrets, namespace),
            metas: Api::namespaced(metas, namespace),
            release: release.to_owned(),
        }
    }

    /// All revisions that Helm still knows, oldest first.
    pub async fn revisions(&self) -> Result<Vec<Revision>> {
        let found = self.secrets.list_metadata(&ListParams::default().labels(&self.selector())).await;
        let found = found.map_err(|error| self.cannot("list the revisions", error))?;
        let mut revisions: Vec<Revision> = found.items.iter().filter_map(|item| revision(&item.metadata)).collect();
        revisions.sort_by_key(|revision| revision.number);
        Ok(revisions)
    }

    /// Waits for a revision after this one.
    pub async fn next_after(&self, number: u64) -> Result<Revision> {
        let config = watcher::Config::default().labels(&self.selector());
        let stream = watcher(self.metas.clone(), config).default_backoff().applied_objects();
        let mut stream = std::pin::pin!(stream);
        loop {
            // A watch that breaks is begun again by the stream itself.
            let Ok(Some(item)) = stream.try_next().await else { continue };
            if let Some(found) = revision(&item.metadata).filter(|revision| revision.number > number) {
                return Ok(found);
            }
        }
    }

    pub async fn content(&self, revision: &Revision) -> Result<Content> {
        let (secret, content) = self.read(&revision.secret).await?;
        let writers = secret.metadata.managed_fields.into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let hooks = content["hooks"].as_array().into_iter().flatten();
        Ok(Content {
            manifest: text(&content["manifest"]),
            hooks: hooks.map(|hook| text(&hook["manifest"])).collect(),
            since: text(&content["info"]["last_deployed"]),
            description: text(&content["info"]["description"]),
            by: writers.filter_map(|entry| entry.manager).next_back(),
        })
    }

    /// Writes another status into a revision, as Helm itself would; nothing if it has it already, or is gone.
    /// Somebody who writes at the same moment goes first.
    pub async fn mark(&self, revision: &Revision, status: &Status, why: &str) -> Result<()> {
        let (mut secret, mut content) = match self.read(&revision.secret).await {
            Err(StorageError::Kube { source, .. }) if source.is_not_found() => return Ok(()),
            read => read?,
        };
        if content["info"]["status"] == status.word() {
            return Ok(());
        }
        content["info"]["status"] = status.word().into();
        content["info"]["description"] = why.into();
        let bytes = encode(&content).map_err(|why| self.unreadable(&revision.secret, why))?;
        secret.data.get_or_insert_default().insert("release".to_owned(), ByteString(bytes));
        secret.labels_mut().insert("status".to_owned(), status.word().to_owned());
        let written = self.secrets.replace(&revision.secret, &PostParams::default(), &secret).await;
        written.map(drop).map_err(|error| self.cannot("mend the record", error))
    }

    async fn read(&self, name: &str) -> Result<(Secret, Value)> {
        let secret = self.secrets.get(name).await.map_err(|error| self.cannot("read a revision", error))?;
        let bytes = secret.data.as_ref().and_then(|data| data.get("release"));
        let bytes = bytes.ok_or_else(|| self.unreadable(name, "it is empty".to_owned()))?;
        let content = decode(&bytes.0).map_err(|why| self.unreadable(name, why))?;
        Ok((secret, content))
    }

    fn selector(&self) -> String {
        format!("owner=helm,name={}", self.release)
    }

    fn cannot(&self, doing: &'static str, error: kube::Error) -> StorageError {
        StorageError::Kube { doing, release: self.release.clone(), source: error.into() }
    }

    fn unreadable(&self, secret: &str, why: String) -> StorageError {
        StorageError::Content { secret: secret.to_owned(), why }
    }
}

fn revision(meta: &ObjectMeta) -> Option<Revision> {
    let labels = meta.labels.as_ref()?;
    Some(Revision {
        number: labels.get("version")?.parse().ok()?,
        status: Status::of(labels.get("status")?),
        tree: labels.get(TREE_LABEL).and_then(|tree| TreeId::new(tree).ok()),
        secret: meta.name.clone()?,
    })
}

const GZIP: [u8; 2] = [0x1f, 0x8b];
/// A Secret holds at most 1 MiB; text rarely shrinks to less than a hundredth.
const CONTENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// JSON, compressed, in base64.
fn decode(stored: &[u8]) -> std::result::Result<Value, String> {
    let packed = BASE64_STANDARD.decode(stored.trim_ascii()).map_err(|error| error.to_string())?;
    let mut json = Vec::new();
    if packed.starts_with(&GZIP) {
        let mut unpacked = GzDecoder::new(packed.as_slice()).take(CONTENT_BYTES_MAX);
        unpacked.read_to_end(&mut json).map_err(|error| error.to_string())?;
    } else {
        json = packed;
    }
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}

fn encode(content: &Value) -> std::result::Result<Vec<u8>, String> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    let json = serde_json::to_vec(content).map_err(|error| error.to_string())?;
    packer.write_all(&json).map_err(|error| error.to_string())?;
    let packed = packer.finish().map_err(|error| error.to_string())?;
    Ok(BASE64_STANDARD.encode(packed).into_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let config = json!({ "n": 1.5, "big": 9007199254740993_i64 });
        let content = json!({ "name": "hub", "info": { "status": "pending-upgrade" }, "config": config });
        assert_eq!(decode(&encode(&content).expect("it packs")), Ok(content));
    }

    #[test]
    fn rubbish_is_an_error() {
        for stored in ["", "%%%", "aGVsbG8="] {
            assert!(decode(stored.as_bytes()).is_err(), "{stored}");
        }
    }
}
