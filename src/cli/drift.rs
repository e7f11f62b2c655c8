use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::{
    adopt,
    answer::{Answer, DONE, Failure, PENDING, TRY_AGAIN},
    desk::Desk,
    promote,
};
use crate::{
    commands::{self, Drift},
    engine::State,
    model::{Difference, What, shown},
    pipeline::Environment,
    runner::{self, Goal, Outcome, Seizure, Sockets},
};

/// What one look came to.
pub struct Look {
    pub state: State,
    pub found: Result<Vec<Difference>, String>,
}

/// `piton drift`
pub async fn run(desk: &Desk, args: &Drift) -> Result<Answer, Failure> {
    let Some(name) = &args.environment else { return all(desk).await };
    let environment = desk.environment(name)?;
    let Some(look) = look(desk, environment).await? else {
        return Err(unseen(environment));
    };
    let found = match &look.found {
        Ok(found) => found.clone(),
        // Deploying again needs no look.
        Err(_) if args.drop => Vec::new(),
        Err(why) => return Ok(blind(desk, environment, why)),
    };
    say(desk, environment, &look.state, &found);
    if args.drop {
        return drop_drift(desk, environment, args).await;
    }
    if found.is_empty() {
        return Ok(clean(desk, environment));
    }
    if args.adopt {
        return adopt::run(desk, environment, args, &look.state, &found).await;
    }
    if let Some(until) = args.ignore_until {
        let make = |_: &State| Ok(vec![commands::accept(args, until, &found, desk.now())?]);
        let answer = desk.decide(&environment.name, make, "accepted", "left alone; it holds nothing up").await?;
        return Ok(answer.with("differences", json!(found)));
    }
    Ok(conclude(desk, environment, &look.state, &found))
}

async fn all(desk: &Desk) -> Result<Answer, Failure> {
    let mut facts = serde_json::Map::new();
    let mut worst = DONE;
    let mut reason = "no_drift";
    for environment in &desk.pipeline.environments {
        let Some(look) = look(desk, environment).await? else { continue };
        let answer = match &look.found {
            Ok(found) if found.is_empty() => clean(desk, environment),
            Ok(found) => {
                say(desk, environment, &look.state, found);
                conclude(desk, environment, &look.state, found)
            }
            Err(why) => blind(desk, environment, why),
        };
        // Drift that is seen weighs more than a look that failed.
        if answer.code == PENDING || (worst == DONE && answer.code != DONE) {
            (worst, reason) = (answer.code, answer.reason_code);
        }
        facts.insert(environment.name.to_string(), Value::Object(answer.facts));
    }
    let decision = if worst == DONE { "complete" } else { "continue" };
    Ok(Answer::new(worst, decision, reason).with("environments", facts))
}

/// Looks, and writes down what that changes; `None` where nothing is at rest that could be looked at.
async fn look(desk: &Desk, environment: &Environment) -> Result<Option<Look>, Failure> {
    let outside = desk.outside(environment)?;
    let opened = desk.read(&environment.name).await?;
    let touched = opened.state.attempt.as_ref().is_some_and(|attempt| attempt.touched.is_some());
    let Some(live) = opened.state.live.clone().filter(|_| !touched && opened.state.rollback.is_none()) else {
        return Ok(None);
    };
    if outside.guard().drift.is_none() && !outside.target().sights().drift {
        return Ok(None);
    }
    let digests = opened.state.digests_of(&live.tree);
    let found = runner::differences(&outside, &environment.name, &desk.clock, &live, &digests).await;
    let tree = live.tree;
    let news = |state: &State| {
        let now = desk.now();
        let elsewhere = state.lease.as_ref().is_some_and(|l| l.is_live(now) && l.nonce != desk.me.nonce);
        let what = state.compared(&tree, found.clone(), now);
        (!elsewhere && !matches!(what, What::LookedForDrift { .. })).then_some(what)
    };
    let state = match news(&opened.state) {
        None => opened.state,
        // Whoever writes at the same moment looks, too: what was seen is shown all the same.
        Some(_) => match desk.append(&environment.name, |state| Ok(news(state).into_iter().collect())).await {
            Ok(opened) => opened.state,
            Err(failure) => {
                desk.voice.say(desk.voice.warn(format!("the ledger does not know of this: {}", failure.message)));
                opened.state
            }
        },
    };
    Ok(Some(Look { state, found }))
}

