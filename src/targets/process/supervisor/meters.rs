//! What the proxy counts, in Prometheus' text format.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

use crate::model::{Arm, LATENCY_BOUNDS_MS, TreeId};

/// Counts of so many releases are kept; the oldest go first.
const RELEASES_KEPT: usize = 8;

/// How a request ended, as a gate sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Ok,
    /// 5xx, no connection, no answer in time, an answer that broke off.
    Failed,
    /// 429: no fault of the version.
    Rejected,
    /// Other 4xx, and clients that went away.
    Client,
}

/// Whose request it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Whose {
    /// A user's, on the environment's port.
    User,
    /// Sent to one arm on purpose, as gates do.
    Probe,
    /// From one service to another.
    Internal,
}

impl Class {
    const ALL: [Class; 4] = [Class::Ok, Class::Failed, Class::Rejected, Class::Client];

    pub fn of_status(status: u16) -> Class {
        match status {
            429 => Class::Rejected,
            400..=499 => Class::Client,
            500..=599 => Class::Failed,
            _ => Class::Ok,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Class::Ok => "ok",
            Class::Failed => "failed",
            Class::Rejected => "rejected",
            Class::Client => "client",
        }
    }
}

impl Whose {
    fn name(self) -> &'static str {
        match self {
            Whose::User => "user",
            Whose::Probe => "probe",
            Whose::Internal => "internal",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    arm: &'static str,
    service: String,
    release: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OtherLabels {
    whose: &'static str,
    arm: &'static str,
    service: String,
    release: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LatencyLabels {
    arm: &'static str,
    service: String,
    release: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ArmLabels {
    arm: &'static str,
}

/// One instance in the metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct InstanceLabels {
    pub service: String,
    pub instance: u16,
    pub release: String,
}

#[derive(Clone)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(LATENCY_BOUNDS_MS.iter().map(|ms| *ms as f64 / 1000.0))
    }
}

type Latency = Family<LatencyLabels, Histogram, Buckets>;
type Number = Gauge<f64, AtomicU64>;

/// Everything that is exported.
pub struct Meters {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    latency: Latency,
    other: Family<OtherLabels, Counter>,
    weight: Family<ArmLabels, Number>,
    instances: InstanceMeters,
    /// In the order in which they were first counted.
    counted: Mutex<Vec<Arc<Tally>>>,
}

#[derive(Default)]
struct InstanceMeters {
    ready: Family<InstanceLabels, Gauge>,
    restarts: Family<InstanceLabels, Gauge>,
    cpu_seconds: Family<InstanceLabels, Number>,
    memory_bytes: Family<InstanceLabels, Gauge>,
    threads: Family<InstanceLabels, Gauge>,
    open_files: Family<InstanceLabels, Gauge>,
    processes: Family<InstanceLabels, Gauge>,
}

/// What is known of an instance when the metrics are asked for.
pub struct InstanceReading {
    pub labels: InstanceLabels,
    pub ready: bool,
    pub restarts: u32,
    pub usage: super::proc::Usage,
}

/// The counters of one service of one release on one arm, looked up once so that a request costs no lookup.
pub struct Tally {
    arm: Arm,
    service: String,
    release: TreeId,
    users: [Counter; 4],
    latency: Histogram,
    probes: [Counter; 4],
    internal: [Counter; 4],
}

impl Tally {
    /// Counts one finished request; the latency is the time to the beginning of the answer.
    pub fn count(&self, whose: Whose, class: Class, latency: Option<Duration>) {
        let counters = match whose {
            Whose::User => &self.users,
            Whose::Probe => &self.probes,
            Whose::Internal => &self.internal,
        };
        counters[class as usize].inc();
        if let (Whose::User, Some(latency)) = (whose, latency) {
            self.latency.observe(latency.as_secs_f64());
        }
    }
}

impl Default for Meters {
    fn default() -> Meters {
        let mut registry = Registry::with_prefix("piton");
        let requests = Family::default();
        registry.register("requests", "Users' requests by arm, service and outcome", requests.clone());
        let latency = Latency::new_with_constructor(Buckets);
        let help = "Time to the beginning of the answer to users' requests";
        registry.register_with_unit("request", help, Unit::Seconds, latency.clone());
        let other = Family::default();
        registry.register("other_requests", "Requests of gates and between services", other.clone());
        let weight = Family::default();
        registry.register("weight", "Share of the users, from 0 to 1", weight.clone());
        let instances = InstanceMeters::default();
        instances.register(&mut registry);
        Meters { registry, requests, latency, other, weight, instances, counted: Mutex::new(Vec::new()) }
    }
}

impl InstanceMeters {
    fn register(&self, registry: &mut Registry) {
        registry.register("instance_ready", "1 when the instance is ready", self.ready.clone());
        registry.register("instance_restarts", "Starts after the first", self.restarts.clone());
        registry.register("instance_cpu_seconds", "Processor time of the process group", self.cpu_seconds.clone());
        registry.register("instance_memory_bytes", "Resident memory of the process group", self.memory_bytes.clone());
        registry.register("instance_threads", "Threads of the process group", self.threads.clone());
        registry.register("instance_open_files", "Open files of the process group", self.open_files.clone());
        registry.register("instance_processes", "Processes in the group", self.processes.clone());
    }

