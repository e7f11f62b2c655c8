//! The file as it is written, key by key: from these types come the known keys and the JSON Schema. The values are read
//! one at a time, so that one wrong value does not hide the next.

use std::{borrow::Cow, cell::Cell, collections::BTreeMap};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize,
    de::{self, DeserializeOwned, Deserializer, Visitor},
};

use super::Fault;
use crate::model::Span;

/// One pipeline: which components, through which environments, behind which gates.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct File {
    /// The name of the pipeline; without it, the name of the file.
    name: Option<String>,
    source: Option<Source>,
    /// The first part of the environment branches: `piton` gives `piton/production`. Default: `piton`.
    prefix: Option<String>,
    /// Values at places in the deploy repository, mostly versions.
    components: BTreeMap<String, Component>,
    /// Components that only ever move together.
    bundles: Option<Vec<Vec<String>>>,
    /// Gates that several environments use, by name.
    gates: Option<BTreeMap<String, AnyGate>>,
    /// Where releases go, and in which order.
    environments: BTreeMap<String, Environment>,
    /// What every environment has unless it says otherwise: the same keys as an environment.
    defaults: Option<Environment>,
    signing: Option<Signing>,
}

/// Where releases come from.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct Source {
    /// The branch that people merge to. Default: `main`.
    branch: Option<String>,
    /// The git remote. Default: `origin`.
    remote: Option<String>,
}

/// A value at a place in the deploy repository.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct Component {
    /// The file, relative to the root of the repository.
    file: String,
    /// Where in a structured file: `web.version`, `dependencies[name=binderhub].version`.
    path: Option<String>,
    /// A regular expression for any file; its first group is the value.
    pattern: Option<String>,
    /// Which part of the text is the value. Default: `whole`.
    part: Option<Part>,
    /// How its versions are ordered. Default: by what they look like.
    order: Option<Order>,
    /// The component that usually brings this value along, such as the chart around an image.
    within: Option<String>,
    /// What a change of it restarts, and what users feel.
    restarts: Option<String>,
}

#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// What comes after the `:` of an image reference, or after its `@`.
    Tag,
}

#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// By what the text looks like.
    Auto,
    Semver,
    Pep440,
    /// The commit counter of chartpress versions decides.
    Count,
    Date,
    /// No order: equal or not.
    Opaque,
}

/// Where a release runs, and what it must pass there.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct Environment {
    /// Only what these environments have proven comes here; without it, everything from the source branch.
    after: Option<OneOrMany<String>>,
    /// How a release becomes live.
    target: Option<AnyTarget>,
    /// How big a step is. Default: `bump`.
    pace: Option<PaceForm>,
    gates: Option<Gates>,
    /// Growing shares of the users, the last one `100%`. Default: everyone at once.
    canary: Option<Vec<CanaryStep>>,
    /// Members of the target (clusters, hubs), some at a time.
    waves: Option<Vec<Wave>>,
    /// What must hold of every release and of the waves, by name; a release that breaks one is never begun.
    invariants: Option<BTreeMap<String, Invariant>>,
    /// How long each canary step or wave is held while gates look. Default: `5m`.
    hold: Option<Span>,
    /// How long a release is under gates with all users on it before it is known good. Default: `10m`.
    bake: Option<Span>,
    /// How long gates look on after that, with the way back still armed. Default: no watch.
    watch: Option<Watch>,
    /// The longest a promotion may take. Default: `2h`.
    deadline: Option<Span>,
    /// From the first bad sign of a gate with `on_fail: ask` to the rollback. Default: `10m`.
    investigate: Option<Span>,
    /// How long gates that cannot look may hold a promotion up. Default: `30m`.
    blind: Option<Span>,
    /// How long the gates before a promotion may wait for people or a window. Default: `24h`.
    preflight: Option<Span>,
    deploy: Option<Deploy>,
    rollback: Option<Rollback>,
    /// How long a version that was rolled back stays out: a duration or `forever`. Default: `14d`.
    quarantine: Option<String>,
    /// How often live is compared with what was deployed; `off`: never. Default: every minute, where the target can see it.
    drift: Option<DriftForm>,
    /// How often is tried whether the last known-good release could be deployed again; `off`: never. Default: every day. Where it is
    /// written, a promotion also waits, as long as `blind` says, when that cannot be looked at.
    way_back: Option<WayBackForm>,
    /// Who is told.
    notify: Option<Vec<AnyChannel>>,
}

#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum PaceForm {
    /// One commit at a time, and one component of it at a time.
    Bump,
    /// One commit at a time.
    Commit,
    /// All that is waiting at once.
    Latest,
}

/// When gates look: each is the name of a gate, or a gate in place.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct Gates {
    /// Before anything is touched.
    before: Option<Vec<GateUse>>,
    /// In every canary step and while it bakes.
    during: Option<Vec<GateUse>>,
    /// With all users on the release.
    after: Option<Vec<GateUse>>,
}

/// What every kind of gate has.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct GateCommon {
    /// What it is called. Default: its kind.
    name: Option<String>,
    /// Time from one look to the next. Default: `10s`.
    every: Option<Span>,
    /// The longest that one look may take. Default: `30s`.
    timeout: Option<Span>,
    /// What happens when it fails. Default: `rollback`.
    on_fail: Option<OnFail>,
}

