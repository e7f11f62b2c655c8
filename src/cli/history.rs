use super::{
    answer::{Answer, Failure},
    desk::Desk,
};
use crate::{commands::History, ledger::Ledger};

/// `piton history`
pub async fn run(desk: &Desk, args: &History) -> Result<Answer, Failure> {
    desk.environment(&args.environment)?;
    for entry in desk.ledger.pages(&args.environment, None, args.most).await? {
        desk.voice.say(format!("{} {} {}", entry.at, entry.commit.short(), entry.subject));
    }
    Ok(Answer::done("history"))
}
