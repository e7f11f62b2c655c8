use std::collections::BTreeSet;

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Entry, Gate, Scene, expand,
    exposition::{self, Sample},
};
use crate::{
    clients::http::Ask,
    model::{Arm, ArmCounts, Counts, LATENCY_BOUNDS_MS, Release, Rule, Saw, Share, Span},
    pipeline::{GateKind, Kind, checked},
};

pub const ENTRY: Entry = Entry {
    kind: GateKind {
        kind: Kind {
            name: "metric",
            about: "counts the failed or slow requests that the proxy saw",
            help: HELP,
            example: EXAMPLE,
            check: checked::<Config>,
            schema: |generator| generator.subschema_for::<Config>(),
        },
        rule,
    },
    build: |config| Ok(Box::new(serde_json::from_value::<Config>(config.clone())?)),
};

const HELP: &str = "\
Reads the request counters of the proxy in front of the environment and holds them against a limit, counted from the start of the
step. Either `errors`: at most `max` of the ok and failed requests may have failed; refusals (429) and other client errors count on neither side.
Or `latency`: the `quantile` of the answer times may be at most `max`.

`arm` is `candidate` or `stable`. Fewer than `requests_min` requests say nothing: the gate stays undecided. `service` restricts the
count to one service. A proxy that cannot be reached, or that exports no such counter, is blind and never good.";

const EXAMPLE: &str = "\
- metric:
    errors: {arm: candidate, max: 2%, requests_min: 50}
  name: errors
  every: 5s
";

const REQUESTS: &str = "piton_requests_total";
const SECONDS: &str = "piton_request_seconds_bucket";

/// Enough for a proxy with hundreds of services.
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Form", into = "Form")]
#[schemars(with = "Form")]
struct Config {
    url: String,
    service: Option<String>,
    limit: Limit,
}

#[derive(Debug, Clone)]
enum Limit {
    Errors(Errors),
    Latency(Latency),
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MetricGate")]
struct Form {
    /// Where the counters are; the target's own proxy unless said otherwise.
    #[serde(default = "metrics_url")]
    url: String,
    /// Only this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    errors: Option<Errors>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Errors {
    #[serde(default = "candidate")]
    arm: Arm,
    /// Such as `2%`.
    #[schemars(with = "String")]
    max: Share,
    #[serde(default = "requests_min")]
    requests_min: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Latency {
    #[serde(default = "candidate")]
    arm: Arm,
    /// Between 0 and 1: 0.99 is the time that 99 of 100 requests stay within.
    quantile: f64,
    max: Span,
    #[serde(default = "requests_min")]
    requests_min: u64,
}

fn metrics_url() -> String {
    "${metrics_url}".to_owned()
}

fn candidate() -> Arm {
    Arm::Candidate
}

/// With fewer requests a single failure moves the share by more than most limits.
fn requests_min() -> u64 {
    50
}

impl TryFrom<Form> for Config {
    type Error = String;
    fn try_from(form: Form) -> Result<Config, String> {
        let limit = match (form.errors, form.latency) {
            (Some(errors), None) => Limit::Errors(errors),
            (None, Some(latency)) if (0.0..=1.0).contains(&latency.quantile) && latency.quantile > 0.0 => {
                Limit::Latency(latency)
            }
            (None, Some(latency)) => {
                return Err(format!(
                    "the quantile {} is not between 0 and 1; write 0.99 for 99 of 100",
                    latency.quantile
                ));
            }
            (None, None) => return Err("a metric gate needs `errors` or `latency`".to_owned()),
            (Some(_), Some(_)) => {
                return Err("`errors` and `latency` are two gates; write one gate for each".to_owned());
            }
        };
        Ok(Config { url: form.url, service: form.service, limit })
    }
}

impl From<Config> for Form {
    fn from(config: Config) -> Form {
        let (errors, latency) = match config.limit {
            Limit::Errors(errors) => (Some(errors), None),
            Limit::Latency(latency) => (None, Some(latency)),
        };
        Form { url: config.url, service: config.service, errors, latency }
    }
}

fn rule(config: &Value) -> Rule {
    let config: Config = serde_json::from_value(config.clone()).expect("only checked configurations come here");
    match config.limit {
        Limit::Errors(limit) => Rule::ErrorShare {
            arm: limit.arm,
            max: f64::from(limit.max.hundredths()) / 10_000.0,
            requests_min: limit.requests_min,
        },
        Limit::Latency(limit) => Rule::Latency {
            arm: limit.arm,
            quantile: limit.quantile,
            max_ms: limit.max.0,
            requests_min: limit.requests_min,
        },
    }
}

impl Gate for Config {
    fn look<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Saw> {
        Box::pin(async move {
            match self.counts(scene).await {
                Ok(counts) => Saw::Counts(counts),
                Err(why) => Saw::Blind(why),
            }
        })
    }
}

impl Config {
    async fn counts(&self, scene: &Scene) -> Result<Counts, String> {
        let mut ask = Ask::get(expand(&self.url, &scene.facts)?, scene.timeout);
        ask.body_bytes_max = TEXT_BYTES_MAX;
        let answer = ask.send().await.map_err(|error| format!("cannot read the metrics: {error}"))?;
        if answer.status != 200 || answer.cut {
            return Err(format!("the metrics came with status {} and {} bytes", answer.status, answer.body.len()));
        }
        self.read(&answer.text(), scene)
    }

