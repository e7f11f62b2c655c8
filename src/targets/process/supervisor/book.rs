//! Everything the supervisor knows.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, PoisonError},
};

use super::{
    instance::Instance,
    meters::Meters,
    record::{Arms, Ports, Record},
    routing::{ArmRoutes, Routing},
    secrets::Secrets,
    unit::Unit,
};
use crate::{
    model::{Arm, TreeId},
    targets::process::{Config, wire::Brought},
};

/// The record is made of it.
#[derive(Default)]
pub struct Book {
    pub id: String,
    pub fence: u64,
    pub ports: Ports,
    pub arms: Arms,
    pub ended: bool,
    /// Releases that were ready once.
    pub releases: BTreeMap<TreeId, Running>,
    /// One that is not ready yet. It is not written down: a supervisor that takes over does not finish it.
    pub coming: Option<Running>,
    pub secrets: Secrets,
}

/// A release that is up, or coming up.
#[derive(Clone)]
pub struct Running {
    pub brought: Brought,
    /// By service.
    pub units: BTreeMap<String, Arc<Unit>>,
}

impl Book {
    pub fn record(&self) -> Record {
        let units = self.releases.values().flat_map(|running| running.units.values());
        Record {
            schema: 0,
            id: self.id.clone(),
            fence: self.fence,
            ports: self.ports.clone(),
            arms: self.arms.clone(),
            ended: self.ended,
            releases: self.releases.values().map(|running| running.brought.clone()).collect(),
            units: units.map(|unit| (unit.key.clone(), unit.record())).collect(),
        }
    }

    fn running(&self, tree: &Option<TreeId>) -> Option<&Running> {
        self.releases.get(tree.as_ref()?)
    }

    /// The configuration that holds for the proxy: that of the newest release.
    pub fn config(&self) -> Option<&Config> {
        let newest = self.running(&self.arms.candidate).or_else(|| self.running(&self.arms.stable));
        newest.map(|running| &running.brought.config)
    }

    pub fn routing(&self, meters: &Meters) -> Routing {
        let arm = |arm: Arm, tree: &Option<TreeId>| {
            let running = self.running(tree)?;
            let tree = running.brought.tree.clone();
            let parts = |name: &str| Some((running.units.get(name)?.clone(), meters.tally(arm, &tree, name)));
            Some(ArmRoutes::new(arm, tree.clone(), &running.brought.config, parts))
        };
        let Arms { stable, candidate, share, trial } = &self.arms;
        let on_trial = |tree: &Option<TreeId>| trial.is_some() && trial == tree;
        let trial = match (on_trial(candidate), on_trial(stable)) {
            (true, _) => Some(Arm::Candidate),
            (false, true) => Some(Arm::Stable),
            (false, false) => None,
        };
        let mut routing = Routing::new(arm(Arm::Stable, stable), arm(Arm::Candidate, candidate), *share);
        routing.trial = trial;
        routing.sticky = self.config().and_then(|config| config.sticky.clone());
        routing
    }

    /// What services ask of each other counts for the arm they are on; for the stable one where both share a unit.
    pub fn label_internal(&self, meters: &Meters) {
        for (arm, tree) in [(Arm::Candidate, &self.arms.candidate), (Arm::Stable, &self.arms.stable)] {
            let Some(running) = self.running(tree) else { continue };
            for (name, unit) in &running.units {
                let tally = meters.tally(arm, &running.brought.tree, name);
                *unit.tally.write().unwrap_or_else(PoisonError::into_inner) = Some(tally);
            }
        }
    }

    pub fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::new();
        let host = match self.ports.listen {
            Some(listen) if !listen.is_unspecified() => listen,
            Some(_) | None => Ipv4Addr::LOCALHOST.into(),
        };
        if self.ports.users != 0 {
            let local = |port: u16| format!("http://127.0.0.1:{port}");
            facts.insert("url".to_owned(), format!("http://{}", SocketAddr::new(host, self.ports.users)));
            facts.insert("port".to_owned(), self.ports.users.to_string());
            facts.insert("candidate_url".to_owned(), local(self.ports.candidate));
            facts.insert("stable_url".to_owned(), local(self.ports.stable));
        }
        facts.insert("metrics_url".to_owned(), format!("http://127.0.0.1:{}/metrics", self.ports.metrics));
        facts.insert("supervisor_pid".to_owned(), std::process::id().to_string());
        facts
    }

    /// Open requests and connections by service, those of all releases together.
    pub fn open_requests(&self) -> BTreeMap<String, usize> {
        let mut units: BTreeMap<&str, &Arc<Unit>> = BTreeMap::new();
        let running = self.releases.values().chain(&self.coming);
        units.extend(running.flat_map(|running| running.units.values()).map(|unit| (unit.key.as_str(), unit)));
        let mut open = BTreeMap::new();
        for unit in units.values() {
            *open.entry(unit.service.clone()).or_default() += unit.open_requests();
        }
        open
    }

    /// Every instance once, with the releases that use it.
    pub fn instances(&self) -> Vec<(Arc<Instance>, Vec<TreeId>)> {
        let mut units: BTreeMap<(&str, &str), (&Arc<Unit>, Vec<TreeId>)> = BTreeMap::new();
        let coming = self.coming.iter().map(|running| (&running.brought.tree, running));
        for (tree, running) in self.releases.iter().chain(coming) {
            for unit in running.units.values() {
                let entry = units.entry((&unit.service, &unit.key)).or_insert((unit, Vec::new()));
                if !entry.1.contains(tree) {
                    entry.1.push(tree.clone());
                }
            }
        }
        let instances = units
            .into_values()
            .flat_map(|(unit, trees)| unit.instances.iter().map(move |i| (i.clone(), trees.clone())));
        instances.collect()
    }
}

impl Running {
    /// Whether it serves users, or may soon.
    pub fn is_hopeful(&self) -> bool {
        self.units.values().all(|unit| unit.is_hopeful())
    }

    /// Whether each service has an instance that can serve users; the error is a sentence.
    pub fn can_serve(&self) -> Result<(), String> {
        for unit in self.units.values() {
            if unit.instances.iter().any(|instance| instance.is_ready()) {
                continue;
            }
            let troubles: Vec<String> = unit.instances.iter().filter_map(|instance| instance.trouble()).collect();
            return Err(match troubles.is_empty() {
                true => format!("no instance of `{}` is ready", unit.service),
                false => troubles.join("; "),
            });
        }
        Ok(())
    }
}
