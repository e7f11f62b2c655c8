//! How a release comes up and goes down.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use futures_util::future::{join_all, try_join_all};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    Supervisor,
    assemble::{self, Surroundings},
    book::Running,
    doors::port_refusal,
    instance::Instance,
    lock, ports,
    unit::{Unit, UnitRecord},
};
use crate::{
    model::TreeId,
    targets::process::wire::{Brought, Refusal},
};

impl Supervisor {
    /// Starts what is missing of the release and waits until all of it is ready. Until then users stay with what they
    /// have, also where the same release ran with other settings before.
    pub async fn bring_up(&self, release: Brought) -> Result<(), Refusal> {
        let (tree, dir) = (release.tree.clone(), release.dir.clone());
        let running = self.assemble(release, &BTreeMap::new()).await?;
        lock(&self.book).coming = Some(running.clone());
        let waited = try_join_all(running.units.values().map(|unit| unit.ready())).await;
        if let Err(why) = waited {
            self.abandon_coming();
            return Err(Refusal::Release(format!("release {} in {}: {why}", tree.short(), dir.display())));
        }
        self.enter(running);
        Ok(())
    }

    /// Puts a ready release into the book; units of an earlier form of it that nobody uses any more end.
    fn enter(&self, running: Running) {
        let (arms, replaced) = {
            let mut book = lock(&self.book);
            book.coming = None;
            let replaced = book.releases.insert(running.brought.tree.clone(), running);
            (book.arms.clone(), replaced)
        };
        self.set_arms(arms);
        if let Some(replaced) = replaced {
            drop(self.end_unused(replaced));
        }
    }

    /// Ends what was coming up.
    pub fn abandon_coming(&self) {
        let coming = lock(&self.book).coming.take();
        if let Some(coming) = coming {
            drop(self.end_unused(coming));
        }
    }

    /// Finds the units of a release among those that run, and starts the others; `recorded` are running processes
    /// to take over.
    pub async fn assemble(
        &self,
        release: Brought,
        recorded: &BTreeMap<String, UnitRecord>,
    ) -> Result<Running, Refusal> {
        let could_not = |error: std::io::Error| {
            Refusal::World(format!(
                "cannot read release {} in {}: {error}",
                release.tree.short(),
                release.dir.display()
            ))
        };
        let keys = assemble::keys(&release).map_err(could_not)?;
        let mut units: BTreeMap<String, Arc<Unit>> = BTreeMap::new();
        let mut missing = BTreeMap::new();
        for (name, key) in &keys {
            match self.unit(key) {
                Some(unit) => drop(units.insert(name.clone(), unit)),
                None => {
                    let port = recorded.get(key).map_or(0, |unit| unit.internal_port);
                    let listener = ports::listen(Ipv4Addr::LOCALHOST.into(), port).await;
                    let listener = listener.map_err(|error| port_refusal(port, "a service", &error))?;
                    let port = listener.local_addr().map_err(|error| port_refusal(port, "a service", &error))?.port();
                    missing.insert(name.clone(), (key, port, listener));
                }
            }
        }
        let mut internal_ports: BTreeMap<String, u16> =
            units.iter().map(|(name, unit)| (name.clone(), unit.internal_port)).collect();
        internal_ports.extend(missing.iter().map(|(name, (_, port, _))| (name.clone(), *port)));
        let (id, secrets) = {
            let book = lock(&self.book);
            (book.id.clone(), book.secrets.clone())
        };
        let around =
            Surroundings { state_dir: &self.state_dir, id: &id, secrets: &secrets, internal_ports: &internal_ports };
        // Nothing is started before everything is known to be complete.
        let mut ready_to_start = Vec::new();
        for (name, (key, port, listener)) in missing {
            // What runs already needs none, also when it is to be taken over.
            if !recorded.contains_key(key) {
                secrets.of(&name, &release.config.services[&name].secrets).map_err(Refusal::World)?;
            }
            let starts = assemble::starts(&release, &name, key, &around).map_err(Refusal::World)?;
            ready_to_start.push((name, key, port, listener, starts));
        }
        for (name, key, port, listener, starts) in ready_to_start {
            let (tell, told) = watch::channel(None);
            let door = self.gateway.open_internal(told, listener);
            let adopt = recorded.get(key).map(|unit| unit.instances.clone()).unwrap_or_default();
            let instances = starts.into_iter().enumerate().map(|(i, start)| {
                let me = self.me.clone();
                let record = Box::new(move || me.upgrade().into_iter().for_each(|me| me.write_down()));
                Instance::launch(start, adopt.get(i).cloned().flatten(), record)
            });
            let unit = Arc::new(Unit::new(key.clone(), name.clone(), instances.collect(), port, door));
            // The door is open as long as the unit is; it cannot be gone yet.
            let _ = tell.send(Some(unit.clone()));
            units.insert(name, unit);
        }
        Ok(Running { brought: release, units })
    }

    fn unit(&self, key: &str) -> Option<Arc<Unit>> {
        let book = lock(&self.book);
        let mut units = book.releases.values().flat_map(|running| running.units.values());
        units.find(|unit| unit.key == key).cloned()
    }

    /// Takes a release out of the book at once, and ends its units in the background; the task tells what was
    /// remarkable.
    pub fn take_down(&self, tree: &TreeId) -> Option<JoinHandle<Vec<String>>> {
        let gone = lock(&self.book).releases.remove(tree);
        let arms = lock(&self.book).arms.clone();
        self.set_arms(arms);
        gone.map(|gone| self.end_unused(gone))
    }

    fn end_unused(&self, gone: Running) -> JoinHandle<Vec<String>> {
        let used: BTreeSet<String> = {
            let book = lock(&self.book);
            book.releases.values().flat_map(|running| running.units.values()).map(|unit| unit.key.clone()).collect()
        };
        let drain = gone.brought.config.drain.as_duration();
        let unused: Vec<Arc<Unit>> = gone.units.into_values().filter(|unit| !used.contains(&unit.key)).collect();
        let cut = self.cut.clone();
        self.leaving.spawn(async move { join_all(unused.iter().map(|unit| unit.end(drain, &cut))).await.concat() })
    }
}
