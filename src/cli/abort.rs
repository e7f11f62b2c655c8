use super::{
    answer::{Answer, Failure},
    desk::Desk,
    promote,
};
use crate::{
    commands::{self, Abort},
    engine::State,
    runner::{Goal, Outcome, Seizure},
};

/// `piton abort`: the promotion under way is undone by whoever carries it on, and by us when nobody does.
pub async fn run(desk: &Desk, args: &Abort) -> Result<Answer, Failure> {
    let environment = desk.environment(&args.environment)?;
    let make = |state: &State| Ok(vec![commands::abort(args, state)?]);
    desk.append(&args.environment, make).await?;
    desk.voice.say(format!("{} {}: the promotion is being undone", desk.voice.good("✓"), args.environment));
    let (outcome, state) = desk.carry_on(environment, Goal::Ended { wait_for_people: false }, Seizure::Nobody).await?;
    if let Outcome::Taken(taken) = &outcome {
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
