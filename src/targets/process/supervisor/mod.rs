//! The long-lived process that starts, watches and stops an environment's instances and proxies to them.

mod assemble;
mod control;
mod instance;
mod log;
mod meters;
mod ports;
mod proc;
mod proxy;
mod ready;
pub mod record;
mod routing;
mod start;
mod unit;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use futures_util::future::{join_all, try_join_all};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    assemble::Surroundings,
    instance::{Condition, Instance},
    meters::{InstanceLabels, InstanceReading, Meters},
    proxy::Gateway,
    record::{Arms, Ports, Record},
    routing::{ArmRoutes, Door, Routing},
    unit::{Unit, UnitRecord},
};
use super::wire::{Brought, InstanceReport, Order, PROTOCOL, Refusal, Report, Request};
use crate::model::{Arm, TreeId};

pub use control::{ORDERS_PATH, REPORT_PATH, short_socket_path};
pub use log::last_lines;
pub use start::supervise;

/// An end by signal lets open requests go on for so long.
const SHUTDOWN_DRAIN_MAX: Duration = Duration::from_secs(5);

struct Supervisor {
    /// Itself, for the tasks it starts.
    me: Weak<Supervisor>,
    state_dir: PathBuf,
    gateway: Arc<Gateway>,
    meters: Meters,
    book: Mutex<Book>,
    /// One order at a time.
    turn: tokio::sync::Mutex<()>,
    /// Ends the waiting of the order under way, for one that must not wait.
    overtake: Mutex<CancellationToken>,
    doors: Mutex<BTreeMap<Door, JoinHandle<()>>>,
    /// What is being taken down.
    leaving: TaskTracker,
    /// Ends all draining.
    cut: CancellationToken,
    /// Ends when everything is down.
    quit: CancellationToken,
}

/// Everything the supervisor knows; the record is made of it.
#[derive(Default)]
struct Book {
    id: String,
    fence: u64,
    ports: Ports,
    arms: Arms,
    ended: bool,
    releases: BTreeMap<TreeId, Running>,
    secrets: BTreeMap<String, String>,
}

/// A release that is up, or coming up.
#[derive(Clone)]
struct Running {
    brought: Brought,
    /// By service.
    units: BTreeMap<String, Arc<Unit>>,
}

type Outcome = Result<String, Refusal>;

impl Supervisor {
    /// Does one order. The same order again finds everything done and says so.
    async fn perform(&self, request: Request) -> Outcome {
        if request.protocol != PROTOCOL {
            let ours = format!("the supervisor speaks protocol {PROTOCOL}, not {}", request.protocol);
            return Err(Refusal::World(format!("{ours}; `piton supervise` it anew with the same piton")));
        }
        let (fence, hurry) = match &request.order {
            // Whoever may end this process may end what it runs; no lease is needed for that.
            Order::Shutdown { .. } => (None, true),
            Order::Retreat { .. } => (Some(request.fence), true),
            Order::Apply { .. } | Order::Shift { .. } | Order::Settle { .. } => (Some(request.fence), false),
        };
        self.check_fence(fence)?;
        if hurry {
            lock(&self.overtake).cancel();
        }
        let _turn = self.turn.lock().await;
        // Someone newer may have come while this one waited.
        self.check_fence(fence)?;
        let overtaken = CancellationToken::new();
        *lock(&self.overtake) = overtaken.clone();
        lock(&self.book).secrets.extend(request.secrets);
        let doing = async {
            match request.order {
                Order::Apply { release } => self.apply(release).await,
                Order::Shift { tree, hundredths } => self.shift(&tree, hundredths),
                Order::Retreat { from, to } => self.retreat(&from, to).await,
                Order::Settle { keep } => self.settle(keep.as_ref()).await,
                Order::Shutdown { drain } => Ok(self.shutdown(drain).await),
            }
        };
        tokio::select! {
            outcome = doing => outcome,
            () = overtaken.cancelled() => Err(Refusal::World("overtaken by a rollback or a shutdown".to_owned())),
        }
    }

