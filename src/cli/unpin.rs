use super::{
    answer::{Answer, Failure},
    desk::Desk,
};
use crate::{
    commands::{self, Unpin},
    engine::State,
};

/// `piton unpin`
pub async fn run(desk: &Desk, args: &Unpin) -> Result<Answer, Failure> {
    desk.environment(&args.environment)?;
    let make = |state: &State| Ok(vec![commands::unpin(args, &desk.pipeline, state)?]);
    desk.append(&args.environment, make).await?;
    desk.voice.say(format!(
        "{} {} is not pinned any more in {}",
        desk.voice.good("✓"),
        args.component,
        args.environment
    ));
    desk.voice.say(format!("  `piton plan {}` shows what that brings", args.environment));
    Ok(Answer::done("unpinned")
        .with("environment", args.environment.as_str())
        .with("component", args.component.as_str()))
}
