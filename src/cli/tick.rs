use serde_json::json;

use super::{
    answer::{Answer, DONE, Failure, PENDING, gravity},
    desk::Desk,
    promote::{Urgency, begin, conclude, tidied},
};
use crate::{
    commands::Tick,
    engine::State,
    model::Guard,
    pipeline::Environment,
    runner::{Goal, Outcome, Seizure, Sockets},
};

/// `piton tick`: one environment that fails must not keep the others waiting.
pub async fn run(desk: &Desk, args: &Tick) -> Result<Answer, Failure> {
    let mut chosen: Vec<&Environment> = Vec::new();
    for name in &args.environments {
        chosen.push(desk.environment(name)?);
    }
    if chosen.is_empty() {
        chosen = desk.pipeline.environments.iter().collect();
    }
    let mut results = Vec::new();
    for environment in chosen {
        let result = one(desk, environment, args.promote).await;
        if let Err(failure) = &result {
            desk.voice.say(format!("{}: {}", environment.name, desk.voice.bad(&failure.message)));
        }
        results.push((environment.name.clone(), result));
    }
    let weight = |result: &Result<Answer, Failure>| match result {
        Ok(answer) => answer.code,
        Err(failure) => failure.code,
    };
    let worst = results.iter().map(|(_, result)| weight(result)).max_by_key(|code| gravity(*code)).unwrap_or(0);
    let facts: serde_json::Map<String, serde_json::Value> = results
        .iter()
        .map(|(name, result)| {
            let (code, reason) = match result {
                Ok(answer) => (answer.code, answer.reason_code),
                Err(failure) => (failure.code, failure.reason_code),
            };
            (name.to_string(), json!({ "exit_code": code, "reason_code": reason }))
        })
        .collect();
    let decision = if worst == 0 { "complete" } else { "failure" };
    Ok(Answer::new(worst, decision, "ticked").with("environments", facts))
}

async fn one(desk: &Desk, environment: &Environment, promote: bool) -> Result<Answer, Failure> {
    let opened = desk.read(&environment.name).await?;
    let idle = !opened.state.is_busy();
    let mut not_begun = None;
    if idle && promote {
        not_begun = begin(desk, environment, None, Urgency::AfterRests).await.err();
    }
    let begins = promote && not_begun.is_none();
    if idle && !begins && is_at_rest(&opened.state) && !stands_guard(desk, environment, &opened.state)? {
        return not_begun.map_or_else(|| Ok(at_rest(desk, &opened.state)), Err);
    }
    // That nobody knows the next step is no reason to leave what stands there alone.
    let carried_on = carry_on(desk, environment, &opened.state).await;
    let Some(failure) = not_begun else { return carried_on };
    let code = carried_on.as_ref().map_or_else(|other| other.code, |answer| answer.code);
    if gravity(failure.code) >= gravity(code) {
        return Err(failure);
    }
    desk.voice.say(format!("{}: {}", environment.name, desk.voice.bad(&failure.message)));
    carried_on
}

/// Does what is due, and says what came of it.
async fn carry_on(desk: &Desk, environment: &Environment, opened: &State) -> Result<Answer, Failure> {
    let before = opened.last.clone();
    let (outcome, state) = desk.carry_on(environment, Goal::Due, Seizure::Nobody).await?;
    Ok(match (outcome, state.last != before) {
        // What ended before this tick is old news.
        (Outcome::Ended | Outcome::Waiting { .. }, false) if state.leftover.is_some() => {
            tidied(desk, &state).unwrap_or_else(|| at_rest(desk, &state))
        }
        (Outcome::Ended, false) => match &state.drift {
            Some(_) => Answer::new(PENDING, "continue", "drifted").with("drift", json!(state.drift)),
            None => at_rest(desk, &state),
        },
        // What ended in it is the news, even if an older release is watched on.
        (Outcome::Waiting { .. }, true) if !state.is_busy() => conclude(desk, environment, &Outcome::Ended, &state),
        (outcome, _) => conclude(desk, environment, &outcome, &state),
    })
}

/// Whether nothing is watched and nothing is to be taken down.
fn is_at_rest(state: &State) -> bool {
    state.watches.is_empty() && state.leftover.is_none()
}

/// That automation rests is no fault of this run.
fn at_rest(desk: &Desk, state: &State) -> Answer {
    match state.paused(desk.now()) {
        Some(_) => Answer::new(DONE, "continue", "paused"),
        None => Answer::done("nothing_to_do"),
    }
}

/// Whether there is something at rest that this environment's target can watch over.
fn stands_guard(desk: &Desk, environment: &Environment, state: &State) -> Result<bool, Failure> {
    let wanted = environment.guard != Guard::default() && state.live.is_some() && state.stuck.is_none();
    Ok(wanted && desk.outside(environment)?.guard() != Guard::default())
}
