//! A picture of what the gates of an attempt saw, over time.

use std::fmt::Write;

use super::{AttemptLine, GateLine, Look, Mark};
use crate::model::Stamp;

const WIDTH: u64 = 900;
const LEFT: u64 = 160;
const RIGHT: u64 = 24;
const TOP: u64 = 56;
const ROW: u64 = 28;
const BOTTOM: u64 = 34;
/// Looks closer together than this are drawn as one, the worst of them.
const DOT_PITCH: u64 = 5;
const NOTE_LENGTH_MAX: usize = 200;

/// Rows of gates, a mark per look, step borders, and a line where the way back began. Told apart by shape as well as by
/// colour; plain SVG without script, so that it may stand anywhere.
pub fn gates(attempt: &AttemptLine) -> String {
    let axis = Axis::of(attempt);
    let height = TOP + ROW * attempt.gates.len().max(1) as u64 + BOTTOM;
    let mut page = String::new();
    head(&mut page, attempt, height);
    steps(&mut page, attempt, &axis, height);
    for (row, gate) in attempt.gates.iter().enumerate() {
        gate_row(&mut page, gate, &axis, TOP + ROW * row as u64 + ROW / 2);
    }
    if attempt.gates.is_empty() {
        text(&mut page, LEFT, TOP + ROW / 2, "faint", "no gate has looked");
    }
    rollback(&mut page, attempt, &axis, height);
    time_axis(&mut page, attempt, &axis, height);
    page += "</svg>\n";
    page
}

/// Time from left to right.
struct Axis {
    start: Stamp,
    length: u64,
}

impl Axis {
    fn of(attempt: &AttemptLine) -> Axis {
        let end = attempt.ended.unwrap_or(attempt.seen).max(attempt.seen);
        Axis { start: attempt.started, length: end.since(attempt.started).0.max(1) }
    }

    fn x(&self, at: Stamp) -> u64 {
        let since = at.since(self.start).0.min(self.length);
        let scaled = u128::from(since) * u128::from(WIDTH - LEFT - RIGHT) / u128::from(self.length);
        LEFT + scaled as u64
    }
}

const STYLE: &str = "\
svg{background:#fff;color:#1f2328;font:12px ui-sans-serif,system-ui,sans-serif}\
text{fill:currentColor}.faint{fill:#6e7781}.strong{font-weight:600}.edge{stroke:#d0d7de}.line{stroke:#eaeef2}\
.pass{fill:#1a7f37}.fail{stroke:#cf222e;stroke-width:2.4;fill:none}.blind{stroke:#6e7781;stroke-width:1.6;fill:none}\
.undecided{fill:#bf8700}.back{stroke:#cf222e;stroke-width:1.6;stroke-dasharray:5 3}.backtext{fill:#cf222e;font-weight:600}\
@media(prefers-color-scheme:dark){svg{background:#0d1117;color:#e6edf3}.edge{stroke:#30363d}.line{stroke:#21262d}\
.pass{fill:#3fb950}.fail,.back{stroke:#f85149}.backtext{fill:#f85149}.undecided{fill:#d29922}}";

fn head(page: &mut String, attempt: &AttemptLine, height: u64) {
    let title = format!("{} {}: {}", attempt.id, attempt.what, attempt.outcome().name());
    let title = escape(&title);
    let _ = writeln!(
        page,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{title}\"><title>{title}</title><style>{STYLE}</style>"
    );
    text(page, 12, 20, "strong", &clip(&format!("{} {}: {}", attempt.id, attempt.what, attempt.outcome().name()), 110));
}

fn steps(page: &mut String, attempt: &AttemptLine, axis: &Axis, height: u64) {
    let bottom = height - BOTTOM;
    for (number, step) in attempt.steps.iter().enumerate() {
        let x = axis.x(step.from);
        let _ = writeln!(page, "<line class=\"edge\" x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\"/>", TOP - 14);
        let width = 7 * step.name.chars().count() as u64 + 10;
        // A name that would run into the next step is left out; the border stays.
        if attempt.steps.get(number + 1).is_none_or(|next| axis.x(next.from) >= x + width) {
            text(page, x + 4, TOP - 6, "faint", &clip(&step.name, 30));
        }
    }
}

fn gate_row(page: &mut String, gate: &GateLine, axis: &Axis, y: u64) {
    let _ = writeln!(page, "<line class=\"line\" x1=\"{LEFT}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\"/>", WIDTH - RIGHT);
    let mark = Mark::of(&gate.verdict);
    let _ = write!(page, "<g><title>{}: {}</title>", mark.name(), note(gate.verdict.why()));
    text(page, 12, y + 4, "", &format!("{} {}", mark.sign(), clip(gate.name.as_str(), 20)));
    page.push_str("</g>\n");
    let mut rest = gate.looks.as_slice();
    while let Some(first) = rest.first() {
        let x = axis.x(first.at);
        let near = rest.iter().take_while(|look| axis.x(look.at) < x + DOT_PITCH).count().max(1);
        let (here, later) = rest.split_at(near);
        if let Some(worst) = here.iter().max_by_key(|look| look.mark) {
            dot(page, worst, x, y);
        }
        rest = later;
    }
}

fn dot(page: &mut String, look: &Look, x: u64, y: u64) {
    let class = look.mark.name();
    let shape = match look.mark {
        Mark::Good => format!("<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"3.5\">"),
        Mark::Undecided => format!("<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"2\">"),
        Mark::Blind => format!("<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"3.5\">"),
        Mark::Bad => {
            let (l, r, t, b) = (x.saturating_sub(4), x + 4, y - 4, y + 4);
            format!("<path class=\"{class}\" d=\"M{l} {t}L{r} {b}M{l} {b}L{r} {t}\">")
        }
    };
    let close = if look.mark == Mark::Bad { "</path>" } else { "</circle>" };
    let _ = writeln!(page, "{shape}<title>{} {class}: {}</title>{close}", look.at, note(&look.note));
}

fn rollback(page: &mut String, attempt: &AttemptLine, axis: &Axis, height: u64) {
    let Some(rollback) = &attempt.rollback else { return };
    let (x, bottom) = (axis.x(rollback.began), height - BOTTOM);
    let _ = writeln!(
        page,
        "<line class=\"back\" x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\"><title>{}</title></line>",
        TOP - 26,
        note(&rollback.cause.sentence())
    );
    let label = match attempt.back_after() {
        Some(after) => format!("back in {after}"),
        None => "going back".to_owned(),
    };
    let width = 7 * label.chars().count() as u64;
    text(page, x.saturating_sub(width + 6).max(LEFT), TOP - 22, "backtext", &label);
}

fn time_axis(page: &mut String, attempt: &AttemptLine, axis: &Axis, height: u64) {
    let y = height - 12;
    text(page, LEFT, y, "faint", &attempt.started.to_string());
    let length = format!("+{}", crate::model::Span(axis.length));
    text(page, WIDTH - RIGHT - 7 * length.chars().count() as u64, y, "faint", &length);
}

fn text(page: &mut String, x: u64, y: u64, class: &str, words: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let _ = writeln!(page, "<text{class} x=\"{x}\" y=\"{y}\">{}</text>", escape(words));
}

fn note(words: &str) -> String {
    escape(&clip(words, NOTE_LENGTH_MAX))
}

fn clip(words: &str, most: usize) -> String {
    match words.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.to_owned(),
    }
}

/// For text and attributes; characters that XML does not have are replaced.
fn escape(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\n' | '\t' | '\r' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
