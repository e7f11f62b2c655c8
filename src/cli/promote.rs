use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    answer::{Answer, Failure, REFUSED, ROLLED_BACK, STUCK, TRY_AGAIN},
    desk::Desk,
    plan::say_plan,
};
use crate::{
    commands::{self, Promote},
    engine::{Pause, State, Wait},
    ledger::Opened,
    model::{AttemptId, Cause, Ending, What},
    pipeline::Environment,
    planner::Planned,
    rack,
    runner::{Goal, Outcome, Seizure},
};

/// `piton promote`
pub async fn run(desk: &Desk, args: &Promote) -> Result<Answer, Failure> {
    let environment = desk.environment(&args.environment)?;
    let goal = match (args.no_wait, args.watch) {
        (true, _) => Goal::Due,
        (false, true) => Goal::Watched,
        (false, false) => Goal::Ended { wait_for_people: args.wait },
    };
    let mut done: Option<Answer> = None;
    loop {
        let begun = match begin(desk, environment, args.to.as_deref(), urgency(args)).await? {
            Begun::Ours(opened) => Some(*opened),
            Begun::UnderWay => None,
            Begun::UpToDate => match done {
                Some(done) => return Ok(done),
                None => return tidy_up(desk, environment).await,
            },
            Begun::Paused(pause) => return Ok(paused(environment, &pause)),
        };
        let waived = waive(desk, environment, args).await?;
        let (outcome, state) = desk.carry_on_from(waived.or(begun), environment, goal, Seizure::Nobody).await?;
        let answer = conclude(desk, environment, &outcome, &state);
        if answer.code != super::answer::DONE || !args.all || answer.reason_code != "promoted" {
            return Ok(answer);
        }
        done = Some(answer);
    }
}

/// Writes down that a person takes the step without a proven way back.
async fn waive(desk: &Desk, environment: &Environment, args: &Promote) -> Result<Option<Opened>, Failure> {
    let Some(reason) = &args.without_way_back else { return Ok(None) };
    let reason = commands::reason(reason)?;
    let make = |state: &State| {
        let attempt = state.attempt.as_ref().filter(|a| a.promoted.is_none());
        Ok(attempt.map(|a| What::WayBackWaived { attempt: a.id, reason: reason.clone() }).into_iter().collect())
    };
    desk.append(&environment.name, make).await.map(Some)
}

/// Whether somebody wants the step at once, also while automation rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    AtOnce,
    AfterRests,
}

/// A job that is told to try again does so at once, and as often as it may: only people are taken to know better.
fn urgency(args: &Promote) -> Urgency {
    let is_automation = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    if args.now || !is_automation { Urgency::AtOnce } else { Urgency::AfterRests }
}

/// What there is to carry on.
pub enum Begun {
    /// Our step, and what the environment has come to with its first page.
    Ours(Box<Opened>),
    /// What was under way, or what somebody faster has begun.
    UnderWay,
    UpToDate,
    /// There is a next step, and automation rests.
    Paused(Pause),
}

/// Begins the next step where nothing is under way.
pub async fn begin(
    desk: &Desk,
    environment: &Environment,
    to: Option<&str>,
    urgency: Urgency,
) -> Result<Begun, Failure> {
    let (opened, upto) = desk.read_both(&environment.name, to).await?;
    if let Some(why) = rack::unsound(&opened.state, &environment.name) {
        return Err(why.into());
    }
    if opened.state.is_busy() {
        desk.voice.say(desk.voice.dim("something is under way already: carrying it on"));
        return Ok(Begun::UnderWay);
    }
    let planned = desk.plan(environment, &opened.state, &upto?).await?;
    let plan = match planned {
        Planned::UpToDate { held } => {
            desk.voice.say(format!("{} {} is up to date", desk.voice.good("✓"), environment.name));
            super::plan::say_held(&desk.voice, &held);
            return Ok(Begun::UpToDate);
        }
        Planned::Next(plan) => Arc::new(*plan),
    };
    if let Some(pause) = opened.state.paused(desk.now()) {
        say_paused(desk, environment, pause);
        if urgency == Urgency::AfterRests {
            return Ok(Begun::Paused(pause.clone()));
        }
    }
    say_plan(desk, &plan, false);
    let begun = rack::begin(&desk.ledger, &environment.name, &opened, plan, desk.me.actor.clone(), desk.now()).await?;
    Ok(match begun {
        rack::Begun::Yes(opened) => Begun::Ours(opened),
        rack::Begun::BySomeoneElse => Begun::UnderWay,
    })
}

/// Why automation rests, and until when.
pub fn say_paused(desk: &Desk, environment: &Environment, pause: &Pause) {
    let (since, until, why) = (pause.since, pause.until, pause.cause.headline());
    let said = format!("{}: automation rests since {since} until {until}: {why} ({})", environment.name, Pause::WHO);
    desk.voice.say(desk.voice.warn(said));
}

