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

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn place(folder: &Path, server: &str) -> Place {
        let file = folder.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{ name: c, cluster: {{ server: {server} }} }}]\n\
             contexts: [{{ name: c, context: {{ cluster: c, user: u }} }}]\nusers: [{{ name: u, user: {{}} }}]\n"
        );
        std::fs::write(&file, text).expect("room on the disk");
        Place { kubeconfig: Some(file), context: None }
    }

    #[tokio::test]
    async fn a_place_has_one_connection_while_it_is_in_use_and_its_file_is_the_same() {
        crate::clients::http::install_tls_provider();
        let folder = tempfile::tempdir().expect("a folder");
        let place = place(folder.path(), "http://127.0.0.1:1");
        let shared = async || Cluster::shared(&place).await.expect("the file is right");
        let (one, other) = (shared().await, shared().await);
        assert_eq!(one.number(), other.number());
        assert_ne!(
            one.number(),
            Cluster::connect(&place).await.expect("the file is right").number(),
            "asked for alone"
        );
        let file = std::fs::File::options().append(true).open(folder.path().join("kubeconfig")).expect("it is there");
        file.set_modified(SystemTime::now() + Duration::from_secs(60)).expect("it is ours");
        let renewed = shared().await;
        assert_ne!(one.number(), renewed.number(), "there may be another key in it");
        drop((one, other));
        assert_eq!(renewed.number(), shared().await.number());
        let kept = || known().iter().filter(|known| known.key.place == place).count();
        assert_eq!(kept(), 1, "the first is forgotten");
        drop(renewed);
        assert_eq!(kept(), 0);
    }

    #[tokio::test]
    async fn requests_say_who_makes_them() {
        crate::clients::http::install_tls_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it has one");
        let folder = tempfile::tempdir().expect("a folder");
        let cluster = Cluster::shared(&place(folder.path(), &format!("http://{address}"))).await.expect("it is right");
        let heard = async {
            let (mut connection, _) = listener.accept().await.expect("somebody asks");
            let mut head = vec![0; 4096];
            let length = connection.read(&mut head).await.expect("a request");
            connection.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.expect("it listens");
            String::from_utf8_lossy(&head[..length]).to_lowercase()
        };
        let (identity, head) = tokio::join!(cluster.identity(), heard);
        assert!(identity.is_err());
        let agent = format!("user-agent: piton/{}\r\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(head.matches("user-agent:").count(), 1, "{head}");
        assert!(head.contains(&agent), "{head}");
    }
}
