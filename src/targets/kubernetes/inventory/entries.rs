//! The objects of an inventory, written as small as JSON allows: ten thousand of them fit into one ConfigMap.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::{MANAGER, created_at};
use crate::clients::kube::ObjectId;

/// What we know of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// We made it, and this is its UID.
    Ours { uid: String },
    /// We were about to apply it; the server's second in which that was written down, once known.
    Wanted { since: Option<i64> },
    /// It was there before us: we apply it and never delete it.
    Adopted,
}

/// The objects by group, kind, namespace and name; the API's version does not tell them apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Packed", into = "Packed")]
pub struct Entries(BTreeMap<Key, (ObjectId, Entry)>);

type Key = (String, String, Option<String>, String);

/// Version and kind, then namespace, then name.
type Packed = BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>;

fn key(id: &ObjectId) -> Key {
    (id.group().to_owned(), id.kind.clone(), id.namespace.clone(), id.name.clone())
}

impl Entries {
    pub fn get(&self, id: &ObjectId) -> Option<&Entry> {
        self.0.get(&key(id)).map(|(_, entry)| entry)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ObjectId, &Entry)> {
        self.0.values().map(|(id, entry)| (id, entry))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn set(&mut self, id: &ObjectId, entry: Entry) {
        self.0.insert(key(id), (id.clone(), entry));
    }

    pub fn forget(&mut self, id: &ObjectId) {
        self.0.remove(&key(id));
    }

    /// Notes that it will be applied, unless it is known already.
    pub fn want(&mut self, id: &ObjectId) {
        self.0.entry(key(id)).or_insert_with(|| (id.clone(), Entry::Wanted { since: None }));
    }

    /// Everything that is wanted was written down at this second or before.
    pub fn date(&mut self, at: i64) {
        for (_, entry) in self.0.values_mut() {
            if let Entry::Wanted { since: since @ None } = entry {
                *since = Some(at);
            }
        }
    }

    /// Takes over what only the other knows.
    pub fn join(&mut self, other: Entries) {
        for (key, entry) in other.0 {
            self.0.entry(key).or_insert(entry);
        }
    }

    /// Notes what the server said of an object that we applied.
    pub fn applied(&mut self, id: &ObjectId, metadata: &ObjectMeta, created: bool) {
        let uid = metadata.uid.clone().unwrap_or_default();
        let entry = match self.get(id) {
            _ if created => Entry::Ours { uid },
            Some(known @ Entry::Ours { uid: known_uid }) if *known_uid == uid => known.clone(),
            // Whoever deleted ours and made another one has it.
            Some(Entry::Ours { .. }) | Some(Entry::Adopted) | None => Entry::Adopted,
            Some(Entry::Wanted { since }) => match made_since(metadata, *since) {
                true => Entry::Ours { uid },
                false => Entry::Adopted,
            },
        };
        self.set(id, entry);
    }
}

/// Whether an object came into being after we wrote down that we want it, and nobody else has written to it: then we made it.
/// Both are needed: times are whole seconds, and someone else may have made it in the same one.
pub fn made_since(metadata: &ObjectMeta, since: Option<i64>) -> bool {
    let in_time = matches!((created_at(metadata), since), (Some(created), Some(since)) if created >= since);
    in_time && !metadata.managed_fields.iter().flatten().any(is_foreign)
}

/// Controllers that write an object's status do not make it.
fn is_foreign(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() != Some(MANAGER) && entry.subresource.as_deref().is_none_or(str::is_empty)
}

impl From<Packed> for Entries {
    fn from(packed: Packed) -> Entries {
        let mut entries = Entries::default();
        for (kind, namespaces) in packed {
            let (api_version, kind) = kind.rsplit_once(' ').unwrap_or(("v1", &kind));
            for (namespace, names) in namespaces {
                for (name, entry) in names {
                    let namespace = Some(namespace.clone()).filter(|namespace| !namespace.is_empty());
                    let id = ObjectId { api_version: api_version.to_owned(), kind: kind.to_owned(), namespace, name };
                    entries.set(&id, Entry::unpack(&entry));
                }
            }
        }
        entries
    }
}

impl From<Entries> for Packed {
    fn from(entries: Entries) -> Packed {
        let mut packed = Packed::new();
        for (id, entry) in entries.0.into_values() {
            let kind = packed.entry(format!("{} {}", id.api_version, id.kind)).or_default();
            kind.entry(id.namespace.unwrap_or_default()).or_default().insert(id.name, entry.pack());
        }
        packed
    }
}

impl Entry {
    fn pack(&self) -> String {
        match self {
            Entry::Ours { uid } => uid.clone(),
            Entry::Wanted { since: None } => "?".to_owned(),
            Entry::Wanted { since: Some(since) } => format!("?{since}"),
            Entry::Adopted => "=".to_owned(),
        }
    }