    fn check_fence(&self, ours: Option<u64>) -> Result<(), Refusal> {
        let Some(ours) = ours else { return Ok(()) };
        let mut book = lock(&self.book);
        if ours < book.fence {
            return Err(Refusal::Fenced { ours, seen: book.fence });
        }
        let is_new = ours > book.fence;
        book.fence = ours;
        drop(book);
        if is_new {
            self.write_down();
        }
        Ok(())
    }

    /// Brings the release up beside what is live, with no users on it.
    async fn apply(&self, release: Brought) -> Outcome {
        let tree = release.tree.clone();
        self.make_room_for(&tree)?;
        self.open_doors(&release).await?;
        let was_there = lock(&self.book).releases.contains_key(&tree);
        if let Err(refusal) = self.bring_up(release).await {
            if !was_there {
                self.take_down(&tree);
            }
            return Err(refusal);
        }
        let arms = lock(&self.book).arms.clone();
        let arms = if arms.stable.as_ref() == Some(&tree) || arms.candidate.as_ref() == Some(&tree) {
            Arms { trial: Some(tree.clone()), ..arms }
        } else {
            Arms { candidate: Some(tree.clone()), share: 0, trial: Some(tree.clone()), ..arms }
        };
        self.set_arms(arms);
        let started = if was_there { "was up already" } else { "is up and ready" };
        Ok(format!("release {} {started}", tree.short()))
    }

    /// A candidate without users makes way for the next one; one with all users is what is stable.
    fn make_room_for(&self, tree: &TreeId) -> Result<(), Refusal> {
        let arms = lock(&self.book).arms.clone();
        let Some(candidate) = arms.candidate.clone().filter(|candidate| candidate != tree) else { return Ok(()) };
        if arms.stable.as_ref() == Some(tree) && arms.share > 0 {
            return Ok(());
        }
        match arms.share {
            0 => {
                self.set_arms(Arms { candidate: None, trial: None, ..arms });
                self.take_down(&candidate);
                Ok(())
            }
            10_000 => {
                self.set_arms(Arms { stable: Some(candidate), candidate: None, share: 0, trial: None });
                Ok(())
            }
            share => Err(Refusal::World(format!(
                "release {} still has {}% of the users; retreat or settle it first",
                candidate.short(),
                f64::from(share) / 100.0
            ))),
        }
    }

    fn shift(&self, tree: &TreeId, hundredths: u16) -> Outcome {
        let mut book = lock(&self.book);
        let Some(running) = book.releases.get(tree) else {
            return Err(Refusal::World(format!("release {} is not up here; apply it first", tree.short())));
        };
        if hundredths > 0 {
            can_serve(running).map_err(Refusal::Release)?;
        }
        let is = |arm: &Option<TreeId>| arm.as_ref() == Some(tree);
        match (is(&book.arms.stable), is(&book.arms.candidate)) {
            (true, _) if book.arms.candidate.is_none() => {
                return Ok(format!("release {} has all users", tree.short()));
            }
            (true, _) => book.arms.share = 10_000 - hundredths.min(10_000),
            (false, true) => book.arms.share = hundredths.min(10_000),
            (false, false) => {
                let why = format!("release {} is up but on no arm; apply it again first", tree.short());
                return Err(Refusal::World(why));
            }
        }
        let arms = book.arms.clone();
        drop(book);
        self.set_arms(arms);
        Ok(format!("release {} has {}% of the users", tree.short(), f64::from(hundredths) / 100.0))
    }

    /// All users to `to`, once it is ready for them; then `from` goes.
    async fn retreat(&self, from: &TreeId, to: Option<Brought>) -> Outcome {
        let Some(to) = to else {
            let arms = lock(&self.book).arms.clone();
            let keep = |arm: Option<TreeId>| arm.filter(|tree| tree != from);
            let candidate = keep(arms.candidate);
            let share = if candidate.is_some() { arms.share } else { 0 };
            self.set_arms(Arms { stable: keep(arms.stable), candidate, share, trial: None });
            self.take_down(from);
            return Ok(format!("release {} is out; there is none to go back to", from.short()));
        };
        let tree = to.tree.clone();
        self.open_doors(&to).await?;
        let was_there = lock(&self.book).releases.contains_key(&tree);
        self.bring_up(to).await?;
        self.set_arms(Arms { stable: Some(tree.clone()), candidate: None, share: 0, trial: None });
        if *from != tree {
            self.take_down(from);
        }
        let how = if was_there { "which was still up" } else { "which was started again" };
        Ok(format!("all users are on release {}, {how}; release {} is out", tree.short(), from.short()))
    }

