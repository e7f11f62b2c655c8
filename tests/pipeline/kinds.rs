//! Stand-ins for the kinds that the sockets bring, so that these tests see the reader alone.

use std::collections::BTreeMap;

use piton::{
    model::Rule,
    pipeline::{GateKind, Kind, Kinds, Splits, TargetKind, checked},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// The address.
    pub url: String,
    #[serde(default)]
    pub expect: Expect,
}

#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    pub status: Option<u16>,
    pub body: Option<Body>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Body {
    pub contains: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    #[serde(default)]
    pub people: u32,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    pub hub: String,
    pub token: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    pub days: String,
    pub from: String,
    pub until: String,
    pub zone: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub sticky: bool,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    pub apply: Vec<String>,
    #[serde(default)]
    pub members: Vec<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    pub url: String,
    pub token: Option<String>,
}

macro_rules! kind {
    ($type:ty, $name:literal, $about:literal, $example:literal) => {
        Kind {
            name: $name,
            about: $about,
            help: $about,
            example: $example,
            check: checked::<$type>,
            schema: |generator| generator.subschema_for::<$type>(),
        }
    };
}

const EXPECT: fn(&serde_json::Value) -> Rule = |_| Rule::Expect { passes: 1, tolerate: 0 };

pub const ALL: Kinds<'static> = Kinds {
    gates: &[
        GateKind {
            kind: kind!(Http, "http", "asks a web address", "http:\n  url: \"${url}/\"\n  expect: { status: 200 }\n"),
            rule: EXPECT,
        },
        GateKind {
            kind: kind!(Approval, "approval", "asks people", "approval: { people: 1 }"),
            rule: |_| Rule::Approval { people: 1, not_author: true },
        },
        GateKind {
            kind: kind!(Kernel, "kernel", "runs code in a kernel", "kernel: { hub: \"${url}\" }"),
            rule: EXPECT,
        },
        GateKind {
            kind: kind!(
                Window,
                "window",
                "office hours",
                "window: { days: mon-thu, from: \"08:00\", until: \"16:00\", zone: Europe/Zurich }"
            ),
            rule: EXPECT,
        },
    ],
    targets: &[
        TargetKind {
            kind: kind!(Process, "process", "runs processes", "process: { command: [sleep, \"1\"] }"),
            splits: |_| Splits { by_share: true, ..Splits::default() },
        },
        TargetKind {
            kind: kind!(Command, "command", "runs your own commands", "command: { apply: [./deploy.py] }"),
            splits: |with| {
                let with: Command = serde_json::from_value(with.clone()).expect("it was checked");
                Splits { members: with.members, ..Splits::default() }
            },
        },
    ],
    channels: &[kind!(Webhook, "webhook", "posts JSON", "webhook: { url: \"https://chat.example/hook\" }")],
};
