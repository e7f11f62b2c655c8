#![doc = include_str!("README.md")]

mod abort;
mod adopt;
mod answer;
mod anyway;
mod approve;
mod check;
mod completions;
mod demo;
mod desk;
mod drift;
mod edit;
mod explain;
mod extend;
mod freeze;
mod history;
mod log_pace;
mod pin;
mod plan;
mod promote;
mod quarantine;
mod rollback;
mod serve;
mod show;
mod status;
mod tick;
mod unfreeze;
mod unpin;
mod view;
mod voice;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;
use tokio_util::sync::CancellationToken;

use answer::{Answer, Failure};
use desk::Desk;
use voice::Voice;

use crate::{
    commands::{Cli, Command, Common, Sample},
    sample, targets,
};

/// Runs one command to its end.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // These two live long, in threads of their own kind.
    match &cli.command {
        Command::Supervise(args) => return targets::process::supervise(&args.state),
        Command::Sample(args) => return serve_sample(args),
        _ => {}
    }
    log_to_stderr(if matches!(cli.command, Command::Serve(_)) { "info" } else { "warn" });
    let voice = Voice::new(cli.common.json, cli.common.color);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return voice.end(Err(Failure::world("cannot start the runtime", &error))),
    };
    let result = runtime.block_on(dispatch(cli, &voice));
    // A fetch or a push that hangs must not hold the exit up.
    runtime.shutdown_background();
    voice.end(result)
}

/// What is worth a look in the morning; `PITON_LOG=debug` tells more.
fn log_to_stderr(unless_said: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PITON_LOG").unwrap_or_else(|_| unless_said.into());
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(color)
        .with_target(false)
        .init();
}

fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe is the reader's choice.
    let _ = error.print();
    match error.use_stderr() {
        true => ExitCode::from(answer::USAGE),
        false => ExitCode::SUCCESS,
    }
}

fn serve_sample(args: &Sample) -> ExitCode {
    if args.idle {
        return sample::idle();
    }
    let file = args.file.clone().unwrap_or_default();
    sample::run(&sample::Options { host: args.host, port: args.port, file, calls: args.call.clone() })
}

async fn dispatch(cli: Cli, voice: &Voice) -> Result<Answer, Failure> {
    let Cli { common, command } = cli;
    match command {
        Command::Check(args) => check::run(&common, &args, voice),
        Command::Explain(args) => explain::run(&args, voice),
        Command::Edit(args) => edit::run(&args, common.dir.as_deref(), voice),
        Command::Completions(args) => completions::run(&args),
        Command::Demo(args) => demo::run(&common, &args, voice).await,
        Command::Serve(args) => serve::run(&common, &args, voice, stop_on_signals()).await,
        command => at_the_desk(&common, command, voice).await,
    }
}

/// The commands that need the deploy repository.
async fn at_the_desk(common: &Common, command: Command, voice: &Voice) -> Result<Answer, Failure> {
    let stop = stop_on_signals();
    let desk = Desk::open(common, voice.clone(), stop)?;
    let result = match &command {
        Command::Plan(args) => plan::run(&desk, args).await,
        Command::Promote(args) => promote::run(&desk, args).await,
        Command::Tick(args) => tick::run(&desk, args).await,
        Command::Rollback(args) => rollback::run(&desk, args).await,
        Command::Pin(args) => pin::run(&desk, args).await,
        Command::Unpin(args) => unpin::run(&desk, args).await,
        Command::Quarantine(args) => quarantine::run(&desk, args).await,
        Command::Freeze(args) => freeze::run(&desk, args).await,
        Command::Unfreeze(args) => unfreeze::run(&desk, args).await,
        Command::Approve(args) => approve::run(&desk, args).await,
        Command::Extend(args) => extend::run(&desk, args).await,
        Command::Abort(args) => abort::run(&desk, args).await,
        Command::Drift(args) => drift::run(&desk, args).await,
        Command::Status(args) => status::run(&desk, args).await,
        Command::History(args) => history::run(&desk, args).await,
        Command::Show(args) => show::run(&desk, args).await,
        Command::Check(_)
        | Command::Explain(_)
        | Command::Edit(_)
        | Command::Completions(_)
        | Command::Supervise(_)
        | Command::Sample(_)
        | Command::Serve(_)
        | Command::Demo(_) => Err(Failure::usage("this command needs no deploy repository".to_owned())),
    };
    desk.leave().await;
    result
}

/// A token that Ctrl-C and SIGTERM cancel: the runner then writes down what it has and lets the lease go.
fn stop_on_signals() -> CancellationToken {
    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        on_signal.cancel();
    });
    stop
}
