use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Channel, Entry, TRY_TIME_MAX, urgency_name};
use crate::{
    clients::process::{Argv, Program},
    model::{EnvironmentName, Notice},
    pipeline::{Kind, checked},
};

pub const ENTRY: Entry = Entry {
    kind: Kind {
        name: "command",
        about: "runs a command that passes the notice on",
        help: HELP,
        example: EXAMPLE,
        check: checked::<Config>,
        schema: |generator| generator.subschema_for::<Config>(),
    },
    build: |config| Ok(Box::new(serde_json::from_value::<Config>(config.clone())?)),
};

const HELP: &str = "\
Runs a program with its arguments (no shell) and gives it the notice's text on standard input. The variables
`PITON_ENVIRONMENT`, `PITON_URGENCY` (info, warning or alarm), `PITON_NOTICE` (its number) and `PITON_AT` are set; otherwise the
environment is clean, with what stands under `env` and the variables named under `secrets`.

It has five seconds. A command that fails is a warning and holds nothing up.";

const EXAMPLE: &str = "\
command:
  run: [./notify.py, --room, platform]
  secrets: [CHAT_TOKEN]
";

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CommandChannel")]
struct Config {
    /// The program and its arguments.
    run: Argv,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    /// Environment variables that are passed on, and whose values appear nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<String>,
}

impl Channel for Config {
    fn tell<'a>(&'a self, environment: &'a EnvironmentName, notice: &'a Notice) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let mut program = Program::new(self.run.words().to_vec(), TRY_TIME_MAX);
            program.secrets.clone_from(&self.secrets);
            program.env.clone_from(&self.env);
            for (name, value) in [
                ("PITON_ENVIRONMENT", environment.to_string()),
                ("PITON_URGENCY", urgency_name(notice.urgency).to_owned()),
                ("PITON_NOTICE", notice.id.to_string()),
                ("PITON_AT", notice.at.to_string()),
            ] {
                program.env.insert(name.to_owned(), value);
            }
            program.input = format!("{}\n", notice.text).into_bytes();
            let ran = program.run().await.map_err(|error| error.to_string())?;
            if ran.succeeded() { Ok(()) } else { Err(ran.sentence(program.name())) }
        })
    }
}
