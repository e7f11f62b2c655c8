use clap::Parser;

use super::*;

fn parse(words: &str) -> Result<Cli, String> {
    let words = words.split(' ').map(|w| w.replace('_', " "));
    Cli::try_parse_from(std::iter::once("piton".to_owned()).chain(words)).map_err(|e| e.to_string())
}

#[test]
fn the_grammar_is_sound() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[test]
fn pins_ask_for_reason_and_end() {
    assert!(parse("pin hub=0.9.0 --in production --until 2h --reason kernels_die").is_ok());
    assert!(parse("pin hub=0.9.0 --in production --forever --reason kernels_die").is_ok());
    for bad in [
        "pin hub=0.9.0 --in production --until 2h",
        "pin hub=0.9.0 --in production --reason x",
        "pin hub --in production --until 2h --reason x",
        "pin ../x=1 --in production --until 2h --reason x",
        "pin hub=0.9.0 --until 2h --reason x",
        "pin hub=0.9.0 --in production --until soon --reason x",
        "pin hub=0.9.0 --in production --until 2h --forever --reason x",
    ] {
        assert!(parse(bad).is_err(), "{bad} was accepted");
    }
}

#[test]
fn rollbacks_know_good_commits_and_times() {
    for (text, to) in [
        ("good", To::Good),
        ("25abea764121", To::Commit("25abea764121".to_owned())),
        ("2h", To::Ago(Span::hours(2))),
        ("1970-01-01T00:00:01Z", To::Time(Stamp(1_000))),
    ] {
        assert_eq!(text.parse::<To>(), Ok(to));
    }
    assert!("yesterday".parse::<To>().is_err());
}

#[test]
fn a_reason_is_one_line_and_not_empty() {
    assert_eq!(reason("a\n b"), Ok("a b".to_owned()));
    assert_eq!(reason("\u{1b}[31mred\u{7}"), Ok("[31mred".to_owned()));
    assert!(reason(" \n").is_err());
}

use crate::model::{Span, Stamp};
