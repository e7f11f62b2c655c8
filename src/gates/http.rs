use std::{collections::BTreeMap, num::NonZeroU32};

use futures_util::future::BoxFuture;
use reqwest::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Entry, Gate, Scene, expand,
    expectation::{JsonRule, Statuses, TextLike, TextRule, expect_rule, once},
};
use crate::{
    clients::{
        http::{Answer, Ask, BODY_BYTES_MAX, HttpError, Secret},
        process::Redaction,
    },
    model::{Saw, Span},
    pipeline::{GateKind, Kind, checked},
};

pub const ENTRY: Entry = Entry {
    kind: GateKind {
        kind: Kind {
            name: "http",
            about: "asks an address and compares the answer with what is expected",
            help: HELP,
            example: EXAMPLE,
            check: checked::<Config>,
            schema: |generator| generator.subschema_for::<Config>(),
        },
        rule: expect_rule,
    },
    build: |config| Ok(Box::new(serde_json::from_value::<Config>(config.clone())?)),
};

const HELP: &str = "\
Sends one request and compares the answer: its status, its headers, its body and the time it took.

The expected status is data: `403` or `424` may be the right answer. Without `expect`, any 2xx is good.
In what is expected, `${version.COMPONENT}` and other facts are filled in, so that a service can be asked which version it is.
Redirects are not followed unless `follow_redirects: true`. Of the body at most `body_max` bytes (1 MiB) are read, and none when
nothing is expected of it.

No answer in time, a refused or broken connection is bad: the thing looked at is down. A name that cannot be resolved, a
missing secret or a certificate that this machine cannot check is blind: nothing is known.

Secrets come from environment variables: `token: HUB_TOKEN` sends `Authorization: Bearer …`, `secret_headers` any other.
`passes` good looks in a row pass; more than `tolerate` bad looks in one step fail.";

const EXAMPLE: &str = "\
- http:
    url: \"${url}/health\"
    expect:
      status: 200
      headers: {content-type: {contains: json}}
      body:
        json:
          - {path: $.ok, equals: true}
      max_latency: 2s
    passes: 2
    tolerate: 1
  name: front
  every: 10s
";

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HttpGate")]
struct Config {
    /// The address; `${url}` and other facts are filled in.
    url: String,
    #[serde(default)]
    method: Verb,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    /// Header names, and the environment variables that hold their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    secret_headers: BTreeMap<String, String>,
    /// The environment variable that holds a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default)]
    follow_redirects: bool,
    /// Bytes read of the body at most.
    #[serde(default = "body_max")]
    body_max: usize,
    #[serde(default)]
    expect: Expect,
    /// Good looks in a row that pass.
    #[serde(default = "once")]
    passes: NonZeroU32,
    /// Bad looks in one step that are forgiven.
    #[serde(default)]
    tolerate: u32,
}

