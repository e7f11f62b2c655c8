use super::{AttemptLine, Outcome, Story, fold::kept_out, row, sparkline};
use crate::engine::rests_until;

/// What GitHub takes as the summary of one step.
pub const SUMMARY_BYTES_MAX: usize = 1024 * 1024;

/// A table of the attempts and, for each, a picture of its gates in signs; never longer than [`SUMMARY_BYTES_MAX`].
pub fn summary_markdown(stories: &[Story]) -> String {
    let mut page = String::new();
    for story in stories {
        page += &format!("### {}\n\n", text(story.environment.as_str()));
        page += &attempts_table(story);
        for attempt in story.attempts.iter().rev() {
            page += &attempt_page(attempt);
        }
        page += &deeds(story);
    }
    cut(page)
}

fn attempts_table(story: &Story) -> String {
    if story.attempts.is_empty() {
        return "Nothing to do.\n\n".to_owned();
    }
    let mut page =
        "| | what | how it ended | caught by | after | users back | bad requests |\n|--|--|--|--|--|--|--|\n"
            .to_owned();
    for attempt in &story.attempts {
        let [_, id, what, ended, by, after, back, bad] = row(story, attempt);
        let sign = match attempt.outcome() {
            Outcome::UnderWay => "⏳",
            Outcome::Promoted => "✅",
            Outcome::RolledBack => "↩️",
            Outcome::Refused => "✋",
            Outcome::Stuck => "🚨",
        };
        let cells = [what, format!("{sign} {ended}"), by, after, back, bad].map(|cell| text(&cell));
        page += &format!("| {} | {} |\n", text(&id), cells.join(" | "));
    }
    page + "\n"
}

const SPARK_WIDTH: usize = 60;

fn attempt_page(attempt: &AttemptLine) -> String {
    let mut page = String::new();
    if let Some(cause) = attempt.cause() {
        page += &format!("> {} {}\n\n", text(&attempt.id.to_string()), text(&cause.headline()));
        page += &said_below(&cause.sentence());
    }
    if let Some(until) = attempt.paused_until {
        page += &format!("Not the release's doing, so it is not kept out{}.\n\n", text(&rests_until(Some(until))));
    }
    if let Some(why) = attempt.left_behind.as_deref().filter(|_| attempt.ended.is_some()) {
        page += &format!("Left behind, and tried again: {}\n\n", text(why));
    }
    if !attempt.kept_out.is_empty() {
        let names: Vec<String> = attempt.kept_out.iter().map(|what| text(&kept_out(what))).collect();
        page += &format!("Kept out from here on: {}\n\n", names.join(", "));
    }
    if attempt.gates.is_empty() {
        return page;
    }
    let open = if attempt.outcome() == Outcome::Promoted { "" } else { " open" };
    page += &format!("<details{open}><summary>Gates of {}</summary>\n\n", text(&attempt.id.to_string()));
    page += "| gate | says | looks |\n|--|--|--|\n";
    for gate in &attempt.gates {
        let said = format!("{}: {}", gate.verdict.name(), gate.verdict.why());
        let spark = sparkline(gate, SPARK_WIDTH).replace('|', "\\|");
        page += &format!("| {} | {} | {} |\n", text(gate.name.as_str()), text(&said), spark);
    }
    page += "\n`●` pass `✕` fail `○` could not look `·` undecided `|` next step\n\n</details>\n\n";
    page
}

/// What stands below a headline: indented, so that nothing in a log is read as anything but text.
fn said_below(text: &str) -> String {
    let clean = |line: &str| line.trim().replace(|c: char| c.is_control(), " ");
    let lines: String = text.lines().skip(1).map(|line| format!("    {}\n", clean(line))).collect();
    if lines.is_empty() { lines } else { lines + "\n" }
}

fn deeds(story: &Story) -> String {
    if story.deeds.is_empty() {
        return String::new();
    }
    let line = |deed: &super::Deed| format!("- {} {} {}\n", deed.at, text(deed.by.as_str()), text(&deed.text));
    story.deeds.iter().map(line).collect::<String>() + "\n"
}

const TEXT_LENGTH_MAX: usize = 400;

/// Words of others in a table cell: no markup, no HTML, no mention of a person, no second line.
fn text(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    for (n, c) in words.chars().enumerate() {
        if n == TEXT_LENGTH_MAX {
            out.push('…');
            break;
        }
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            // A character that is not seen keeps GitHub from telling the person.
            '@' => out += "@\u{200b}",
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '~' | '#' | '!' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

const CUT: &str = "\n\n_The rest did not fit; `piton history` and `piton show` have it._\n";

fn cut(mut page: String) -> String {
    if page.len() <= SUMMARY_BYTES_MAX {
        return page;
    }
    let most = page.floor_char_boundary(SUMMARY_BYTES_MAX - CUT.len());
    let line = page[..most].rfind('\n').unwrap_or(0);
    page.truncate(line);
    page + CUT
}
