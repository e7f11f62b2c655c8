use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use piton::{sample, targets};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["supervise", "--state", state_dir] => targets::process::supervise(Path::new(state_dir)),
        ["sample", "--idle"] => sample::idle(),
        ["sample", rest @ ..] => match sample_options(rest) {
            Some(options) => sample::run(&options),
            None => usage("usage: piton sample --port PORT --file FILE [--call URL]..."),
        },
        _ => usage("usage: piton supervise --state FOLDER"),
    }
}

fn usage(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(2)
}

fn sample_options(arguments: &[&str]) -> Option<sample::Options> {
    let mut options = sample::Options::default();
    for pair in arguments.chunks(2) {
        match pair {
            ["--port", port] => options.port = port.parse().ok()?,
            ["--file", file] => options.file = PathBuf::from(file),
            ["--call", url] => options.calls.push((*url).to_owned()),
            _ => return None,
        }
    }
    Some(options)
}
