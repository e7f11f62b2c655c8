use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf};

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Entry, Gate, Scene, expand,
    expectation::{expect_rule, once},
    facts::excerpt,
};
use crate::{
    clients::process::{Argv, Program, Ran, RanEnding},
    model::Saw,
    pipeline::{GateKind, Kind, checked},
};

pub const ENTRY: Entry = Entry {
    kind: GateKind {
        kind: Kind {
            name: "command",
            about: "runs a command and takes its exit code as the answer",
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
Runs a program with its arguments (no shell: write `[sh, -c, …]` when you want one). Exit code 0 is good, everything else is bad,
and so is a command that is not done within `timeout`: it is killed with all of its children.

A check that cannot look says so with exit code 75 (`blind_exit` names others): then nothing is known, which is neither good nor
bad. A command that cannot be started is blind too.

The environment is clean: the usual few variables such as `PATH`, what stands under `env`, the variables named under `secrets`
(taken from piton's own environment, and taken out of the output), and `PITON_ENVIRONMENT`, `PITON_RELEASE`, `PITON_SOURCE`
and `PITON_FACT_URL` and the like, one for each fact. The last line of the output becomes the note.";

const EXAMPLE: &str = "\
- command:
    run: [./smoke.py, --url, \"${url}\"]
    env: {LEVEL: quick}
    secrets: [HUB_TOKEN]
  name: smoke
  timeout: 1m
";

/// `EX_TEMPFAIL` of sysexits: the failure is not a verdict, try again.
const BLIND_EXIT: i32 = 75;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CommandGate")]
struct Config {
    /// The program and its arguments; `${url}` and other facts are filled in.
    run: Argv,
    /// The folder in which it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dir: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    /// Environment variables that are passed on, and whose values appear nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<String>,
    /// Exit codes by which the command says that it could not look.
    #[serde(default = "blind_exit")]
    blind_exit: Vec<i32>,
    /// Good looks in a row that pass.
    #[serde(default = "once")]
    passes: NonZeroU32,
    /// Bad looks in one step that are forgiven.
    #[serde(default)]
    tolerate: u32,
}

fn blind_exit() -> Vec<i32> {
    vec![BLIND_EXIT]
}

impl Gate for Config {
    fn look<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Saw> {
        Box::pin(async move {
            let program = match self.program(scene) {
                Ok(program) => program,
                Err(why) => return Saw::Blind(why),
            };
            match program.run().await {
                Ok(ran) => self.judge(program.name(), &ran),
                Err(error) => Saw::Blind(with_causes(&error)),
            }
        })
    }
}

impl Config {
    fn program(&self, scene: &Scene) -> Result<Program, String> {
        let argv = self.run.words().iter().map(|part| expand(part, &scene.facts)).collect::<Result<Vec<_>, _>>()?;
        let mut program = Program::new(argv, scene.timeout);
        program.dir = self.dir.as_ref().map(|dir| expand(dir, &scene.facts)).transpose()?.map(PathBuf::from);
        program.secrets.clone_from(&self.secrets);
        program.env = surroundings(scene);
        for (name, value) in &self.env {
            program.env.insert(name.clone(), expand(value, &scene.facts)?);
        }
        Ok(program)
    }

    fn judge(&self, program: &str, ran: &Ran) -> Saw {
        match &ran.ending {
            RanEnding::Exit(0) => Saw::Good(excerpt(last_line(ran).unwrap_or("exited with 0"))),
            RanEnding::Exit(code) if self.blind_exit.contains(code) => Saw::Blind(ran.sentence(program)),
            RanEnding::Exit(_) | RanEnding::Signal(_) | RanEnding::TimedOut(_) => Saw::Bad(ran.sentence(program)),
        }
    }
}

fn last_line(ran: &Ran) -> Option<&str> {
    ran.stdout.lines().rev().map(str::trim).find(|line| !line.is_empty())
}

/// What a command is told of the moment.
fn surroundings(scene: &Scene) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("PITON_ENVIRONMENT".to_owned(), scene.environment.to_string()),
        ("PITON_RELEASE".to_owned(), scene.candidate.tree.to_string()),
        ("PITON_SOURCE".to_owned(), scene.candidate.source.to_string()),
    ]);
    for (name, value) in &scene.facts {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        env.insert(format!("PITON_FACT_{name}"), value.clone());
    }
    env
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
