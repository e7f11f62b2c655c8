//! The connections of this process that are in use: a controller with thousands of environments in one cluster has one.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError, Weak},
    time::SystemTime,
};

use kube::{Client, Discovery};
use tokio::{
    runtime::{Handle, Id},
    sync::RwLock,
};

use super::{Cluster, Place};

static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());

struct Known {
    key: Key,
    client: Client,
    /// Gone when nobody uses the connection any more.
    kinds: Weak<RwLock<Option<Discovery>>>,
}

/// A connection belongs to the runtime in which it was made, and to the kubeconfig file as it was then.
#[derive(PartialEq)]
struct Key {
    runtime: Id,
    place: Place,
    written: Option<SystemTime>,
}

pub(super) fn find(place: &Place) -> Option<Cluster> {
    let key = Key::of(place);
    let known = known();
    let found = known.iter().find(|known| known.key == key)?;
    Some(Cluster { client: found.client.clone(), kinds: found.kinds.upgrade()? })
}

/// Of two who came at the same time, both get the first one's.
pub(super) fn keep(place: &Place, cluster: Cluster) -> Cluster {
    if let Some(first) = find(place) {
        return first;
    }
    let kinds = std::sync::Arc::downgrade(&cluster.kinds);
    known().push(Known { key: Key::of(place), client: cluster.client.clone(), kinds });
    cluster
}

/// Those that are in use.
fn known() -> MutexGuard<'static, Vec<Known>> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|known| known.kinds.strong_count() > 0);
    known
}

impl Key {
    fn of(place: &Place) -> Key {
        let written = file(place).and_then(|file| std::fs::metadata(file).ok()?.modified().ok());
        Key { runtime: Handle::current().id(), place: place.clone(), written }
    }
}

/// The kubeconfig file that is read; in a pod there is none, and tokens are renewed by the connection itself.
fn file(place: &Place) -> Option<PathBuf> {
    let named = || std::env::var_os("KUBECONFIG").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    place.kubeconfig.clone().or_else(named).or_else(home)
}