    /// All users to `keep`; everything else ends.
    async fn settle(&self, keep: Option<&TreeId>) -> Outcome {
        let (mut arms, others) = {
            let book = lock(&self.book);
            if let Some(keep) = keep
                && !book.releases.contains_key(keep)
            {
                return Err(Refusal::World(format!("release {} is not up here and cannot be kept", keep.short())));
            }
            let others = book.releases.keys().filter(|tree| Some(*tree) != keep).cloned().collect::<Vec<_>>();
            (book.arms.clone(), others)
        };
        arms = Arms { stable: keep.cloned(), candidate: None, share: 0, trial: arms.trial.filter(|t| Some(t) == keep) };
        self.set_arms(arms);
        let endings: Vec<_> = others.iter().filter_map(|tree| self.take_down(tree)).collect();
        // A task that was lost has nothing remarkable to tell.
        let remarks = join_all(endings).await.into_iter().flat_map(Result::unwrap_or_default).collect::<Vec<String>>();
        let what = match (keep, others.len()) {
            (Some(keep), 0) => format!("release {} runs alone", keep.short()),
            (Some(keep), n) => format!("release {} runs alone; {n} taken down", keep.short()),
            (None, n) => format!("nothing runs; {n} taken down"),
        };
        Ok([vec![what], remarks].concat().join("; "))
    }

    /// Ends everything; the record keeps what ran.
    async fn shutdown(&self, drain: bool) -> String {
        let releases = {
            let mut book = lock(&self.book);
            book.ended = true;
            std::mem::take(&mut book.releases)
        };
        let record = {
            let book = lock(&self.book);
            let brought = releases.values().map(|running| running.brought.clone()).collect();
            Record { releases: brought, units: BTreeMap::new(), ..book.record() }
        };
        let units: BTreeMap<String, Arc<Unit>> =
            releases.values().flat_map(|running| running.units.values()).map(|u| (u.key.clone(), u.clone())).collect();
        let longest = releases.values().map(|running| running.brought.config.drain.as_duration()).max();
        let drain = if drain { longest.unwrap_or_default().min(SHUTDOWN_DRAIN_MAX) } else { Duration::ZERO };
        let remarks = join_all(units.values().map(|unit| unit.end(drain, &self.cut))).await.concat();
        self.cut.cancel();
        self.leaving.close();
        self.leaving.wait().await;
        if let Err(error) = record::write(&self.state_dir, &record) {
            eprintln!("piton supervise: cannot write down the end: {error}");
        }
        self.quit.cancel();
        [vec!["everything is down".to_owned()], remarks].concat().join("; ")
    }

    /// Starts what is missing of the release and waits until all of it is ready.
    async fn bring_up(&self, release: Brought) -> Result<(), Refusal> {
        let (tree, dir) = (release.tree.clone(), release.dir.clone());
        let existing = lock(&self.book).releases.get(&tree).cloned();
        let running = match existing {
            Some(running) if running.brought.config.services == release.config.services => {
                Running { brought: release, ..running }
            }
            Some(_) | None => self.assemble(release, &BTreeMap::new()).await?,
        };
        let units = running.units.clone();
        self.enter(running);
        let waited = try_join_all(units.values().map(|unit| unit.ready())).await;
        waited
            .map(drop)
            .map_err(|why| Refusal::Release(format!("release {} in {}: {why}", tree.short(), dir.display())))
    }

    /// Puts a release into the book; units of an earlier form of it that nobody uses any more end.
    fn enter(&self, running: Running) {
        let replaced = lock(&self.book).releases.insert(running.brought.tree.clone(), running);
        self.write_down();
        let arms = lock(&self.book).arms.clone();
        self.set_arms(arms);
        if let Some(replaced) = replaced {
            drop(self.end_unused(replaced));
        }
    }

