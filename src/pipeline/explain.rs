use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;

use super::{
    Kind, Kinds, forms,
    words::{list, nearest},
};

/// Why there is nothing to explain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    #[error("there is no topic `{topic}`{}; topics: {known}", meant(.near))]
    Topic { topic: String, near: Option<String>, known: String },
    #[error("there is no kind of {topic} `{kind}`{}; kinds: {known}", meant(.near))]
    Kind { topic: String, kind: String, near: Option<String>, known: String },
    #[error("`{topic}` has no kinds; leave `{kind}` out")]
    NoKinds { topic: String, kind: String },
}

fn meant(near: &Option<String>) -> String {
    near.as_ref().map_or(String::new(), |near| format!(", did you mean `{near}`?"))
}

/// Something a person may ask about.
struct Topic {
    name: &'static str,
    about: &'static str,
    help: &'static str,
    /// A piece of a pipeline file from its first column; `{target}`, `{gate}` and `{channel}` stand for an example of
    /// the first kind of each.
    example: &'static str,
    /// What its keys are and mean.
    keys: Option<fn(&mut SchemaGenerator) -> schemars::Schema>,
    kinds: Option<fn(&Kinds<'_>) -> Vec<Kind>>,
}

const TOPICS: &[Topic] = &[
    Topic {
        name: "pipeline",
        about: "the file as a whole",
        help: "A pipeline file says which values of the deploy repository move (`components`), through which \
               environments, and what must hold on the way. One file is one pipeline; `piton check` refuses what does \
               not make sense, and says where.",
        example: "name: demo\ncomponents:\n  web: { file: versions.yaml, path: web.version }\nenvironments:\n  staging:\n    \
                  target:\n      {target}\n    bake: 5m\n  production:\n    after: staging\n    target:\n      {target}\n    \
                  gates:\n      during:\n        - {gate}\n    watch: 6h\n",
        keys: Some(forms::File::json_schema),
        kinds: None,
    },
    Topic {
        name: "component",
        about: "a value at a place in the deploy repository",
        help: "A component is a value that moves on its own: mostly a version, but also a quota, a switch or a start \
               command. It stands in a file, at a path (YAML, JSON, TOML, env and requirements files) or where the \
               first group of a regular expression matches. One that is `within` another usually comes along with it, \
               such as an image inside a chart; a pin writes it down.",
        example: "components:\n  web:\n    file: versions.yaml\n    path: web.version\n    order: semver\n    \
                  restarts: the front page, about 2 s\n  \
                  chart: { file: deploy/Chart.yaml, path: \"dependencies[name=binderhub].version\" }\n  \
                  helm: { file: .github/workflows/cd.yml, pattern: 'HELM_VERSION: \"?([^\"\\s]+)\"?' }\n  \
                  builder: { file: deploy/values.yaml, path: binderhub.config.build_image, part: tag }\n  \
                  hub: { file: deploy/values.yaml, path: binderhub.jupyterhub.hub.image.tag, within: chart }\n",
        keys: Some(forms::Component::json_schema),
        kinds: None,
    },
    Topic {
        name: "bundle",
        about: "components that only ever move together",
        help: "Piton takes one component at a time. Components of one bundle move in one step, forward and back.",
        example: "components:\n  hub: { file: versions.yaml, path: hub }\n  proxy: { file: versions.yaml, path: proxy }\n\
                  bundles: [[hub, proxy]]\n",
        keys: None,
        kinds: None,
    },
    Topic {
        name: "environment",
        about: "where a release runs, and what it must pass there",
        help: "Environments form a graph: what stands under `after` must have proven a release first. Each has a \
               target, gates, and times; what they share stands once under `defaults`.",
        example: "environments:\n  production:\n    target:\n      {target}\n    gates:\n      during:\n        - {gate}\n    \
                  bake: 10m\n    watch: 6h\n    deadline: 2h\n    rollback: { within: 5m, tries: 5, pause: 5s }\n    \
                  quarantine: 14d\n    notify:\n      - {channel}\n",
        keys: Some(forms::Environment::json_schema),
        kinds: None,
    },
    Topic {
        name: "defaults",
        about: "what every environment has unless it says otherwise",
        help: "The same keys as an environment. A key that an environment has is taken from there as a whole.",
        example: "defaults:\n  bake: 15m\n  deadline: 3h\n  gates:\n    during:\n      - {gate}\n",
        keys: None,
        kinds: None,
    },
    Topic {
        name: "gate",
        about: "something that must hold",
        help: "A gate looks at the world and is judged by what it sees. Only positive evidence is a pass; a gate that \
               could not look is blind, which holds a promotion and never passes it. Gates look `before` anything is \
               touched, `during` canary steps and bake, and `after` all users are on the release. One that several \
               environments use stands once under `gates`, by name.",
        example: "defaults:\n  gates:\n    during:\n      - {gate}\n",
        keys: Some(forms::GateCommon::json_schema),
        kinds: Some(|kinds| kinds.gates.iter().map(|g| g.kind).collect()),
    },
    Topic {
        name: "target",
        about: "how a release becomes live",
        help: "An environment has one target. It brings a release up beside what is live, moves users to it, and moves \
               them back.",
        example: "environments:\n  staging:\n    target:\n      {target}\n",
        keys: None,
        kinds: Some(|kinds| kinds.targets.iter().map(|t| t.kind).collect()),
    },
    Topic {
        name: "channel",
        about: "where people are told what happens",
        help: "Channels stand under `notify` of an environment. One that fails holds nothing up.",
        example: "defaults:\n  notify:\n    - {channel}\n",
        keys: None,
        kinds: Some(|kinds| kinds.channels.to_vec()),
    },
    Topic {
        name: "canary",
        about: "who gets a release first",
        help: "Either growing shares of the users under `canary`, where the target can split its traffic, or members \
               of the target (clusters, hubs) under `waves`. Each step is held while the gates of `during` look.",
        example: "defaults:\n  gates:\n    during:\n      - {gate}\n  hold: 30s\n\
                  # under an environment:  canary: [10%, { share: 50%, hold: 10m }, 100%]\n\
                  #                   or:  waves: [{ members: [small], hold: 1h }, { members: [large] }]\n",
        keys: Some(forms::ShareStep::json_schema),
        kinds: None,
    },
    Topic {
        name: "invariant",
        about: "what must hold of every release, said of values in its files",
        help: "An invariant stands under `invariants` of an environment, by name. One with `last` is about `waves`: \
               exactly these members are the last one. The others are about numbers at a place in a file, held against \
               bounds: `all` of them, their `sum`, `min` or `max`; `[*]` in a path is every entry or item there, and \
               `true` counts as 1. A release that breaks one is refused when its plan is made, with the file, the \
               place and the value. A step that would break one only because its commit is taken one component at a \
               time takes the whole commit. Going back to what is known good asks no invariant.",
        example: "defaults:\n  invariants:\n    somebody-serves:\n      file: config/prod.yaml\n      \
                  path: federationRedirect.hosts[*].weight\n      all: { at_least: 0 }\n      \
                  sum: { above: 0 }\n    prime-serves:\n      file: config/prod.yaml\n      \
                  path: federationRedirect.hosts.gesis.weight\n      all: { above: 0 }\n    \
                  # with waves:  prime-last: { last: [gesis] }\n",
        keys: Some(forms::Invariant::json_schema),
        kinds: None,
    },
    Topic {
        name: "signing",
        about: "signatures on environment branches",
        help: "With `allowed_signers`, piton acts on an environment only while the head of its branch is signed by one \
               of them. With `key`, it signs what it writes, with the private key file that this environment variable \
               names.",
        example: "signing:\n  allowed_signers: .piton/allowed_signers\n  key: PITON_SIGNING_KEY\n",
        keys: Some(forms::Signing::json_schema),
        kinds: None,
    },
    Topic {
        name: "units",
        about: "how durations, shares, times and secrets are written",
        help: "Durations are a number and a unit: `250ms`, `90s`, `10m`, `1h30m`, `14d`. Shares are percentages with at \
               most two decimals: `0.5%`, `10%`. Times are `2026-01-31T09:30:00Z`. Versions are text, exactly as \
               written: `1.20` stays `1.20`. Only `true` and `false` are booleans. A secret never stands in the file: \
               its key holds the name of an environment variable, in capitals.",
        example: "defaults: { bake: 1h30m, deadline: 4h, quarantine: forever }\n",
        keys: None,
        kinds: None,
    },
];

/// What a topic or one of its kinds is for, its keys, and an example; without a topic, the list of them.
pub fn explain(kinds: &Kinds<'_>, topic: Option<&str>, kind: Option<&str>) -> Result<String, ExplainError> {
    let Some(asked) = topic else { return Ok(overview()) };
    let singular = |t: &&Topic| t.name == asked || asked.strip_suffix('s') == Some(t.name);
    let topic = TOPICS.iter().find(singular).ok_or_else(|| unknown_topic(asked))?;
    match kind {
        None => Ok(topic_page(topic, kinds)),
        Some(asked) => kind_page(topic, asked, kinds),
    }
}

fn overview() -> String {
    let row = |t: &Topic| (format!("piton explain {}", t.name), t.about.to_owned());
    format!("Topics:\n{}", table(TOPICS.iter().map(row)))
}

fn unknown_topic(asked: &str) -> ExplainError {
    let names: Vec<&str> = TOPICS.iter().map(|t| t.name).collect();
    let near = nearest(asked, names.iter().copied()).map(str::to_owned);
    ExplainError::Topic { topic: asked.to_owned(), near, known: list(&names) }
}

fn topic_page(topic: &Topic, kinds: &Kinds<'_>) -> String {
    let mut page = format!("{}: {}\n\n{}\n", topic.name, topic.about, wrapped(topic.help));
    if let Some(kinds_of) = topic.kinds {
        let row = |k: Kind| (format!("piton explain {} {}", topic.name, k.name), k.about.to_owned());
        page += &format!("\nKinds:\n{}", table(kinds_of(kinds).into_iter().map(row)));
    }
    if let Some(keys) = topic.keys {
        page += &format!("\nKeys:\n{}", keys_table(keys));
    }
    page + &format!("\nExample:\n{}", indented(&Fillings::first(kinds).fill(topic.example), "  "))
}

fn kind_page(topic: &Topic, asked: &str, kinds: &Kinds<'_>) -> Result<String, ExplainError> {
    let Some(kinds_of) = topic.kinds else {
        return Err(ExplainError::NoKinds { topic: topic.name.to_owned(), kind: asked.to_owned() });
    };
    let all = kinds_of(kinds);
    let Some(kind) = all.iter().find(|k| k.name == asked) else {
        let names: Vec<&str> = all.iter().map(|k| k.name).collect();
        let near = nearest(asked, names.iter().copied()).map(str::to_owned);
        let (topic, kind) = (topic.name.to_owned(), asked.to_owned());
        return Err(ExplainError::Kind { topic, kind, near, known: list(&names) });
    };
    let mut page = format!("{} {}: {}\n\n{}\n", topic.name, kind.name, kind.about, kind.help.trim_end());
    let keys = keys_table(kind.schema);
    if !keys.is_empty() {
        page += &format!("\nKeys:\n{keys}");
    }
    if let Some(common) = topic.keys {
        page += &format!("\nKeys beside `{}`:\n{}", kind.name, keys_table(common));
    }
    Ok(page + &format!("\nExample:\n{}", indented(kind.example, "  ")))
}

/// Examples of one kind of each, to be filled into the example of a topic.
struct Fillings<'a>([(&'static str, &'a str); 3]);

impl<'a> Fillings<'a> {
    /// The first kind of each.
    fn first(kinds: &Kinds<'a>) -> Fillings<'a> {
        Fillings([
            ("{target}", kinds.targets.first().map_or("{}", |t| t.kind.example)),
            ("{gate}", kinds.gates.first().map_or("{}", |g| g.kind.example)),
            ("{channel}", kinds.channels.first().map_or("{}", |c| c.example)),
        ])
    }

    fn with(mut self, topic: &str, example: &'a str) -> Fillings<'a> {
        for (hole, text) in &mut self.0 {
            if hole.trim_matches(['{', '}']) == topic {
                *text = example;
            }
        }
        self
    }

    /// The text with every hole filled, in the column in which it stands.
    fn fill(&self, text: &str) -> String {
        let mut page = String::new();
        for line in text.lines() {
            let hole = self.0.iter().find_map(|(hole, example)| Some((line.find(hole)?, example)));
            match hole {
                // An example that is an item of a list brings its own dash.
                Some((at, example)) => {
                    let at = if example.starts_with("- ") { at.saturating_sub(2) } else { at };
                    page += &line[..at];
                    page += indented(example.trim_end(), &" ".repeat(at)).trim_start();
                }
                None => page += &format!("{line}\n"),
            }
        }
        page
    }
}

/// Keys and what they mean, from the documentation in the schema.
fn keys_table(schema: fn(&mut SchemaGenerator) -> schemars::Schema) -> String {
    let mut generator =
        SchemaSettings::draft2020_12().for_deserialize().with(|s| s.inline_subschemas = true).into_generator();
    let schema = schema(&mut generator);
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema.get("properties").and_then(Value::as_object);
    let row = |(key, schema): (&String, &Value)| {
        let about = described(schema).unwrap_or_default().replace('\n', " ");
        let need = if required.contains(&key.as_str()) { "(required) " } else { "" };
        (key.clone(), format!("{need}{about}"))
    };
    table(properties.into_iter().flatten().map(row))
}

/// The description of a schema, or of the one it may be besides null.
fn described(schema: &Value) -> Option<String> {
    let own = schema.get("description").and_then(Value::as_str).map(str::to_owned);
    let either = || schema.get("anyOf").and_then(Value::as_array)?.iter().find_map(described);
    own.or_else(either)
}

fn table(rows: impl Iterator<Item = (String, String)>) -> String {
    let rows: Vec<(String, String)> = rows.collect();
    let width = rows.iter().map(|(word, _)| word.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(word, about)| format!("  {word:width$}  {about}").trim_end().to_owned() + "\n").collect()
}

fn indented(text: &str, by: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{by}{line}\n") }).collect()
}

/// Text in lines of at most 100 characters.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 100;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.join("\n")
}

/// A whole pipeline file around the example of every topic and every kind, each with its name: what `explain` shows can
/// be parsed.
pub fn examples(kinds: &Kinds<'_>) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for topic in TOPICS {
        files.push((topic.name.to_owned(), Fillings::first(kinds).fill(&completed(topic.example))));
        for kind in topic.kinds.map_or(Vec::new(), |kinds_of| kinds_of(kinds)) {
            let fillings = Fillings::first(kinds).with(topic.name, kind.example);
            files.push((format!("{} {}", topic.name, kind.name), fillings.fill(&completed(topic.example))));
        }
    }
    files
}

/// The example with the parts that every pipeline must have.
fn completed(example: &str) -> String {
    let parts = [
        ("components:", "components:\n  web: { file: versions.yaml, path: web }\n"),
        ("environments:", "environments:\n  only:\n    target:\n      {target}\n"),
    ];
    let missing = parts.iter().filter(|(key, _)| !example.lines().any(|line| line.starts_with(key)));
    missing.fold(example.to_owned(), |text, (_, part)| text + part)
}
