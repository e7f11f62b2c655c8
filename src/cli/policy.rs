//! The commands that write one decision of a person into the ledger.

use super::{
    answer::{Answer, Failure},
    desk::Desk,
    promote,
};
use crate::{
    commands::{self, Abort, Approve, Extend, Freeze, Pin, QuarantineArgs, Unfreeze, Unpin},
    engine::State,
    model::{EnvironmentName, What},
    runner::{Goal, Seizure},
};

/// `piton pin`: written down, and brought live at once where something else is.
pub async fn pin(desk: &Desk, args: &Pin) -> Result<Answer, Failure> {
    let environment = desk.environment(&args.environment)?;
    let by = &desk.me.actor;
    let make = |_: &State| Ok(vec![commands::pin(args, &desk.pipeline, by, desk.now())?]);
    let (state, _) = desk.append(&args.environment, make).await?;
    let (component, version) = (&args.what.component, &args.what.version);
    let end =
        state.pins.get(component).and_then(|pin| pin.until).map_or("for ever".to_owned(), |u| format!("until {u}"));
    desk.voice.say(format!(
        "{} {component} is pinned to {version} in {} {end}",
        desk.voice.good("✓"),
        args.environment
    ));
    let live = state.live.as_ref().and_then(|l| l.versions.get(component));
    let answer =
        Answer::done("pinned").with("environment", args.environment.as_str()).with("component", component.as_str());
    if state.live.is_none() || live == Some(version) || args.no_deploy {
        return Ok(answer);
    }
    if !promote::begin(desk, environment, None).await? {
        return Ok(answer);
    }
    let (outcome, state) = desk.carry_on(environment, Goal::Ended { wait_for_people: false }, Seizure::Nobody).await?;
    Ok(promote::conclude(desk, environment, &outcome, &state))
}

/// `piton unpin`
pub async fn unpin(desk: &Desk, args: &Unpin) -> Result<Answer, Failure> {
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

/// `piton quarantine`
pub async fn quarantine(desk: &Desk, args: &QuarantineArgs) -> Result<Answer, Failure> {
    let by = &desk.me.actor;
    let make = |state: &State| {
        Ok(vec![match args.end {
            true => commands::unquarantine(args, state)?,
            false => commands::quarantine(args, &desk.pipeline, by, desk.now())?,
        }])
    };
    let (reason_code, said) = match args.end {
        true => ("unquarantined", "may come in again"),
        false => ("quarantined", "is kept out"),
    };
    one(desk, &args.environment, make, reason_code, &format!("{} {said}", args.what)).await
}

/// `piton freeze`
pub async fn freeze(desk: &Desk, args: &Freeze) -> Result<Answer, Failure> {
    let by = &desk.me.actor;
    let make = |_: &State| Ok(vec![commands::freeze(args, by, desk.now())?]);
    one(desk, &args.environment, make, "frozen", "nothing new goes in; the way back stays open").await
}

/// `piton unfreeze`
pub async fn unfreeze(desk: &Desk, args: &Unfreeze) -> Result<Answer, Failure> {
    let make = |state: &State| Ok(vec![commands::unfreeze(args, state)?]);
    one(desk, &args.environment, make, "unfrozen", "the freeze is over").await
}

/// `piton approve`
pub async fn approve(desk: &Desk, args: &Approve) -> Result<Answer, Failure> {
    let by = &desk.me.actor;
    let make = |state: &State| Ok(vec![commands::approve(args, state, by)?]);
    one(desk, &args.environment, make, "approved", &format!("approved by {by}")).await
}

/// `piton extend`
pub async fn extend(desk: &Desk, args: &Extend) -> Result<Answer, Failure> {
    let make = |state: &State| Ok(vec![commands::extend(args, state, desk.now())?]);
    one(desk, &args.environment, make, "extended", &format!("{} more to investigate", args.by)).await
}

/// `piton abort`: the promotion under way is undone by whoever carries it on, and by us when nobody does.
pub async fn abort(desk: &Desk, args: &Abort) -> Result<Answer, Failure> {
    let environment = desk.environment(&args.environment)?;
    let make = |state: &State| Ok(vec![commands::abort(args, state)?]);
    desk.append(&args.environment, make).await?;
    desk.voice.say(format!("{} {}: the promotion is being undone", desk.voice.good("✓"), args.environment));
    let (outcome, state) = desk.carry_on(environment, Goal::Ended { wait_for_people: false }, Seizure::Nobody).await?;
    if let crate::runner::Outcome::Taken(taken) = &outcome {
        desk.voice.say(format!("  {} sees to it", taken.0.holder));
        return Ok(Answer::done("abort_asked").with("environment", args.environment.as_str()));
    }
    let answer = promote::conclude(desk, environment, &outcome, &state);
    // That it went back is what was asked for here.
    Ok(match answer.reason_code {
        "rolled_back" | "refused" => {
            Answer { code: super::answer::DONE, decision: "complete", reason_code: "aborted", ..answer }
        }
        _ => answer,
    })
}

async fn one(
    desk: &Desk,
    environment: &EnvironmentName,
    make: impl FnMut(&State) -> Result<Vec<What>, Failure>,
    reason_code: &'static str,
    said: &str,
) -> Result<Answer, Failure> {
    desk.environment(environment)?;
    desk.append(environment, make).await?;
    desk.voice.say(format!("{} {environment}: {said}", desk.voice.good("✓")));
    Ok(Answer::done(reason_code).with("environment", environment.as_str()))
}
