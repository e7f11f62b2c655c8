use super::{
    answer::{Answer, Failure},
    desk::Desk,
    promote::{self, Begun, Urgency},
};
use crate::{
    commands::{self, Pin},
    engine::State,
    runner::{Goal, Seizure},
};

/// `piton pin`: written down, and brought live at once where something else is.
pub async fn run(desk: &Desk, args: &Pin) -> Result<Answer, Failure> {
    let environment = desk.environment(&args.environment)?;
    let by = &desk.me.actor;
    let make = |_: &State| Ok(vec![commands::pin(args, &desk.pipeline, by, desk.now())?]);
    let state = desk.append(&args.environment, make).await?.state;
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
    let begun = match promote::begin(desk, environment, None, Urgency::AtOnce).await? {
        Begun::Ours(opened) => Some(*opened),
        Begun::UnderWay => None,
        Begun::UpToDate | Begun::Paused(_) => return Ok(answer),
    };
    let goal = Goal::Ended { wait_for_people: false };
    let (outcome, state) = desk.carry_on_from(begun, environment, goal, Seizure::Nobody).await?;
    Ok(promote::conclude(desk, environment, &outcome, &state))
}