    fn unpack(text: &str) -> Entry {
        match text.strip_prefix('?') {
            Some(since) => Entry::Wanted { since: since.parse().ok() },
            None if text == "=" => Entry::Adopted,
            None => Entry::Ours { uid: text.to_owned() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(kind: &str, namespace: Option<&str>, name: &str) -> ObjectId {
        let api_version = if kind == "Deployment" { "apps/v1" } else { "v1" };
        let (kind, name) = (kind.to_owned(), name.to_owned());
        ObjectId { api_version: api_version.to_owned(), kind, namespace: namespace.map(str::to_owned), name }
    }

    fn metadata(uid: &str, second: i64) -> ObjectMeta {
        serde_json::from_value(serde_json::json!({
            "uid": uid,
            "creationTimestamp": jiff::Timestamp::from_second(second).expect("a time").to_string(),
        }))
        .expect("it is metadata")
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut entries = Entries::default();
        entries.set(&id("Deployment", Some("shop"), "web"), Entry::Ours { uid: "u-1".to_owned() });
        entries.set(&id("Namespace", None, "shop"), Entry::Adopted);
        entries.want(&id("ConfigMap", Some("shop"), "a"));
        entries.set(&id("ConfigMap", Some("shop"), "b"), Entry::Wanted { since: Some(12) });
        let text = serde_json::to_string(&entries).expect("it is JSON");
        assert_eq!(
            text,
            r#"{"apps/v1 Deployment":{"shop":{"web":"u-1"}},"v1 ConfigMap":{"shop":{"a":"?","b":"?12"}},"v1 Namespace":{"":{"shop":"="}}}"#
        );
        assert_eq!(serde_json::from_str::<Entries>(&text).expect("it is readable"), entries);
    }

    #[test]
    fn only_what_came_into_being_after_our_wish_is_ours() {
        let web = id("Deployment", Some("shop"), "web");
        let ours = Some(Entry::Ours { uid: "u".to_owned() });
        let cases = [
            (Some(Entry::Wanted { since: Some(100) }), 100, false, ours.clone()),
            (Some(Entry::Wanted { since: Some(100) }), 99, false, Some(Entry::Adopted)),
            (Some(Entry::Wanted { since: None }), 200, false, Some(Entry::Adopted)),
            (Some(Entry::Wanted { since: None }), 99, true, ours.clone()),
            (None, 99, false, Some(Entry::Adopted)),
            (ours.clone(), 99, false, ours.clone()),
            (Some(Entry::Ours { uid: "old".to_owned() }), 200, false, Some(Entry::Adopted)),
            (Some(Entry::Adopted), 200, false, Some(Entry::Adopted)),
        ];
        for (known, second, created, expected) in cases {
            let mut entries = Entries::default();
            if let Some(known) = known.clone() {
                entries.set(&web, known);
            }
            entries.applied(&web, &metadata("u", second), created);
            assert_eq!(entries.get(&web), expected.as_ref(), "{known:?} {second} {created}");
        }
    }

    #[test]
    fn what_someone_else_made_in_the_same_second_is_theirs() {
        let mut map = metadata("u", 100);
        assert!(made_since(&map, Some(100)));
        let by = |manager: &str, subresource: &str| ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            subresource: Some(subresource.to_owned()).filter(|name| !name.is_empty()),
            ..ManagedFieldsEntry::default()
        };
        map.managed_fields = Some(vec![by("piton", ""), by("kube-controller-manager", "status")]);
        assert!(made_since(&map, Some(100)));
        map.managed_fields = Some(vec![by("piton", ""), by("kubectl-create", "")]);
        assert!(!made_since(&map, Some(100)));
    }

    #[test]
    fn ten_thousand_objects_fit() {
        let mut entries = Entries::default();
        for n in 0..10_000 {
            let name = format!("a-name-as-long-as-names-of-objects-mostly-are-{n}");
            entries.set(&id("ConfigMap", Some("shop"), &name), Entry::Ours { uid: "0".repeat(36) });
        }
        let bytes = serde_json::to_vec(&entries).expect("it is JSON").len();
        assert!(bytes < super::super::BYTES_MAX, "{bytes}");
    }
}
