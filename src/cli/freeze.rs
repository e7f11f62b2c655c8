use super::{
    answer::{Answer, Failure},
    desk::Desk,
};
use crate::{
    commands::{self, Freeze},
    engine::State,
};

/// `piton freeze`
pub async fn run(desk: &Desk, args: &Freeze) -> Result<Answer, Failure> {
    let by = &desk.me.actor;
    let make = |_: &State| Ok(vec![commands::freeze(args, by, desk.now())?]);
    desk.decide(&args.environment, make, "frozen", "nothing new goes in; the way back stays open").await
}