    fn set(&self, readings: &[InstanceReading]) {
        self.clear();
        for InstanceReading { labels, ready, restarts, usage } in readings {
            let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            self.ready.get_or_create(labels).set(i64::from(*ready));
            self.restarts.get_or_create(labels).set(i64::from(*restarts));
            self.cpu_seconds.get_or_create(labels).set(usage.cpu_seconds);
            self.memory_bytes.get_or_create(labels).set(whole(usage.resident_bytes));
            self.threads.get_or_create(labels).set(whole(usage.threads));
            self.open_files.get_or_create(labels).set(whole(usage.open_files));
            self.processes.get_or_create(labels).set(whole(usage.processes));
        }
    }

    fn clear(&self) {
        self.ready.clear();
        self.restarts.clear();
        self.cpu_seconds.clear();
        self.memory_bytes.clear();
        self.threads.clear();
        self.open_files.clear();
        self.processes.clear();
    }
}

impl Meters {
    /// The counters of a service; the same ones when asked again, so that a release keeps its counts.
    pub fn tally(&self, arm: Arm, release: &TreeId, service: &str) -> Arc<Tally> {
        let mut counted = self.counted.lock().expect("no panic while it is held");
        let same = |tally: &&Arc<Tally>| tally.arm == arm && tally.release == *release && tally.service == service;
        if let Some(tally) = counted.iter().find(same) {
            return tally.clone();
        }
        let tally = Arc::new(self.new_tally(arm, release, service));
        counted.push(tally.clone());
        self.forget_oldest(&mut counted);
        tally
    }

    fn new_tally(&self, arm: Arm, release: &TreeId, service: &str) -> Tally {
        let other = |whose| {
            Class::ALL.map(|class| self.other.get_or_create_owned(&other_labels(arm, release, service, whose, class)))
        };
        Tally {
            arm,
            service: service.to_owned(),
            release: release.clone(),
            users: Class::ALL
                .map(|class| self.requests.get_or_create_owned(&request_labels(arm, release, service, class))),
            latency: self.latency.get_or_create_owned(&latency_labels(arm, release, service)),
            probes: other(Whose::Probe),
            internal: other(Whose::Internal),
        }
    }

    fn forget_oldest(&self, counted: &mut Vec<Arc<Tally>>) {
        let mut releases: Vec<&TreeId> = Vec::new();
        for tally in counted.iter().rev() {
            if !releases.contains(&&tally.release) {
                releases.push(&tally.release);
            }
        }
        let Some(oldest) = releases.get(RELEASES_KEPT).map(|release| (*release).clone()) else { return };
        for gone in counted.extract_if(.., |tally| tally.release == oldest) {
            let (arm, release, service) = (gone.arm, &gone.release, gone.service.as_str());
            self.latency.remove(&latency_labels(arm, release, service));
            for class in Class::ALL {
                self.requests.remove(&request_labels(arm, release, service, class));
                self.other.remove(&other_labels(arm, release, service, Whose::Probe, class));
                self.other.remove(&other_labels(arm, release, service, Whose::Internal, class));
            }
        }
    }

    pub fn set_weights(&self, hundredths: &BTreeMap<Arm, u16>) {
        for arm in Arm::ALL {
            let weight = hundredths.get(&arm).copied().unwrap_or(0);
            self.weight.get_or_create(&ArmLabels { arm: arm.name() }).set(f64::from(weight) / 10_000.0);
        }
    }

    /// The page for Prometheus.
    pub fn page(&self, instances: &[InstanceReading]) -> String {
        self.instances.set(instances);
        let mut page = String::new();
        encode(&mut page, &self.registry).expect("a string takes everything");
        page
    }
}

fn request_labels(arm: Arm, release: &TreeId, service: &str, class: Class) -> RequestLabels {
    let (service, release) = (service.to_owned(), release.short().to_owned());
    RequestLabels { arm: arm.name(), service, release, class: class.name() }
}

fn latency_labels(arm: Arm, release: &TreeId, service: &str) -> LatencyLabels {
    LatencyLabels { arm: arm.name(), service: service.to_owned(), release: release.short().to_owned() }
}

fn other_labels(arm: Arm, release: &TreeId, service: &str, whose: Whose, class: Class) -> OtherLabels {
    let (service, release) = (service.to_owned(), release.short().to_owned());
    OtherLabels { whose: whose.name(), arm: arm.name(), service, release, class: class.name() }
}
