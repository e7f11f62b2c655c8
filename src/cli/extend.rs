use super::{
    answer::{Answer, Failure},
    desk::Desk,
};
use crate::{
    commands::{self, Extend},
    engine::State,
};

/// `piton extend`
pub async fn run(desk: &Desk, args: &Extend) -> Result<Answer, Failure> {
    let make = |state: &State| Ok(vec![commands::extend(args, state, desk.now())?]);
    desk.decide(&args.environment, make, "extended", &format!("{} more to investigate", args.by)).await
}