fn body_max() -> usize {
    BODY_BYTES_MAX
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Verb {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// A status, a range such as `200-299` or `2xx`, or a list of these.
    #[serde(default)]
    status: Statuses,
    /// Header names with the exact value, or with `contains` or `regex`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, TextRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Body>,
    /// The longest that the answer may take, the body that is read included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_latency: Option<Span>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contains: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    regex: Option<super::expectation::Pattern>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    json: Vec<JsonRule>,
}

impl Gate for Config {
    fn look<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Saw> {
        Box::pin(async move {
            let asked = self.ask(scene).and_then(|ask| Ok((ask, self.expect.filled(&scene.facts)?)));
            let (ask, expect) = match asked {
                Ok(asked) => asked,
                Err(why) => return Saw::Blind(why),
            };
            match ask.send().await {
                Ok(answer) => self.judge_without_secrets(&expect, answer),
                Err(error) if error.is_ours() => Saw::Blind(error.to_string()),
                Err(error) => Saw::Bad(error.to_string()),
            }
        })
    }
}

impl Config {
    /// An answer may echo what it was asked with: our secrets are taken out of it before any of it can be quoted.
    fn judge_without_secrets(&self, expect: &Expect, mut answer: Answer) -> Saw {
        let variables: Vec<String> = self.secret_headers.values().chain(&self.token).cloned().collect();
        if variables.is_empty() {
            return judge(expect, &answer);
        }
        let redaction = Redaction::of_variables(&variables);
        let text = answer.text();
        let clean = redaction.apply(&text);
        if clean != text {
            answer.body = clean.into_bytes();
        }
        match judge(expect, &answer) {
            Saw::Good(note) => Saw::Good(redaction.apply(&note)),
            Saw::Bad(note) => Saw::Bad(redaction.apply(&note)),
            Saw::Blind(note) => Saw::Blind(redaction.apply(&note)),
            Saw::Counts(counts) => Saw::Counts(counts),
        }
    }

    fn ask(&self, scene: &Scene) -> Result<Ask, String> {
        let mut ask = Ask::new(self.method.into(), expand(&self.url, &scene.facts)?, scene.timeout);
        for (name, value) in &self.headers {
            ask = ask.header(name, &expand(value, &scene.facts)?);
        }
        let sentence = |error: HttpError| error.to_string();
        for (name, variable) in &self.secret_headers {
            ask = ask.secret_header(name, Secret::from_variable(variable).map_err(sentence)?);
        }
        if let Some(variable) = &self.token {
            let token = Secret::from_variable(variable).map_err(sentence)?;
            ask = ask.secret_header("authorization", token.after("Bearer "));
        }
        ask.body = self.body.as_ref().map(|body| expand(body, &scene.facts)).transpose()?.map(String::into_bytes);
        ask.follow_redirects = self.follow_redirects;
        ask.body_bytes_max = if self.expect.body.is_some() { self.body_max } else { 0 };
        Ok(ask)
    }
}

fn judge(expect: &Expect, answer: &Answer) -> Saw {
    let seen = format!("{} after {}", answer.status, answer.took);
    match expect.complaint(answer) {
        Some(complaint) => Saw::Bad(format!("{seen}: {complaint}")),
        None => Saw::Good(seen),
    }
}

impl Expect {
    /// The same with facts in place of `${name}`, in every text but patterns.
    fn filled(&self, facts: &BTreeMap<String, String>) -> Result<Expect, String> {
        let mut filled = self.clone();
        for rule in filled.headers.values_mut() {
            rule.fill(facts)?;
        }
        if let Some(body) = &mut filled.body {
            body.contains = body.contains.as_ref().map(|text| expand(text, facts)).transpose()?;
            for rule in &mut body.json {
                rule.fill(facts)?;
            }
        }
        Ok(filled)
    }

    fn complaint(&self, answer: &Answer) -> Option<String> {
        if !self.status.contains(answer.status) {
            return Some(format!("expected status {}", self.status));
        }
        for (name, rule) in &self.headers {
            let values: Vec<_> = answer.headers.get_all(name).iter().collect();
            if values.is_empty() {
                return Some(format!("the header `{name}` is missing"));
            }
            let complaints = values.iter().map(|value| rule.complaint(&String::from_utf8_lossy(value.as_bytes())));
            if let Some(complaint) = complaints.reduce(|a, b| a.and(b)).flatten() {
                return Some(format!("the header `{name}` {complaint}"));
            }
        }
        if let Some(complaint) = self.body.as_ref().and_then(|body| body.complaint(answer)) {
            return Some(complaint);
        }
        let max = self.max_latency.filter(|max| answer.took > *max)?;
        Some(format!("expected an answer within {max}"))
    }
}

impl Body {
    fn complaint(&self, answer: &Answer) -> Option<String> {
        let text = answer.text();
        let part = if answer.cut {
            format!("the first {} bytes of the body", answer.body.len())
        } else {
            "the body".to_owned()
        };
        let like = TextLike { equals: None, contains: self.contains.clone(), regex: self.regex.clone() };
        if let Some(complaint) = like.complaint(&text) {
            return Some(format!("{part} {complaint}"));
        }
        if self.json.is_empty() {
            return None;
        }
        match serde_json::from_slice::<Value>(&answer.body) {
            Ok(document) => self.json.iter().find_map(|rule| rule.complaint(&document)).map(|c| format!("{part} {c}")),
            Err(error) if answer.cut => Some(format!("the body is longer than {} bytes: {error}", answer.body.len())),
            Err(error) => Some(format!("the body is not JSON: {error}")),
        }
    }
}

impl From<Verb> for Method {
    fn from(verb: Verb) -> Method {
        match verb {
            Verb::Get => Method::GET,
            Verb::Head => Method::HEAD,
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Patch => Method::PATCH,
            Verb::Delete => Method::DELETE,
            Verb::Options => Method::OPTIONS,
        }
    }
}