    fn read(&self, text: &str, scene: &Scene) -> Result<Counts, String> {
        let samples = exposition::read(text);
        self.refuse_what_is_absent(&samples)?;
        let mut counts = Counts::default();
        for (arm, release) in [(Arm::Candidate, Some(&scene.candidate)), (Arm::Stable, scene.stable.as_ref())] {
            let mine: Vec<&Sample> = samples.iter().filter(|s| self.is_mine(s, arm, release)).collect();
            // Counters begin with the first request: where the other series show that the source works, an arm
            // without any has served nothing.
            counts.arms.insert(arm, arm_counts(&mine)?);
        }
        Ok(counts)
    }

    /// A renamed metric or a misspelt service must not look like silence.
    fn refuse_what_is_absent(&self, samples: &[Sample]) -> Result<(), String> {
        let needed: &[&str] = match self.limit {
            Limit::Errors(_) => &[REQUESTS],
            Limit::Latency(_) => &[REQUESTS, SECONDS],
        };
        if let Some(name) = needed.iter().find(|name| !samples.iter().any(|s| s.name == **name)) {
            return Err(format!("there is no `{name}` among {} series", samples.len()));
        }
        let Some(service) = &self.service else { return Ok(()) };
        let known: BTreeSet<&str> =
            samples.iter().filter(|s| s.name == REQUESTS).filter_map(|s| s.label("service")).collect();
        match known.contains(service.as_str()) {
            true => Ok(()),
            false => {
                let known: Vec<&str> = known.into_iter().collect();
                Err(format!("no request of the service `{service}` was counted; counted are {}", known.join(", ")))
            }
        }
    }