#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnFail {
    /// Go back at once.
    Rollback,
    /// Give people the investigation time first, then go back.
    Ask,
}

/// A canary step: a share of the users, `10%`, or with its own hold.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the type gives the schema; values are read key by key")]
pub(super) enum CanaryStep {
    Share(String),
    Step(ShareStep),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct ShareStep {
    /// A percentage: `10%`.
    share: String,
    /// How long it is held.
    hold: Option<Span>,
}

/// Some members of the target.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct Wave {
    members: Vec<String>,
    /// How long it is held.
    hold: Option<Span>,
}

/// What must hold of values in the files of a release, or of the order of the waves.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct Invariant {
    /// Exactly these members are the last wave.
    last: Option<Vec<String>>,
    /// The file, relative to the root of the repository.
    file: Option<String>,
    /// Where in the file the values stand; `[*]` is every entry or item: `hosts[*].weight`.
    path: Option<String>,
    /// What a value that is not there counts as. Default: every value must be there.
    absent: Option<f64>,
    /// What each value must be; `true` counts as 1, `false` as 0.
    all: Option<Bounds>,
    /// What their sum must be.
    sum: Option<Bounds>,
    /// What the least of them must be.
    min: Option<Bounds>,
    /// What the greatest of them must be.
    max: Option<Bounds>,
}

/// What a number must be; of several, all.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct Bounds {
    above: Option<f64>,
    below: Option<f64>,
    at_least: Option<f64>,
    at_most: Option<f64>,
    is: Option<f64>,
    is_not: Option<f64>,
}

/// How long the watch lasts, or with the gates that watch.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the type gives the schema; values are read key by key")]
pub(super) enum Watch {
    Time(Span),
    Spec(WatchForm),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct WatchForm {
    time: Span,
    /// Names of gates. Default: those of `during` and `after`.
    gates: Option<Vec<String>>,
}

/// Looking for drift.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct DriftEvery {
    /// From one look to the next. Default: `1m`.
    every: Option<Span>,
    /// Names of gates that look on, too: what they find bad is drift. Such as an `http` gate that asks a service which version it is.
    gates: Option<Vec<String>>,
}

/// Trying the way back.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct WayBackEvery {
    /// From one rehearsal to the next. Default: `24h`.
    every: Option<Span>,
}

/// Never.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "the type gives the schema; values are read key by key")]
pub(super) enum Off {
    Off,
}

/// `off`, or how often.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the type gives the schema; values are read key by key")]
pub(super) enum DriftForm {
    Off(Off),
    Spec(DriftEvery),
}

/// `off`, or how often.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the type gives the schema; values are read key by key")]
pub(super) enum WayBackForm {
    Off(Off),
    Spec(WayBackEvery),
}

/// How a deploy is tried.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct Deploy {
    /// How often a failed deploy or weight change is tried before it counts as a failure. Default: 2.
    #[schemars(range(min = 1, max = 100))]
    tries: Option<u32>,
    /// How long automation rests when it failed, but not through the release (the API server, a right, a quota, a node): after
    /// the first time, the second… The last one repeats. `piton promote` tries at once. Default: `[5m, 15m, 1h, 4h]`.
    #[schemars(length(min = 1))]
    pauses: Option<Vec<Span>>,
}

/// How the way back is tried.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct Rollback {
    /// From its start until it is called stuck. Default: `5m`.
    within: Option<Span>,
    /// Default: 5.
    #[schemars(range(min = 1, max = 100))]
    tries: Option<u32>,
    /// Between two tries. Default: `5s`.
    pause: Option<Span>,
}

/// Signatures on environment branches.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the type gives the keys and the schema; values are read key by key")]
pub(super) struct Signing {
    /// A file with SSH allowed signers in the deploy repository; heads signed by nobody in it are refused.
    allowed_signers: Option<String>,
    /// The environment variable that names the private key file with which we sign.
    key: Option<String>,
}

/// One or several.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the type gives the schema; values are read key by key")]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

macro_rules! defined_by_kinds {
    ($($(#[$doc:meta])* $name:ident),*) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;

            impl JsonSchema for $name {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({ "$ref": concat!("#/$defs/", stringify!($name)) })
                }
            }
        )*
    };
}
defined_by_kinds!(
    /// A gate in place.
    AnyGate,
    /// The name of a gate, or a gate in place.
    GateUse,
    AnyTarget,
    AnyChannel
);

/// Read piece by piece, never as a whole: only their place among the keys matters.
macro_rules! never_read_whole {
    ($($name:ident),*) => {
        $(impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                Err(de::Error::custom("read piece by piece"))
            }
        })*
    };
}
never_read_whole!(AnyGate, GateUse, AnyTarget, AnyChannel, CanaryStep, Watch, DriftForm, WayBackForm);

impl<'de, T> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("read piece by piece"))
    }
}

/// The keys of a form, as serde knows them.
pub(super) fn keys_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let keys = Cell::new(&[] as &'static [&'static str]);
    // The probe answers with an error in every case; what it was asked for is what we want.
    let _ = T::deserialize(Probe(&keys));
    keys.get()
}

struct Probe<'a>(&'a Cell<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(Fault::new("not a form"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fault> {
        self.0.set(keys);
        Err(Fault::new("only its keys are asked for"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
