use super::{
    answer::{Answer, Failure},
    desk::Desk,
};
use crate::{
    commands::{self, QuarantineArgs},
    engine::State,
};

/// `piton quarantine`
pub async fn run(desk: &Desk, args: &QuarantineArgs) -> Result<Answer, Failure> {
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
    desk.decide(&args.environment, make, reason_code, &format!("{} {said}", args.what)).await
}
