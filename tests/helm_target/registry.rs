//! A real registry on loopback, until it is dropped.

use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use crate::{
    cluster::{ports::Port, programs::REGISTRY},
    world::World,
};

pub struct Registry {
    program: Child,
    port: Port,
}

/// A chart in the registry.
pub struct Pushed {
    /// The address that a pipeline names.
    pub from: String,
    /// Of the manifest, as Helm prints it.
    pub manifest: String,
    /// Of the package.
    pub package: String,
}

impl Registry {
    pub async fn start(world: &World) -> Registry {
        let path = tokio::task::spawn_blocking(|| REGISTRY.path()).await.expect("the registry builds");
        let port = Port::reserve();
        let mut command = Command::new(path);
        command.arg(format!("--port={}", port.number)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Registry { program: command.spawn().expect("it starts"), port };
        let listens = || async { TcpStream::connect(("127.0.0.1", registry.port.number)).is_ok() };
        world.cluster.wait_until("the registry", listens).await;
        registry
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number)
    }

    /// Packs the small chart and pushes it, as a team would.
    pub async fn push(&self, world: &World) -> Pushed {
        let chart = world.files(&world.release("1", "")).join("chart");
        let to = world.dir.path().join("packages");
        let (chart, folder) = (chart.display().to_string(), to.display().to_string());
        world.by_hand(&["package", &chart, "--destination", &folder]).await;
        let package = to.join("web-1.0.0.tgz");
        let repository = format!("oci://{}/charts", self.address());
        let said = world.by_hand(&["push", &package.display().to_string(), &repository, "--plain-http"]).await;
        let manifest = said.lines().find_map(|line| line.trim().strip_prefix("Digest: ")).expect("a digest");
        let bytes = std::fs::read(&package).expect("it was packed");
        let hash = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Pushed {
            from: format!("{repository}/web"),
            manifest: manifest.trim().to_owned(),
            package: format!("sha256:{hex}"),
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
