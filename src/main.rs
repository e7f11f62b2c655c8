use std::process::ExitCode;

fn main() -> ExitCode {
    piton::cli::main(std::env::args_os())
}
