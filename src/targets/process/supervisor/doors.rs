//! The environment's own ports.

use std::net::{IpAddr, Ipv4Addr};

use super::{Supervisor, lock, ports, routing::Door};
use crate::targets::process::wire::{Brought, Refusal};

impl Supervisor {
    /// Opens the environment's own ports; the users' port follows the configuration.
    pub async fn open_doors(&self, release: &Brought) -> Result<(), Refusal> {
        let mut ports = lock(&self.book).ports.clone();
        let config = &release.config;
        let wanted = if config.port == 0 { ports.users } else { config.port };
        let moved = ports.listen != Some(config.listen) || wanted != ports.users;
        if moved || !lock(&self.doors).contains_key(&Door::Users) {
            if ports.listen != Some(config.listen) && wanted == ports.users && wanted != 0 {
                self.close(Door::Users).await;
            }
            ports.users = self.open_door(Door::Users, config.listen, wanted, release).await?;
            ports.listen = Some(config.listen);
        }
        let loopback = Ipv4Addr::LOCALHOST.into();
        for (door, port) in [(Door::Candidate, &mut ports.candidate), (Door::Stable, &mut ports.stable)] {
            if !lock(&self.doors).contains_key(&door) {
                *port = self.open_door(door, loopback, *port, release).await?;
            }
        }
        lock(&self.book).ports = ports;
        self.write_down();
        Ok(())
    }

    async fn open_door(&self, door: Door, address: IpAddr, port: u16, release: &Brought) -> Result<u16, Refusal> {
        let whose = format!("environment `{}`", release.environment);
        let listener = ports::listen(address, port).await.map_err(|error| port_refusal(port, &whose, &error))?;
        let port = listener.local_addr().map_err(|error| port_refusal(port, &whose, &error))?.port();
        let before = lock(&self.doors).insert(door, self.gateway.open(door, listener));
        if let Some(before) = before {
            before.abort();
        }
        Ok(port)
    }

    async fn close(&self, door: Door) {
        let task = lock(&self.doors).remove(&door);
        if let Some(task) = task {
            task.abort();
            // Cancelled is what it should be; the port is free afterwards.
            let _ = task.await;
        }
    }
}

/// Why a port cannot be listened on.
pub fn port_refusal(port: u16, whose: &str, error: &std::io::Error) -> Refusal {
    Refusal::World(match error.kind() {
        std::io::ErrorKind::AddrInUse => format!("port {port} of {whose} is taken by another program"),
        _ => format!("cannot listen on port {port} for {whose}: {error}"),
    })
}
