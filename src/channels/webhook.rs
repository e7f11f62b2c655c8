use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use reqwest::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Channel, Entry, TRY_TIME_MAX, urgency_name};
use crate::{
    clients::http::{Ask, HttpError, Secret},
    model::{EnvironmentName, Notice, Urgency},
    pipeline::{Kind, checked},
};

pub const ENTRY: Entry = Entry {
    kind: Kind {
        name: "webhook",
        about: "posts the notice as JSON to an address",
        help: HELP,
        example: EXAMPLE,
        check: checked::<Config>,
        schema: |generator| generator.subschema_for::<Config>(),
    },
    build: |config| Ok(Box::new(serde_json::from_value::<Config>(config.clone())?)),
};

const HELP: &str = "\
Posts each notice to `url`. With `format: json`, the default, the body is `{\"environment\", \"urgency\", \"text\", \"at\", \"id\"}`; the id
is the same when a notice is delivered twice. With `format: slack` it is `{\"text\"}`, which Slack, Mattermost, Rocket.Chat and others take.

An address that is itself a secret, as chat hooks are, comes from an environment variable: `url_from: CHAT_HOOK`. `token` and
`secret_headers` name environment variables, too.

The other side has five seconds. Anything but a 2xx is a warning and holds nothing up.";

const EXAMPLE: &str = "\
webhook:
  url_from: CHAT_HOOK
  format: slack
";

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Form", into = "Form")]
#[schemars(with = "Form")]
struct Config(Form);

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WebhookChannel")]
struct Form {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The environment variable that holds the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url_from: Option<String>,
    #[serde(default)]
    format: Format,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    /// Header names, and the environment variables that hold their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    secret_headers: BTreeMap<String, String>,
    /// The environment variable that holds a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Json,
    Slack,
}

impl TryFrom<Form> for Config {
    type Error = &'static str;
    fn try_from(form: Form) -> Result<Config, &'static str> {
        match form.url.is_some() == form.url_from.is_some() {
            true => Err("a webhook needs either `url` or `url_from`"),
            false => Ok(Config(form)),
        }
    }
}

impl From<Config> for Form {
    fn from(config: Config) -> Form {
        config.0
    }
}

impl Channel for Config {
    fn tell<'a>(&'a self, environment: &'a EnvironmentName, notice: &'a Notice) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let ask = self.0.ask(environment, notice).map_err(|error| error.to_string())?;
            let answer = ask.send().await.map_err(|error| error.to_string())?;
            match answer.status {
                200..=299 => Ok(()),
                status => Err(format!("the webhook answered {status}")),
            }
        })
    }
}

impl Form {
    fn ask(&self, environment: &EnvironmentName, notice: &Notice) -> Result<Ask, HttpError> {
        let (url, secret) = match (&self.url, &self.url_from) {
            (Some(url), _) => (url.clone(), false),
            (None, variable) => {
                let variable = variable.as_ref().expect("one of the two is there, or the configuration is refused");
                (Secret::from_variable(variable)?.reveal().to_owned(), true)
            }
        };
        let mut ask = Ask::new(Method::POST, url, TRY_TIME_MAX).json(&self.format.body(environment, notice));
        ask.secret_url = secret;
        ask.body_bytes_max = 0;
        ask.headers.extend(self.headers.clone());
        for (name, variable) in &self.secret_headers {
            ask = ask.secret_header(name, Secret::from_variable(variable)?);
        }
        match &self.token {
            Some(variable) => Ok(ask.secret_header("authorization", Secret::from_variable(variable)?.after("Bearer "))),
            None => Ok(ask),
        }
    }
}

impl Format {
    fn body(self, environment: &EnvironmentName, notice: &Notice) -> Value {
        match self {
            Format::Json => json!({
                "environment": environment,
                "urgency": urgency_name(notice.urgency),
                "text": notice.text,
                "at": notice.at,
                "id": notice.id,
            }),
            Format::Slack => {
                let mark = match notice.urgency {
                    Urgency::Info => "",
                    Urgency::Warning => "⚠ ",
                    Urgency::Alarm => "🔴 ",
                };
                // Slack reads these three as markup.
                let text = notice.text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                json!({"text": format!("{mark}*{environment}*: {text}")})
            }
        }
    }
}
