use super::{
    answer::{Answer, Failure},
    desk::Desk,
};
use crate::{
    commands::{self, Unfreeze},
    engine::State,
};

/// `piton unfreeze`
pub async fn run(desk: &Desk, args: &Unfreeze) -> Result<Answer, Failure> {
    let make = |state: &State| Ok(vec![commands::unfreeze(args, state)?]);
    desk.decide(&args.environment, make, "unfrozen", "the freeze is over").await
}
