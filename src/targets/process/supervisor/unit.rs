//! The instances of one service with one content. Releases in which nothing changes for a service share its unit.

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::{
    instance::{Instance, Recorded},
    meters::Tally,
};

pub struct Unit {
    /// Two releases with the same key share this unit.
    pub key: String,
    pub service: String,
    pub instances: Vec<Arc<Instance>>,
    /// Where the other services of the release reach it.
    pub internal_port: u16,
    /// Counts what other services ask of it; follows the arm that the unit is on.
    pub tally: RwLock<Option<Arc<Tally>>>,
    turn: AtomicUsize,
    in_flight: TaskTracker,
    sever: CancellationToken,
    door: JoinHandle<()>,
}

/// What is written down of a unit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnitRecord {
    pub internal_port: u16,
    pub instances: Vec<Option<Recorded>>,
}

impl Unit {
    pub fn new(
        key: String,
        service: String,
        instances: Vec<Arc<Instance>>,
        internal_port: u16,
        door: JoinHandle<()>,
    ) -> Unit {
        let (tally, turn, in_flight, sever) = Default::default();
        Unit { key, service, instances, internal_port, tally, turn, in_flight, sever, door }
    }

    /// Instances to try for a request: those that are ready, each time another one first.
    pub fn in_turn(&self) -> impl Iterator<Item = &Arc<Instance>> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % self.instances.len().max(1);
        let (after, before) = self.instances.split_at(first);
        before.iter().chain(after).filter(|instance| instance.is_ready())
    }

    /// To be held as long as a request or a connection is open.
    pub fn visit(&self) -> TaskTrackerToken {
        self.in_flight.token()
    }

    /// How many requests and connections are open.
    pub fn open_requests(&self) -> usize {
        self.in_flight.len()
    }

    /// Ends when open connections are to be cut.
    pub fn severed(&self) -> CancellationToken {
        self.sever.clone()
    }

    /// Waits until every instance is ready; the error tells of the first that failed.
    pub async fn ready(&self) -> Result<(), String> {
        try_join_all(self.instances.iter().map(|instance| instance.settled())).await.map(drop)
    }

    /// Whether users can be served by it, or may be soon.
    pub fn is_hopeful(&self) -> bool {
        use super::instance::Condition;
        self.instances.iter().any(|instance| match instance.condition() {
            Condition::Starting | Condition::Ready => true,
            Condition::Failed(_) | Condition::Stopped => false,
        })
    }

    /// Lets open requests end for so long, or until `cut`, then stops everything; says what was remarkable.
    pub async fn end(&self, drain: Duration, cut: &CancellationToken) -> Vec<String> {
        self.in_flight.close();
        tokio::select! {
            () = self.in_flight.wait() => {}
            () = sleep(drain) => {}
            () = cut.cancelled() => {}
        }
        let open = self.in_flight.len();
        let cut = format!("`{}` still had {open} open requests or connections, which were cut", self.service);
        let mut remarks = if open > 0 { vec![cut] } else { Vec::new() };
        self.sever.cancel();
        self.door.abort();
        remarks.extend(join_all(self.instances.iter().map(|instance| instance.stop())).await.into_iter().flatten());
        remarks
    }

    pub fn record(&self) -> UnitRecord {
        let instances = self.instances.iter().map(|instance| instance.process()).collect();
        UnitRecord { internal_port: self.internal_port, instances }
    }
}