fn paused(environment: &Environment, pause: &Pause) -> Answer {
    Answer::new(TRY_AGAIN, "continue", "paused")
        .with("environment", environment.name.as_str())
        .with("cause", pause.cause.sentence())
        .with("paused_until", json!(pause.until))
}

fn up_to_date(environment: &Environment) -> Answer {
    Answer::done("up_to_date").with("environment", environment.name.as_str())
}

/// There is nothing to promote: what an earlier promotion left behind is tried again.
async fn tidy_up(desk: &Desk, environment: &Environment) -> Result<Answer, Failure> {
    if desk.read(&environment.name).await?.state.leftover.is_none() {
        return Ok(up_to_date(environment));
    }
    let (_, state) = desk.carry_on(environment, Goal::Due, Seizure::Nobody).await?;
    Ok(tidied(desk, &state).unwrap_or_else(|| up_to_date(environment)))
}

/// What is still to be taken down, and that it is tried again; nothing where all is tidy.
pub fn tidied(desk: &Desk, state: &State) -> Option<Answer> {
    let leftover = state.leftover.as_ref()?;
    desk.voice.say(format!("{} {}; it is tried again", desk.voice.warn("!"), leftover.sentence()));
    Some(Answer::new(TRY_AGAIN, "continue", "left_behind").with("left_behind", json!(leftover)))
}

/// Words and exit code for how it came out.
pub fn conclude(desk: &Desk, environment: &Environment, outcome: &Outcome, state: &State) -> Answer {
    let name = environment.name.as_str();
    let answer = match outcome {
        Outcome::Ended => ended(desk, state),
        Outcome::Waiting { waits, .. } => Answer::new(0, "continue", "waiting").with("waits", waits_json(waits)),
        Outcome::Held { waits } => {
            for wait in waits {
                desk.voice.say(format!("{} waiting for {} ({})", desk.voice.warn("…"), wait.on, wait.who));
            }
            // Nobody has to allow anything where only the tidying up is missing.
            let answer = match &state.leftover {
                Some(_) => Answer::new(TRY_AGAIN, "continue", "left_behind").with("left_behind", json!(state.leftover)),
                None => Answer::new(REFUSED, "stop", "held"),
            };
            answer.with("waits", waits_json(waits))
        }
        Outcome::Taken(taken) => {
            desk.voice.say(desk.voice.warn(taken.to_string()));
            Answer::new(TRY_AGAIN, "continue", "lease_taken").with("message", taken.to_string())
        }
        Outcome::Stopped => {
            desk.voice.say(desk.voice.warn("stopped; the next `piton promote` or `piton tick` carries it on"));
            Answer::new(TRY_AGAIN, "continue", "stopped")
        }
    };
    let answer = answer.with("environment", name);
    let good = state.good.as_ref().map(|g| g.commit.as_str());
    let attempt = state.last.as_ref().map_or(AttemptId(0), |l| l.attempt);
    answer.with("good", json!(good)).with("attempt", attempt.0)
}

fn ended(desk: &Desk, state: &State) -> Answer {
    let live = state.live.as_ref();
    let versions: Value = json!(live.map(|l| &l.versions));
    // How it ended stands; that something is left to do is no secret.
    let untidy = tidied(desk, state);
    let answer = match state.last.as_ref().map(|last| &last.ending) {
        None => Answer::done("nothing_to_do"),
        Some(Ending::Promoted) => untidy.unwrap_or_else(|| Answer::done("promoted")),
        // Nothing failed that speaks against the release: the same may be tried again, later.
        Some(Ending::RolledBack { cause, .. }) if !cause.blames_the_change() => {
            let until = state.paused(desk.now()).map(|pause| pause.until);
            Answer::new(TRY_AGAIN, "continue", "paused")
                .with("cause", cause.sentence())
                .with("paused_until", json!(until))
        }
        Some(Ending::RolledBack { cause, touched: true }) => {
            Answer::new(ROLLED_BACK, "failure", "rolled_back").with("cause", cause.sentence())
        }
        Some(Ending::RolledBack { cause, touched: false }) => {
            Answer::new(REFUSED, "stop", "refused").with("cause", cause.sentence())
        }
        Some(Ending::Stuck { at, advice, .. }) => {
            desk.voice.say(format!("{} {at}: {advice}", desk.voice.bad("stuck")));
            let why = state.stuck.as_ref().and_then(|stuck| stuck.cause.as_ref()).map(Cause::sentence);
            if let Some(why) = &why {
                desk.voice.say(format!("  it was to go back because of this: {why}"));
            }
            let answer =
                Answer::new(STUCK, "failure", "stuck").with("cause", at.clone()).with("advice", advice.clone());
            answer.with("because", json!(why))
        }
    };
    answer.with("versions", versions)
}

fn waits_json(waits: &[Wait]) -> Value {
    let one = |w: &Wait| json!({ "on": w.on, "since": w.since, "until": w.until, "who": w.who });
    waits.iter().map(one).collect()
}
