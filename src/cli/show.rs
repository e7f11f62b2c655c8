use super::{
    answer::{Answer, Failure},
    desk::Desk,
};
use crate::commands::Show;

/// `piton show`
pub async fn run(desk: &Desk, args: &Show) -> Result<Answer, Failure> {
    desk.environment(&args.environment)?;
    Ok(Answer::done("show"))
}
