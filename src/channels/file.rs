use std::path::PathBuf;

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use super::{Channel, Entry, TRY_TIME_MAX, urgency_name};
use crate::{
    model::{EnvironmentName, Notice},
    pipeline::{Kind, checked},
};

pub const ENTRY: Entry = Entry {
    kind: Kind {
        name: "file",
        about: "appends the notice to a file, a line each",
        help: HELP,
        example: EXAMPLE,
        check: checked::<Config>,
        schema: |generator| generator.subschema_for::<Config>(),
    },
    build: |config| Ok(Box::new(serde_json::from_value::<Config>(config.clone())?)),
};

const HELP: &str = "\
Appends a line to the file for each notice: time, urgency, environment, number and text, separated by tabs. Line breaks and tabs
within the text are written as spaces. The file is made when it is missing, its folder is not.

A file that cannot be written is a warning and holds nothing up.";

const EXAMPLE: &str = "\
file:
  path: /var/log/piton.log
";

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FileChannel")]
struct Config {
    path: PathBuf,
}

impl Channel for Config {
    fn tell<'a>(&'a self, environment: &'a EnvironmentName, notice: &'a Notice) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let path = self.path.display();
            // A pipe that nobody reads would hold us for ever.
            match tokio::time::timeout(TRY_TIME_MAX.as_duration(), self.append(line(environment, notice))).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(format!("cannot append to `{path}`: {error}")),
                Err(_) => Err(format!("cannot append to `{path}` within {TRY_TIME_MAX}")),
            }
        })
    }
}

impl Config {
    /// One write for the whole line, so that lines of several writers do not mix.
    async fn append(&self, line: String) -> std::io::Result<()> {
        let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(&self.path).await?;
        file.write_all(line.as_bytes()).await?;
        file.flush().await
    }
}

fn line(environment: &EnvironmentName, notice: &Notice) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = notice.text.chars().map(clean).collect();
    format!("{}\t{}\t{environment}\t#{}\t{text}\n", notice.at, urgency_name(notice.urgency), notice.id)
}
