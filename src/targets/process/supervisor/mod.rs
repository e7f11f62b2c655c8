//! The long-lived process that starts, watches and stops an environment's instances and proxies to them.

mod assemble;
mod book;
mod bring;
mod control;
mod doors;
mod instance;
mod log;
mod meters;
mod orders;
mod ports;
mod proc;
mod proxy;
mod ready;
pub mod record;
mod routing;
mod secrets;
mod start;
mod unit;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, Weak, atomic::AtomicUsize},
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    book::Book,
    instance::Instance,
    meters::{InstanceLabels, InstanceReading, Meters},
    proxy::Gateway,
    record::Arms,
    routing::Door,
};
use super::wire::{PROTOCOL, Report};
use crate::model::{Arm, TreeId};

pub use control::{ORDERS_PATH, REPORT_PATH, short_socket_path};
pub use start::{EXIT_TAKEN, READY_LINE, supervise};

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
    /// How many such wait for the turn.
    hurrying: AtomicUsize,
    doors: Mutex<BTreeMap<Door, JoinHandle<()>>>,
    /// What is being taken down.
    leaving: TaskTracker,
    /// Ends all draining.
    cut: CancellationToken,
    /// Ends when everything is down.
    quit: CancellationToken,
}

impl Supervisor {
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

    /// What is up. Looking changes nothing.
    fn report(&self) -> Report {
        let book = lock(&self.book);
        let up = book.releases.iter().filter(|(_, running)| running.is_hopeful());
        let mut releases: BTreeMap<TreeId, u16> = up.map(|(tree, _)| (tree.clone(), 0)).collect();
        let weights = self.gateway.routing().weights();
        for (arm, tree) in [(Arm::Stable, &book.arms.stable), (Arm::Candidate, &book.arms.candidate)] {
            if let Some(weight) = tree.as_ref().and_then(|tree| releases.get_mut(tree)) {
                *weight += weights[&arm];
            }
        }
        let mut facts = book.facts();
        let instances = book.instances();
        let troubles: Vec<String> = instances.iter().filter_map(|(instance, _)| instance.trouble()).collect();
        if !troubles.is_empty() {
            facts.insert("trouble".to_owned(), troubles.join("; "));
        }
        let instances = instances.iter().map(|(instance, releases)| instance.report(releases)).collect();
        let open = book.open_requests();
        Report { protocol: PROTOCOL, pid: std::process::id(), releases, facts, instances, open }
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
        if let Err(error) = self.try_write_down() {
            eprintln!("piton supervise: cannot write down what runs: {error}");
        }
    }

    fn try_write_down(&self) -> io::Result<()> {
        let book = lock(&self.book);
        if book.ended {
            return Ok(());
        }
        record::write(&self.state_dir, &book.record())
    }

    fn tidy_logs(&self) {
        let instances = lock(&self.book).instances();
        let logs: Vec<log::Log> = instances.into_iter().map(|(instance, _)| instance.start.log.clone()).collect();
        let rotated = logs.iter().try_for_each(log::Log::rotate);
        if let Err(error) = rotated.and_then(|()| log::remove_old(&self.state_dir.join("logs"), &logs)) {
            eprintln!("piton supervise: cannot tidy the logs: {error}");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while it is held")
}
