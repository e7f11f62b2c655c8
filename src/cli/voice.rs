use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use console::{Style, Term};

use super::answer::{Answer, Failure};
use crate::commands::Color;

/// How we speak: colours and tables for people, plain when piped, one line of JSON for scripts.
#[derive(Debug, Clone)]
pub struct Voice {
    pub json: bool,
    pub color: bool,
    /// Somebody looks on: a line may be drawn over.
    pub live: bool,
}

impl Voice {
    pub fn new(json: bool, color: Color) -> Voice {
        let terminal = std::io::stdout().is_terminal();
        let wished = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        Voice { json, color: wished && !json, live: terminal && !json && std::env::var_os("CI").is_none() }
    }

    /// A line for people. A script that listens gets its own line at the end; people read along in the job's log.
    pub fn say(&self, line: impl AsRef<str>) {
        // A closed pipe is the reader's choice.
        let _ = match self.json {
            true => writeln!(std::io::stderr(), "{}", line.as_ref()),
            false => writeln!(std::io::stdout(), "{}", line.as_ref()),
        };
    }

    pub fn style(&self, style: Style, text: impl AsRef<str>) -> String {
        style.force_styling(self.color).apply_to(text.as_ref()).to_string()
    }

    pub fn bold(&self, text: impl AsRef<str>) -> String {
        self.style(Style::new().bold(), text)
    }

    pub fn dim(&self, text: impl AsRef<str>) -> String {
        self.style(Style::new().dim(), text)
    }

    pub fn good(&self, text: impl AsRef<str>) -> String {
        self.style(Style::new().green(), text)
    }

    pub fn bad(&self, text: impl AsRef<str>) -> String {
        self.style(Style::new().red().bold(), text)
    }

    pub fn warn(&self, text: impl AsRef<str>) -> String {
        self.style(Style::new().yellow(), text)
    }

    pub fn note(&self, text: impl AsRef<str>) -> String {
        self.style(Style::new().cyan(), text)
    }

    /// How wide a line may be.
    pub fn width(&self) -> usize {
        if self.live { usize::from(Term::stdout().size().1).max(40) } else { 120 }
    }

    /// The last word of a command.
    pub fn end(&self, result: Result<Answer, Failure>) -> ExitCode {
        match result {
            Ok(answer) => {
                if self.json {
                    let _ = writeln!(std::io::stdout(), "{}", answer.line());
                }
                ExitCode::from(answer.code)
            }
            Err(failure) => {
                self.complain(&failure);
                ExitCode::from(failure.code)
            }
        }
    }

    fn complain(&self, failure: &Failure) {
        if self.json {
            let _ = writeln!(std::io::stdout(), "{}", failure.line());
        }
        let color = self.color && std::io::stderr().is_terminal();
        let style = |style: Style, text: &str| style.force_styling(color).apply_to(text.to_owned()).to_string();
        let mut err = std::io::stderr();
        let _ = match failure.rendered {
            true => writeln!(err, "{}", failure.message),
            false => writeln!(err, "{} {}", style(Style::new().red().bold(), "error:"), failure.message),
        };
        if let Some(hint) = &failure.hint {
            let _ = writeln!(err, "{} {hint}", style(Style::new().cyan(), "hint:"));
        }
    }
}
