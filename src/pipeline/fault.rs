use std::{fmt, ops::Range};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

/// What is wrong with a pipeline file, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The bytes of the file that are at fault; `None` when it is the file as a whole.
    pub span: Option<Range<usize>>,
    pub why: String,
    /// A few words under the offending text.
    pub label: Option<String>,
    pub help: Option<String>,
    /// Other places that matter, with a few words on why.
    pub also: Vec<(Range<usize>, String)>,
    /// The text at the span must not be printed.
    pub(super) secret: bool,
}

impl Fault {
    /// A fault without a place yet; whoever knows the place adds it with [`Fault::or_at`].
    pub fn new(why: impl Into<String>) -> Fault {
        let why = why.into();
        Fault { span: None, why, label: None, help: None, also: Vec::new(), secret: false }
    }

    /// Adds the remedy.
    pub fn help(mut self, help: impl Into<String>) -> Fault {
        self.help = Some(help.into());
        self
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Fault {
        self.label = Some(label.into());
        self
    }

    pub(super) fn at(mut self, span: Range<usize>) -> Fault {
        self.span = Some(span);
        self
    }

    /// The place, unless a more exact one is known.
    pub(super) fn or_at(mut self, span: Range<usize>) -> Fault {
        self.span.get_or_insert(span);
        self
    }

    pub(super) fn also(mut self, span: Range<usize>, label: impl Into<String>) -> Fault {
        self.also.push((span, label.into()));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

/// Why a pipeline file is refused: the faults found, in the order of the file, at most [`FAULTS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub file: String,
    /// The text the spans point into, with secrets blanked out.
    text: String,
    pub faults: Vec<Fault>,
    /// Further faults, which are only counted.
    pub more: usize,
}

/// Where a fault stands, for people and for CI annotations; lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<'a> {
    pub line: usize,
    pub column: usize,
    pub fault: &'a Fault,
}

/// More than this helps nobody.
pub const FAULTS_MAX: usize = 30;

impl Refusal {
    pub(super) fn new(file: &str, text: &str, mut faults: Vec<Fault>) -> Refusal {
        faults.sort_by_key(|f| f.span.as_ref().map_or(0, |s| s.start));
        faults.dedup();
        let mut bytes = text.as_bytes().to_vec();
        for span in faults.iter().filter(|f| f.secret).filter_map(|f| f.span.clone()) {
            blank(&mut bytes, span);
        }
        let text = String::from_utf8(bytes).expect("whole characters were replaced by ASCII");
        let more = faults.len().saturating_sub(FAULTS_MAX);
        faults.truncate(FAULTS_MAX);
        Refusal { file: file.to_owned(), text, faults, more }
    }

    /// The faults with their lines and columns.
    pub fn located(&self) -> Vec<Located<'_>> {
        let place = |fault: &Fault| fault.span.as_ref().map_or((1, 1), |s| line_and_column(&self.text, s.start));
        let located = |fault| {
            let (line, column) = place(fault);
            Located { line, column, fault }
        };
        self.faults.iter().map(located).collect()
    }

    /// The faults for scripts: file, line, column and message of each.
    pub fn to_json(&self) -> Value {
        let one = |place: &Located<'_>| json!({ "file": self.file, "line": place.line, "column": place.column, "message": place.fault.to_string() });
        self.located().iter().map(one).collect()
    }

    /// The refusal as a person sees it: file, line, column, the offending text underlined, the reason, the remedy.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut pages: Vec<String> = self.faults.iter().map(|fault| self.render_fault(&renderer, fault)).collect();
        if self.more > 0 {
            pages.push(format!("error: and {} more faults", self.more));
        }
        pages.join("\n\n") + "\n"
    }

    fn render_fault(&self, renderer: &Renderer, fault: &Fault) -> String {
        let title = Level::ERROR.primary_title(fault.why.as_str());
        let mut group = match &fault.span {
            Some(span) => {
                let main = AnnotationKind::Primary.span(self.within(span)).label(fault.label.as_deref());
                let also = |(span, label): &'_ (Range<usize>, String)| {
                    AnnotationKind::Context.span(self.within(span)).label(label.clone())
                };
                let snippet = Snippet::source(self.text.as_str()).path(self.file.as_str()).annotation(main);
                title.element(snippet.annotations(fault.also.iter().map(also)))
            }
            None => title.element(annotate_snippets::Origin::path(self.file.as_str())),
        };
        if let Some(help) = &fault.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let report: &[Group] = &[group];
        renderer.render(report)
    }

    /// The span cut to the text, on character borders, and to its first line: what is below is seen anyway.
    fn within(&self, span: &Range<usize>) -> Range<usize> {
        let border = |at: usize| self.text.floor_char_boundary(at.min(self.text.len()));
        let (start, end) = (border(span.start), border(span.end.max(span.start)));
        let line_end = self.text[start..end].find(['\n', '\r']).map_or(end, |n| start + n);
        start..line_end
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Refusal {}

fn blank(bytes: &mut [u8], span: Range<usize>) {
    if let Some(bytes) = bytes.get_mut(span) {
        bytes.iter_mut().filter(|b| !b.is_ascii_whitespace()).for_each(|b| *b = b'*');
    }
}

fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at.min(text.len()))];
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
