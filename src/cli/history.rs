use serde_json::{Value, json};

use super::{
    answer::{Answer, Failure},
    desk::Desk,
};
use crate::{
    commands::History,
    ledger::Ledger,
    model::EnvironmentName,
    report::{self, AttemptLine, Story, Width},
};

/// Pages that are read at the most: some years of a busy environment.
const PAGES_MAX: usize = 20_000;
/// Pages that one promotion takes, about.
const PAGES_PER_ATTEMPT: usize = 40;

/// `piton history`
pub async fn run(desk: &Desk, args: &History) -> Result<Answer, Failure> {
    desk.environment(&args.environment)?;
    let mut story = story(desk, &args.environment, args.most).await?;
    if let Some(component) = &args.component {
        story.attempts.retain(|a| a.bumps.iter().any(|bump| bump.component == *component));
    }
    let from = story.attempts.len().saturating_sub(args.most);
    story.attempts.drain(..from);
    story.attempts.reverse();
    table(desk, &[story.clone()]);
    for deed in story.deeds.iter().rev().take(args.most) {
        desk.voice.say(format!("{} {} {}", desk.voice.dim(deed.at.to_string()), deed.by, deed.text));
    }
    Ok(Answer::done("history").with("environment", args.environment.as_str()).with("attempts", facts(&story)))
}

/// The story of an environment, long enough for so many promotions.
pub async fn story(desk: &Desk, environment: &EnvironmentName, attempts: usize) -> Result<Story, Failure> {
    let pages = attempts.saturating_add(1).saturating_mul(PAGES_PER_ATTEMPT).min(PAGES_MAX);
    // What the origin has is what counts; without it the mirror speaks.
    desk.read(environment).await?;
    let mut entries = desk.ledger.pages(environment, None, pages).await?;
    entries.reverse();
    Ok(report::story(environment.clone(), entries.iter().flat_map(|entry| &entry.events)))
}

pub fn table(desk: &Desk, stories: &[Story]) {
    let width = match desk.voice.live {
        true => Width::Columns(u16::try_from(desk.voice.width()).unwrap_or(u16::MAX)),
        false => Width::Plain,
    };
    desk.voice.say(report::table(stories, width).trim_end());
}

/// The story for scripts.
pub fn facts(story: &Story) -> Value {
    let one = |attempt: &AttemptLine| {
        json!({
            "attempt": attempt.id,
            "what": attempt.what,
            "by": attempt.by,
            "started": attempt.started,
            "ended": attempt.ended,
            "outcome": attempt.outcome().name(),
            "caught_by": attempt.caught_by(),
            "caught_at": attempt.place(),
            "caught_after": attempt.caught_after(),
            "users_back_after": attempt.back_after(),
            "bad_requests": attempt.bad_requests(),
            "cause": attempt.cause().map(|cause| cause.sentence()),
            "paused_until": attempt.paused_until,
            "left_behind": attempt.left_behind,
        })
    };
    story.attempts.iter().map(one).collect()
}
