use comfy_table::{ContentArrangement, Table, presets};

use super::{AttemptLine, Story};

/// How wide the page is on which a table is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// A pipe or a file: no borders, no wrapping, one line per row.
    Plain,
    /// A terminal with so many columns.
    Columns(u16),
}

const HEAD: [&str; 8] = ["environment", "", "what", "how it ended", "caught by", "after", "users back", "bad requests"];

/// Every attempt of the stories in a line: what, how it ended, what caught it where, after how long, how long the way back
/// took, and how many requests failed on the way.
pub fn table(stories: &[Story], width: Width) -> String {
    let mut table = Table::new();
    match width {
        Width::Plain => table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled),
        Width::Columns(columns) => table
            .load_style(presets::UTF8_FULL_CONDENSED)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(columns),
    };
    table.set_header(HEAD);
    for story in stories {
        for attempt in &story.attempts {
            table.add_row(row(story, attempt).map(|cell| one_line(&cell)));
        }
    }
    table.trim_fmt() + "\n"
}

/// The cells of an attempt, in the order of the table.
pub fn row(story: &Story, attempt: &AttemptLine) -> [String; HEAD.len()] {
    let place = attempt.place();
    let ended = match attempt.outcome() {
        super::Outcome::Promoted if attempt.left_behind.is_some() => "promoted; not all is taken down".to_owned(),
        super::Outcome::Promoted => attempt.outcome().name().to_owned(),
        super::Outcome::UnderWay if attempt.rollback.is_some() => format!("going back from {place}"),
        super::Outcome::UnderWay => format!("under way: {place}"),
        super::Outcome::RolledBack if place.is_empty() => attempt.outcome().name().to_owned(),
        super::Outcome::RolledBack => format!("rolled back from {place}"),
        super::Outcome::Refused => format!("refused at {place}"),
        super::Outcome::Stuck => format!("STUCK at {place}"),
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    [
        story.environment.to_string(),
        attempt.id.to_string(),
        attempt.what.clone(),
        ended,
        or_dash(attempt.caught_by()),
        or_dash(attempt.caught_after().map(exactly)),
        or_dash(attempt.back_after().map(exactly)),
        or_dash(attempt.bad_requests().map(|n| n.to_string())),
    ]
}

/// Below ten seconds the tenths matter.
fn exactly(span: crate::model::Span) -> String {
    match span.0 {
        0..1_000 => format!("{}ms", span.0),
        1_000..10_000 => format!("{:.1}s", span.0 as f64 / 1_000.0),
        _ => span.to_string(),
    }
}

/// Control characters would move the terminal's cursor or end the line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
