use clap::CommandFactory;

use super::answer::{Answer, Failure};
use crate::commands::{Cli, Completions};

/// `piton completions`
pub fn run(args: &Completions) -> Result<Answer, Failure> {
    clap_complete::generate(args.shell, &mut Cli::command(), "piton", &mut std::io::stdout());
    Ok(Answer::done("completions"))
}