    /// Finds the units of a release among those that run, and starts the others; `recorded` are running processes
    /// to take over.
    async fn assemble(&self, release: Brought, recorded: &BTreeMap<String, UnitRecord>) -> Result<Running, Refusal> {
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
        for (name, (key, port, listener)) in missing {
            let starts = assemble::starts(&release, &name, key, &around).map_err(Refusal::World)?;
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
    fn take_down(&self, tree: &TreeId) -> Option<JoinHandle<Vec<String>>> {
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

    /// Changes who is where: one step for all requests that come after it.
    fn set_arms(&self, arms: Arms) {
        let mut book = lock(&self.book);
        book.arms = arms;
        let routing = book.routing(&self.meters);
        let config = book.config();
        let answer = config.map_or(Duration::from_secs(60), |config| config.answer.as_duration());
        book.label_internal(&self.meters);
        self.meters.set_weights(&routing.weights());
        self.gateway.set_routing(routing, answer);
        drop(book);
        self.write_down();
    }

    /// Opens the environment's own ports; the users' port follows the configuration.
    async fn open_doors(&self, release: &Brought) -> Result<(), Refusal> {
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

    /// What is up. Looking changes nothing.
    fn report(&self) -> Report {
        let book = lock(&self.book);
        let mut releases: BTreeMap<TreeId, u16> = book
            .releases
            .iter()
            .filter(|(_, running)| is_hopeful(running))
            .map(|(tree, _)| (tree.clone(), 0))
            .collect();
        let weights = self.gateway.routing().weights();
        for (arm, tree) in [(Arm::Stable, &book.arms.stable), (Arm::Candidate, &book.arms.candidate)] {
            if let Some(weight) = tree.as_ref().and_then(|tree| releases.get_mut(tree)) {
                *weight += weights[&arm];
            }
        }
        let mut facts = book.facts();
        let instances = book.instances();
        let troubles: Vec<String> = instances.iter().filter_map(|(instance, _)| trouble(instance)).collect();
        if !troubles.is_empty() {
            facts.insert("trouble".to_owned(), troubles.join("; "));
        }
        let instances = instances.iter().map(|(instance, releases)| report_of(instance, releases)).collect();
        Report { protocol: PROTOCOL, pid: std::process::id(), releases, facts, instances }
    }

    fn metrics_page(&self) -> String {
        let instances = lock(&self.book).instances();
        let group = |instance: &Instance| instance.process().map(|recorded| recorded.identity.pid);
        let groups: Vec<i32> = instances.iter().filter_map(|(instance, _)| group(instance)).collect();
        let usage = proc::usage(&groups);
        let reading = |(instance, releases): &(Arc<Instance>, Vec<TreeId>)| InstanceReading {
            labels: InstanceLabels {
                service: instance.start.service.clone(),
                instance: instance.start.index,
                release: releases.iter().map(TreeId::short).collect::<Vec<_>>().join(","),
            },
            ready: instance.is_ready(),
            restarts: instance.restarts(),
            usage: group(instance).and_then(|group| usage.get(&group).copied()).unwrap_or_default(),
        };
        self.meters.page(&instances.iter().map(reading).collect::<Vec<_>>())
    }

    /// A full disk must not keep anyone from going back: it is told, and the work goes on.
    fn write_down(&self) {
        let book = lock(&self.book);
        if book.ended {
            return;
        }
        if let Err(error) = record::write(&self.state_dir, &book.record()) {
            eprintln!("piton supervise: cannot write down what runs: {error}");
        }
    }

    fn rotate_logs(&self) {
        let instances = lock(&self.book).instances();
        for (instance, _) in instances {
            if let Err(error) = instance.start.log.rotate() {
                eprintln!("piton supervise: cannot rotate {}: {error}", instance.start.log.path().display());
            }
        }
    }
}

impl Book {
    fn record(&self) -> Record {
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
    fn config(&self) -> Option<&super::Config> {
        let newest = self.running(&self.arms.candidate).or_else(|| self.running(&self.arms.stable));
        newest.map(|running| &running.brought.config)
    }

    fn routing(&self, meters: &Meters) -> Routing {
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
    fn label_internal(&self, meters: &Meters) {
        for (arm, tree) in [(Arm::Candidate, &self.arms.candidate), (Arm::Stable, &self.arms.stable)] {
            let Some(running) = self.running(tree) else { continue };
            for (name, unit) in &running.units {
                let tally = meters.tally(arm, &running.brought.tree, name);
                *unit.tally.write().expect("no panic while it is held") = Some(tally);
            }
        }
    }

    fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::new();
        let host = match self.ports.listen {
            Some(listen) if !listen.is_unspecified() => listen,
            Some(_) | None => Ipv4Addr::LOCALHOST.into(),
        };
        if self.ports.users != 0 {
            let local = |port: u16| format!("http://127.0.0.1:{port}");
            facts.insert("url".to_owned(), format!("http://{}", std::net::SocketAddr::new(host, self.ports.users)));
            facts.insert("port".to_owned(), self.ports.users.to_string());
            facts.insert("candidate_url".to_owned(), local(self.ports.candidate));
            facts.insert("stable_url".to_owned(), local(self.ports.stable));
        }
        facts.insert("metrics_url".to_owned(), format!("http://127.0.0.1:{}/metrics", self.ports.metrics));
        facts.insert("supervisor_pid".to_owned(), std::process::id().to_string());
        facts
    }

    /// Every instance once, with the releases that use it.
    fn instances(&self) -> Vec<(Arc<Instance>, Vec<TreeId>)> {
        let mut units: BTreeMap<(&str, &str), (&Arc<Unit>, Vec<TreeId>)> = BTreeMap::new();
        for (tree, running) in &self.releases {
            for unit in running.units.values() {
                let entry = units.entry((&unit.service, &unit.key)).or_insert((unit, Vec::new()));
                entry.1.push(tree.clone());
            }
        }
        let instances = units
            .into_values()
            .flat_map(|(unit, trees)| unit.instances.iter().map(move |i| (i.clone(), trees.clone())));
        instances.collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while it is held")
}

fn is_hopeful(running: &Running) -> bool {
    running.units.values().all(|unit| unit.is_hopeful())
}

/// Whether each service has an instance that can serve users; the error is a sentence.
fn can_serve(running: &Running) -> Result<(), String> {
    for unit in running.units.values() {
        if unit.instances.iter().any(|instance| instance.is_ready()) {
            continue;
        }
        let troubles: Vec<String> = unit.instances.iter().filter_map(|instance| trouble(instance)).collect();
        return Err(match troubles.is_empty() {
            true => format!("no instance of `{}` is ready", unit.service),
            false => troubles.join("; "),
        });
    }
    Ok(())
}

fn trouble(instance: &Arc<Instance>) -> Option<String> {
    match instance.condition() {
        Condition::Failed(why) => Some(why),
        Condition::Starting | Condition::Ready | Condition::Stopped => None,
    }
}

fn report_of(instance: &Instance, releases: &[TreeId]) -> InstanceReport {
    let condition = match instance.condition() {
        Condition::Starting => "starting".to_owned(),
        Condition::Ready => "ready".to_owned(),
        Condition::Failed(why) => format!("failed: {why}"),
        Condition::Stopped => "stopped".to_owned(),
    };
    InstanceReport {
        service: instance.start.service.clone(),
        index: instance.start.index,
        releases: releases.to_vec(),
        port: instance.port(),
        pid: instance.process().map(|recorded| recorded.identity.pid),
        restarts: instance.restarts(),
        condition,
    }
}

fn port_refusal(port: u16, whose: &str, error: &std::io::Error) -> Refusal {
    Refusal::World(match error.kind() {
        std::io::ErrorKind::AddrInUse => format!("port {port} of {whose} is taken by another program"),
        _ => format!("cannot listen on port {port} for {whose}: {error}"),
    })
}