    fn is_mine(&self, sample: &Sample, arm: Arm, release: Option<&Release>) -> bool {
        // The name of a release says more than that of an arm: once promoted, what was on trial is the stable one, and
        // its watch goes on counting.
        let right_release = match (sample.label("release"), release) {
            (Some(label), Some(release)) => !label.is_empty() && release.tree.as_str().starts_with(label),
            (Some(_), None) => false,
            (None, _) => sample.label("arm") == Some(arm.name()),
        };
        let right_service = self.service.as_deref().is_none_or(|service| sample.label("service") == Some(service));
        right_release && right_service
    }
}

fn arm_counts(samples: &[&Sample]) -> Result<ArmCounts, String> {
    let mut counts = ArmCounts::default();
    for sample in samples.iter().filter(|s| s.name == REQUESTS) {
        let class = sample.label("class").unwrap_or_default();
        let count = match class {
            "ok" => &mut counts.ok,
            "failed" => &mut counts.failed,
            "rejected" => &mut counts.rejected,
            "client" => &mut counts.client,
            other => return Err(format!("`{REQUESTS}` has the unknown class `{other}`")),
        };
        *count += whole(sample.value)?;
    }
    counts.latency = latency(samples)?;
    Ok(counts)
}

/// Buckets hold everything up to their bound; ours hold what is between two.
fn latency(samples: &[&Sample]) -> Result<Vec<u64>, String> {
    let mut up_to = [0; LATENCY_BOUNDS_MS.len() + 1];
    let mut any = false;
    for sample in samples.iter().filter(|s| s.name == SECONDS) {
        let bound: f64 = sample.label("le").and_then(|le| le.parse().ok()).unwrap_or(f64::NAN);
        let slot = match bound == f64::INFINITY {
            true => Some(LATENCY_BOUNDS_MS.len()),
            false => LATENCY_BOUNDS_MS.iter().position(|ms| (*ms as f64 - bound * 1_000.0).abs() < 1e-6),
        };
        let slot = slot.ok_or_else(|| format!("`{SECONDS}` has the unknown bound {bound}"))?;
        up_to[slot] += whole(sample.value)?;
        any = true;
    }
    if !any {
        return Ok(Vec::new());
    }
    let below = std::iter::once(0).chain(up_to);
    Ok(up_to.into_iter().zip(below).map(|(to, from)| to.saturating_sub(from)).collect())
}

fn whole(value: f64) -> Result<u64, String> {
    match value.is_finite() && value >= 0.0 {
        true => Ok(value as u64),
        false => Err(format!("a counter is {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::scene, *};

    const TEXT: &str = r#"
# TYPE piton_requests counter
piton_requests_total{arm="candidate",release="aaaaaaaaaa",service="web",class="ok"} 90
piton_requests_total{arm="candidate",release="aaaaaaaaaa",service="web",class="failed"} 10
piton_requests_total{arm="candidate",release="aaaaaaaaaa",service="api",class="rejected"} 3
piton_requests_total{arm="candidate",release="0000000000",service="web",class="failed"} 999
piton_requests_total{arm="stable",release="bbbbbbbbbb",service="web",class="ok"} 1000
piton_request_seconds_bucket{arm="candidate",release="aaaaaaaaaa",service="web",le="0.001"} 1
piton_request_seconds_bucket{arm="candidate",release="aaaaaaaaaa",service="web",le="0.002"} 4
piton_request_seconds_bucket{arm="candidate",release="aaaaaaaaaa",service="web",le="+Inf"} 4
# EOF
"#;

    fn config(text: &str) -> Config {
        serde_json::from_str(text).expect(text)
    }

    #[test]
    fn only_the_releases_on_trial_are_counted() {
        let gate = config(r#"{"errors": {"max": "2%"}}"#);
        let counts = gate.read(TEXT, &scene()).expect("the metrics are there");
        let candidate = &counts.arms[&Arm::Candidate];
        assert_eq!((candidate.ok, candidate.failed, candidate.rejected), (90, 10, 3));
        assert_eq!(counts.arms[&Arm::Stable].ok, 1000);
        assert_eq!(candidate.latency[..3], [1, 3, 0]);
    }

    #[test]
    fn an_arm_that_served_nothing_has_counted_nothing() {
        let text = r#"piton_requests_total{arm="stable",release="bbbbbbbbbb",service="web",class="ok"} 7"#;
        let counts = config(r#"{"errors": {"max": "2%"}}"#).read(text, &scene()).expect("the source works");
        assert_eq!((counts.arms[&Arm::Candidate].total(), counts.arms[&Arm::Stable].ok), (0, 7));
    }

    #[test]
    fn what_is_absent_is_never_silence() {
        for (gate, text, says) in [
            (r#"{"errors": {"max": "2%"}}"#, "other_total 1\n", "there is no `piton_requests_total` among 1 series"),
            (r#"{"errors": {"max": "2%"}}"#, "", "among 0 series"),
            (r#"{"service": "wbe", "errors": {"max": "2%"}}"#, TEXT, "`wbe` was counted; counted are api, web"),
            (
                r#"{"latency": {"quantile": 0.99, "max": "1s"}}"#,
                "piton_requests_total{arm=\"stable\",class=\"ok\"} 1",
                "no `piton_request_seconds_bucket`",
            ),
            (r#"{"errors": {"max": "2%"}}"#, "piton_requests_total{arm=\"candidate\",class=\"wat\"} 1", "class `wat`"),
            (r#"{"errors": {"max": "2%"}}"#, "piton_requests_total{arm=\"candidate\",class=\"ok\"} NaN", "is NaN"),
        ] {
            let why = config(gate).read(text, &scene()).expect_err("it is blind");
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn one_limit_and_a_right_one() {
        for wrong in [
            r#"{}"#,
            r#"{"errors": {"max": "2%"}, "latency": {"quantile": 0.5, "max": "1s"}}"#,
            r#"{"latency": {"quantile": 99, "max": "1s"}}"#,
            r#"{"errors": {"max": 2}}"#,
            r#"{"errors": {"max": "2%", "arms": "stable"}}"#,
        ] {
            assert!(serde_json::from_str::<Config>(wrong).is_err(), "{wrong}");
        }
        let value = serde_json::to_value(config(r#"{"errors": {"max": "2.5%", "requests_min": 7}}"#)).expect("plain");
        assert_eq!(rule(&value), Rule::ErrorShare { arm: Arm::Candidate, max: 0.025, requests_min: 7 });
    }
}
