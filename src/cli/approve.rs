use super::{
    answer::{Answer, Failure},
    desk::Desk,
};
use crate::{
    commands::{self, Approve},
    engine::State,
};

/// `piton approve`
pub async fn run(desk: &Desk, args: &Approve) -> Result<Answer, Failure> {
    let by = &desk.me.actor;
    let make = |state: &State| Ok(vec![commands::approve(args, state, by)?]);
    desk.decide(&args.environment, make, "approved", &format!("approved by {by}")).await
}
