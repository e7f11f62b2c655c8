use std::path::Path;

use serde_json::json;

use super::{
    answer::{Answer, Failure},
    desk::read_pipeline,
    voice::Voice,
};
use crate::{
    commands::{Check, Common},
    pipeline,
    rack::AllKinds,
};

/// `piton check`
pub fn run(common: &Common, args: &Check, voice: &Voice) -> Result<Answer, Failure> {
    if args.schema {
        let schema = pipeline::schema(&AllKinds::known().kinds());
        if !voice.json {
            voice.say(format!("{schema:#}"));
        }
        return Ok(Answer::done("schema").with("schema", schema));
    }
    let dir = common.dir.as_deref().unwrap_or(Path::new("."));
    let (file, pipeline) = read_pipeline(dir, common.pipeline.as_deref())?;
    voice.say(format!(
        "{} {}: {} components, {} environments ({})",
        voice.good("✓"),
        file.display(),
        pipeline.components.len(),
        pipeline.environments.len(),
        pipeline.environments.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(" → ")
    ));
    let environments: Vec<&str> = pipeline.environments.iter().map(|e| e.name.as_str()).collect();
    let components: Vec<&str> = pipeline.components.keys().map(|c| c.as_str()).collect();
    Ok(Answer::done("valid")
        .with("pipeline", pipeline.name.as_str())
        .with("environments", json!(environments))
        .with("components", json!(components)))
}