fn unseen(environment: &Environment) -> Failure {
    let name = &environment.name;
    let kind = &environment.target.kind;
    Failure::usage(format!("`{name}` has nothing at rest to compare, or its target `{kind}` cannot see drift"))
        .hint("`piton status` says whether something is under way; a `command` target needs a `live` command")
}

fn blind(desk: &Desk, environment: &Environment, why: &str) -> Answer {
    desk.voice.say(format!("{} {}: cannot see: {why}", desk.voice.warn("?"), environment.name));
    Answer::new(TRY_AGAIN, "continue", "blind").with("environment", environment.name.as_str()).with("message", why)
}

fn clean(desk: &Desk, environment: &Environment) -> Answer {
    desk.voice.say(format!("{} {}: live is as deployed", desk.voice.good("✓"), environment.name));
    Answer::done("no_drift").with("environment", environment.name.as_str()).with("differences", json!([]))
}

/// What holds the next deploy up, and what people have decided on already.
fn conclude(desk: &Desk, environment: &Environment, state: &State, found: &[Difference]) -> Answer {
    let open = state.unknown(found.to_vec(), desk.now()).len();
    let answer = match open {
        0 => Answer::done("known_drift"),
        _ => Answer::new(PENDING, "continue", "drifted"),
    };
    let since = state.drift.as_ref().map(|drift| drift.since);
    if open > 0 {
        let name = &environment.name;
        desk.voice.say(desk.voice.dim(format!(
            "  the next deploy waits; `piton drift {name} --adopt` commits it, `--drop` deploys over it, `--ignore-until 2h` leaves it"
        )));
    }
    answer
        .with("environment", environment.name.as_str())
        .with("differences", json!(found))
        .with("decided", found.len() - open)
        .with("since", json!(since))
}

fn say(desk: &Desk, environment: &Environment, state: &State, found: &[Difference]) {
    if found.is_empty() {
        return;
    }
    let voice = &desk.voice;
    voice.say(voice.bold(format!("{}: live is not as deployed", environment.name)));
    let mut table = Table::new();
    table.load_style(if voice.live { presets::UTF8_BORDERS_ONLY } else { presets::NOTHING });
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(u16::try_from(voice.width()).unwrap_or(120));
    table.set_header(["object", "field", "wanted", "live", "who", "when", ""]);
    for difference in found {
        let value = |value: &Option<Value>| value.as_ref().map_or("–".to_owned(), shown);
        let is_open = !state.unknown(vec![difference.clone()], desk.now()).is_empty();
        let bounded = difference.clone().bounded();
        table.add_row([
            bounded.object.clone(),
            bounded.field.clone(),
            value(&bounded.wanted),
            value(&bounded.live),
            difference.by.clone().unwrap_or_default(),
            difference.at.map_or(String::new(), |at| at.to_string()),
            if is_open { String::new() } else { "decided".to_owned() },
        ]);
    }
    voice.say(table.to_string());
}

/// Going back to what is live already: with its own deadline, its retries, and past every freeze.
async fn drop_drift(desk: &Desk, environment: &Environment, args: &Drift) -> Result<Answer, Failure> {
    let make = |state: &State| {
        let facts = commands::drop_drift(args, state)?;
        let claim = state
            .claim(&desk.me, desk.now(), true)
            .map_err(|taken| Failure::try_again("lease_taken", taken.to_string()))?;
        Ok(claim.into_iter().chain(facts).collect())
    };
    desk.append(&environment.name, make).await?;
    let goal = Goal::Ended { wait_for_people: true };
    let (outcome, state) = desk.carry_on(environment, goal, Seizure::ForTheWayBack).await?;
    let answer = promote::conclude(desk, environment, &outcome, &state);
    Ok(match (&outcome, answer.reason_code) {
        (Outcome::Ended, "rolled_back") => {
            Answer { code: DONE, decision: "complete", reason_code: "dropped", ..answer }
        }
        _ => answer,
    })
}
