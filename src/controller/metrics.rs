//! What the controller counts, for Prometheus. Labels are names from the pipelines and fixed words, never ids or
//! versions, and the number of environments with series of their own is capped.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{
    commands::FollowName,
    model::{EnvironmentName, PipelineName, Span},
};

/// Environments with series of their own; the rest share one.
const ENVIRONMENTS_MAX: usize = 2_000;
/// The environment label of all that are over the cap.
const OTHERS: &str = "(others)";
/// Upper bounds in seconds: promotions take from seconds to a day.
const PROMOTION_BUCKETS: [f64; 12] =
    [1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0];
const ROLLBACK_BUCKETS: [f64; 10] = [0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0];
const GIT_BUCKETS: [f64; 10] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 5.0, 10.0, 20.0, 60.0];

/// An environment of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Place {
    pub pipeline: String,
    pub environment: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceResult {
    pipeline: String,
    environment: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PipelineResult {
    pipeline: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RepositoryLabel {
    repository: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RepositoryResult {
    repository: String,
    result: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Everything that is counted. Clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Counted>);

struct Counted {
    registry: Registry,
    known: Mutex<BTreeSet<(String, String)>>,
    promotions: Family<PlaceResult, Counter>,
    promotion_seconds: Histograms<PipelineResult>,
    rollback_seconds: Histograms<PipelineResult>,
    looks: Family<PlaceResult, Counter>,
    step: Family<Place, Gauge>,
    stuck: Family<Place, Gauge>,
    failures: Family<Place, Counter>,
    leases: Family<PlaceResult, Counter>,
    appends: Family<PipelineResult, Counter>,
    git_seconds: Histograms<Operation>,
    git_failures: Family<Operation, Counter>,
    api_requests: Family<Operation, Counter>,
    webhooks: Family<RepositoryResult, Counter>,
    last_look: Family<RepositoryLabel, Gauge<f64, AtomicU64>>,
    faults: Family<RepositoryLabel, Gauge>,
    environments: Family<RepositoryLabel, Gauge>,
    leader: Gauge,
    transitions: Gauge,
    memory: Gauge,
    processor: Counter<f64, AtomicU64>,
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut counted = Counted {
            registry: Registry::default(),
            known: Mutex::default(),
            promotions: Family::default(),
            promotion_seconds: Family::new_with_constructor(|| Histogram::new(PROMOTION_BUCKETS)),
            rollback_seconds: Family::new_with_constructor(|| Histogram::new(ROLLBACK_BUCKETS)),
            looks: Family::default(),
            step: Family::default(),
            stuck: Family::default(),
            failures: Family::default(),
            leases: Family::default(),
            appends: Family::default(),
            git_seconds: Family::new_with_constructor(|| Histogram::new(GIT_BUCKETS)),
            git_failures: Family::default(),
            api_requests: Family::default(),
            webhooks: Family::default(),
            last_look: Family::default(),
            faults: Family::default(),
            environments: Family::default(),
            leader: Gauge::default(),
            transitions: Gauge::default(),
            memory: Gauge::default(),
            processor: Counter::default(),
        };
        counted.register();
        Metrics(Arc::new(counted))
    }

    /// The labels of an environment; those over the cap share one.
    pub fn place(&self, pipeline: &PipelineName, environment: &EnvironmentName) -> Place {
        let key = (pipeline.to_string(), environment.to_string());
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&key) || known.len() < ENVIRONMENTS_MAX {
            known.insert(key.clone());
            return Place { pipeline: key.0, environment: key.1 };
        }
        Place { pipeline: OTHERS.to_owned(), environment: OTHERS.to_owned() }
    }

    pub fn ended(&self, at: &Place, result: &'static str, after: Option<Span>) {
        self.0.promotions.get_or_create(&at.with(result)).inc();
        if let Some(after) = after {
            self.0.promotion_seconds.get_or_create(&at.pipeline_with(result)).observe(seconds(after));
        }
    }

    /// All users are back after this time.
    pub fn went_back(&self, at: &Place, after: Span) {
        self.0.rollback_seconds.get_or_create(&at.pipeline_with("back")).observe(seconds(after));
    }

    pub fn looked(&self, at: &Place, verdict: &'static str) {
        self.0.looks.get_or_create(&at.with(verdict)).inc();
    }

    /// The step under way, from 1; 0 while nothing is.
    pub fn standing(&self, at: &Place, step: usize, stuck: bool) {
        self.0.step.get_or_create(at).set(i64::try_from(step).unwrap_or(i64::MAX));
        self.0.stuck.get_or_create(at).set(i64::from(stuck));
    }

    /// Nobody stands there any more: what was last seen is not what is there. What was counted stays.
    pub fn left(&self, at: &Place) {
        if at.environment == OTHERS {
            return;
        }
        self.0.step.remove(at);
        self.0.stuck.remove(at);
    }

    /// The environment could not be carried on, and is tried again later.
    pub fn failed(&self, at: &Place) {
        self.0.failures.get_or_create(at).inc();
    }

    pub fn leased(&self, at: &Place, result: &'static str) {
        self.0.leases.get_or_create(&at.with(result)).inc();
    }

    pub fn appended(&self, at: &Place, result: &'static str) {
        self.0.appends.get_or_create(&at.pipeline_with(result)).inc();
    }

    pub fn ran_git(&self, operation: &'static str, took: Duration, succeeded: bool) {
        self.0.git_seconds.get_or_create(&Operation { operation }).observe(took.as_secs_f64());
        if !succeeded {
            self.0.git_failures.get_or_create(&Operation { operation }).inc();
        }
    }

    pub fn asked_cluster(&self, operation: &'static str) {
        self.0.api_requests.get_or_create(&Operation { operation }).inc();
    }

    pub fn webhook(&self, repository: &str, result: &'static str) {
        let labels = RepositoryResult { repository: repository.to_owned(), result };
        self.0.webhooks.get_or_create(&labels).inc();
    }

    pub fn looked_at(&self, repository: &FollowName, faults: usize) {
        let labels = RepositoryLabel { repository: repository.to_string() };
        let now = jiff::Timestamp::now().as_millisecond();
        self.0.last_look.get_or_create(&labels).set(now as f64 / 1_000.0);
        self.0.faults.get_or_create(&labels).set(i64::try_from(faults).unwrap_or(i64::MAX));
    }

    pub fn environments(&self, repository: &FollowName, count: usize) {
        let labels = RepositoryLabel { repository: repository.to_string() };
        self.0.environments.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub fn leads(&self, leads: bool, transitions: i32) {
        self.0.leader.set(i64::from(leads));
        self.0.transitions.set(i64::from(transitions));
    }

    /// The page, in the OpenMetrics form.
    pub fn page(&self) -> String {
        self.look_at_ourselves();
        let mut page = String::new();
        // A string takes everything.
        let _ = text::encode(&mut page, &self.0.registry);
        page
    }

    fn look_at_ourselves(&self) {
        if let Some(bytes) = resident_bytes() {
            self.0.memory.set(bytes);
        }
        if let Some(used) = processor_seconds() {
            let before = self.0.processor.get();
            if used > before {
                self.0.processor.inc_by(used - before);
            }
        }
    }
}

impl Counted {
    fn register(&mut self) {
        self.register_promotions();
        self.register_outside();
        let r = &mut self.registry;
        r.register("piton_environments", "Environments that are carried on here", self.environments.clone());
        r.register("piton_leader", "Whether this replica leads", self.leader.clone());
        r.register("piton_lease_transitions", "How often the Lease changed hands", self.transitions.clone());
        let about = "Memory that is really used";
        r.register_with_unit("process_resident_memory", about, Unit::Bytes, self.memory.clone());
        r.register_with_unit("process_cpu", "Processor time used", Unit::Seconds, self.processor.clone());
    }

    fn register_promotions(&mut self) {
        let r = &mut self.registry;
        let about = "Promotions that ended: promoted, rolled_back, refused or stuck";
        r.register("piton_promotions", about, self.promotions.clone());
        let about = "From the start of a promotion to its end";
        r.register_with_unit("piton_promotion_duration", about, Unit::Seconds, self.promotion_seconds.clone());
        let about = "From the decision to go back until all users are back";
        r.register_with_unit("piton_rollback_duration", about, Unit::Seconds, self.rollback_seconds.clone());
        let about = "Looks of gates: good, bad, blind or counts";
        r.register("piton_gate_looks", about, self.looks.clone());
        r.register("piton_step", "The step under way, from 1; 0 while nothing is", self.step.clone());
        r.register("piton_stuck", "Whether a person must act", self.stuck.clone());
        let about = "Times an environment could not be carried on and was left for later";
        r.register("piton_environment_failures", about, self.failures.clone());
        let about = "Leases of environments in the ledger: taken, renewed, released, or found taken by others";
        r.register("piton_environment_leases", about, self.leases.clone());
    }

    fn register_outside(&mut self) {
        let r = &mut self.registry;
        let about = "Pages for the ledger: written, lost (a race) or failed";
        r.register("piton_ledger_appends", about, self.appends.clone());
        let about = "Calls of the git program that use the network: look, fetch, push";
        r.register_with_unit("piton_git_duration", about, Unit::Seconds, self.git_seconds.clone());
        r.register("piton_git_failures", "Of these, the ones that failed", self.git_failures.clone());
        let about = "Requests of the controller itself to the Kubernetes API server";
        r.register("piton_api_requests", about, self.api_requests.clone());
        r.register("piton_webhooks", "Webhooks: accepted, refused or repeated", self.webhooks.clone());
        let about = "When the repository was last looked at with success";
        r.register_with_unit("piton_repository_last_look", about, Unit::Seconds, self.last_look.clone());
        let about = "Faults of the repository's pipeline files";
        r.register("piton_repository_faults", about, self.faults.clone());
    }
}

impl Place {
    fn with(&self, result: &'static str) -> PlaceResult {
        PlaceResult { pipeline: self.pipeline.clone(), environment: self.environment.clone(), result }
    }

    fn pipeline_with(&self, result: &'static str) -> PipelineResult {
        PipelineResult { pipeline: self.pipeline.clone(), result }
    }
}

fn seconds(span: Span) -> f64 {
    span.as_duration().as_secs_f64()
}

/// What the kernel says of our memory.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

fn processor_seconds() -> Option<f64> {
    let used = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok()?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Some(seconds(used.user_time()) + seconds(used.system_time()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The first column of the README's table, which is what people build their dashboards by.
    fn documented() -> BTreeSet<String> {
        let readme = include_str!("README.md");
        let table = readme.split("## Metrics").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a table");
        let columns = table.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
        columns.flat_map(|names| names.split(',')).map(|name| name.trim().trim_matches('`').to_owned()).collect()
    }

    /// What a page has: a counter's samples end in `_total`.
    fn served(page: &str) -> BTreeSet<String> {
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let named = types.filter_map(|line| line.split_once(' '));
        named.map(|(name, kind)| format!("{name}{}", if kind == "counter" { "_total" } else { "" })).collect()
    }

    #[test]
    fn the_readme_names_every_metric_and_no_other() {
        let metrics = Metrics::new();
        let pipeline = PipelineName::new("hub").expect("a name");
        let at = metrics.place(&pipeline, &EnvironmentName::new("production").expect("a name"));
        let follow: crate::commands::Follow = "deploy=https://git.example/deploy.git".parse().expect("it is right");
        let repository = follow.name;
        // A family without a series has no line on the page.
        metrics.ended(&at, "promoted", Some(Span::seconds(2)));
        metrics.went_back(&at, Span::seconds(2));
        metrics.looked(&at, "good");
        metrics.standing(&at, 1, false);
        metrics.failed(&at);
        metrics.leased(&at, "taken");
        metrics.appended(&at, "written");
        metrics.ran_git("push", Duration::from_secs(1), false);
        metrics.asked_cluster("lease");
        metrics.webhook("deploy", "accepted");
        metrics.looked_at(&repository, 0);
        metrics.environments(&repository, 1);
        metrics.leads(true, 1);
        assert_eq!(served(&metrics.page()), documented());
    }

    #[test]
    fn an_environment_that_is_left_stands_nowhere() {
        let metrics = Metrics::new();
        let pipeline = PipelineName::new("hub").expect("a name");
        let place = |name: &str| metrics.place(&pipeline, &EnvironmentName::new(name).expect("a name"));
        for name in ["staging", "production"] {
            metrics.standing(&place(name), 2, true);
            metrics.failed(&place(name));
        }
        metrics.left(&place("staging"));
        let page = metrics.page();
        let of = |metric: &str| page.lines().filter(|line| line.starts_with(&format!("{metric}{{"))).count();
        assert_eq!((of("piton_step"), of("piton_stuck"), of("piton_environment_failures_total")), (1, 1, 2), "{page}");
        assert!(page.contains("piton_stuck{pipeline=\"hub\",environment=\"production\"} 1"), "{page}");
    }

    #[test]
    fn environments_over_the_cap_share_a_series() {
        let metrics = Metrics::new();
        let pipeline: PipelineName = PipelineName::new("hub").expect("a name");
        let place =
            |number: usize| metrics.place(&pipeline, &EnvironmentName::new(format!("e{number}")).expect("a name"));
        for number in 0..ENVIRONMENTS_MAX + 50 {
            metrics.ended(&place(number), "promoted", Some(Span::seconds(2)));
        }
        assert_eq!(place(0).environment, "e0");
        assert_eq!(place(ENVIRONMENTS_MAX + 1).environment, OTHERS);
        let page = metrics.page();
        let series = page.lines().filter(|line| line.starts_with("piton_promotions_total")).count();
        assert_eq!(series, ENVIRONMENTS_MAX + 1);
        assert!(
            page.contains(
                "piton_promotions_total{pipeline=\"(others)\",environment=\"(others)\",result=\"promoted\"} 50"
            )
        );
        assert!(page.ends_with("# EOF\n"), "it is an OpenMetrics page");
    }
}
