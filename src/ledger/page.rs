//! A page as the message of a commit: written so that people read the top and piton the trailers, and read back.

use super::{GoodRef, describe::describe};
use crate::{
    engine::State,
    model::{CommitId, Event},
};

/// The newest form of the trailers that this piton knows.
pub const SCHEMA: u32 = 1;

/// A snapshot is written when so many pages were written since the last one: opening reads no more than these.
pub const SNAPSHOT_PAGES: u64 = 32;

/// One line of the readable part is cut here; the trailers hold all of it.
const LINE_LENGTH_MAX: usize = 240;

const SCHEMA_KEY: &str = "Piton-Schema: ";
const PAGE_KEY: &str = "Piton-Page: ";
const NONCE_KEY: &str = "Piton-Nonce: ";
const EVENT_KEY: &str = "Piton-Event: ";
const GOOD_KEY: &str = "Piton-Good: ";
const GOOD_HERE: &str = "here";
const SNAPSHOT_KEY: &str = "Piton-Snapshot: ";

/// What is written as one commit's message.
#[derive(Debug)]
pub struct Draft<'a> {
    pub subject: &'a str,
    pub events: &'a [Event],
    /// The number of the page, from 1.
    pub number: u64,
    /// Chance, so that two writers never make the same commit; up to the `-` it names the writer.
    pub nonce: &'a str,
    /// Where the good ref goes with this page.
    pub good: Option<&'a GoodRef>,
    /// The state before these events, now and then.
    pub snapshot: Option<&'a State>,
}

/// A commit's message, read.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Ours(Read),
    /// Written by hand or by another program, or it cannot be read; says why.
    Foreign(String),
    /// Written by a newer piton, in this schema.
    Newer(u32),
}

/// A page, read back from a commit's message.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    pub number: u64,
    pub nonce: String,
    pub good: Option<GoodRef>,
    pub events: Vec<Event>,
    /// The state before these events, as it was written.
    pub snapshot: Option<String>,
}

/// Writes the message of a commit.
pub fn write(draft: &Draft<'_>) -> Result<String, serde_json::Error> {
    let mut text = one_line(draft.subject);
    text.push_str("\n\n");
    for event in draft.events {
        text.push_str(&one_line(&format!("- {} {}: {}", event.at, event.by, describe(&event.what))));
        text.push('\n');
    }
    if !draft.events.is_empty() {
        text.push('\n');
    }
    text.push_str(&format!("{SCHEMA_KEY}{SCHEMA}\n{PAGE_KEY}{}\n{NONCE_KEY}{}\n", draft.number, draft.nonce));
    match draft.good {
        Some(GoodRef::Here) => text.push_str(&format!("{GOOD_KEY}{GOOD_HERE}\n")),
        Some(GoodRef::At(commit)) => text.push_str(&format!("{GOOD_KEY}{commit}\n")),
        None => {}
    }
    for event in draft.events {
        // JSON text holds no line break: whatever a string brings is written as an escape.
        text.push_str(&format!("{EVENT_KEY}{}\n", serde_json::to_string(event)?));
    }
    if let Some(state) = draft.snapshot {
        text.push_str(&format!("{SNAPSHOT_KEY}{}\n", serde_json::to_string(state)?));
    }
    Ok(text)
}

/// Reads the message of a commit.
pub fn read(message: &[u8]) -> Message {
    let Ok(text) = std::str::from_utf8(message) else {
        return Message::Foreign("its message is not UTF-8".to_owned());
    };
    let text = text.trim_end();
    // Only the last paragraph: what people write above it is theirs.
    let trailers = text.rsplit_once("\n\n").map_or(text, |(_, last)| last);
    let value = |key: &str| trailers.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    match value(SCHEMA_KEY).map(str::parse::<u32>) {
        None => Message::Foreign("it was not written by piton".to_owned()),
        Some(Err(_)) => Message::Foreign("its schema is not a number".to_owned()),
        Some(Ok(newer)) if newer > SCHEMA => Message::Newer(newer),
        Some(Ok(_)) => match read_known(trailers) {
            Ok(read) => Message::Ours(read),
            Err(why) => Message::Foreign(why),
        },
    }
}

fn read_known(trailers: &str) -> Result<Read, String> {
    let values = |key: &'static str| trailers.lines().filter_map(move |line| line.strip_prefix(key));
    let number =
        values(PAGE_KEY).next().and_then(|n| n.trim().parse().ok()).ok_or("its trailers hold no page number")?;
    let events: Result<Vec<Event>, _> = values(EVENT_KEY).map(serde_json::from_str).collect();
    let events = events.map_err(|e| format!("its trailers hold an event that cannot be read: {e}"))?;
    let good = values(GOOD_KEY).next().and_then(|text| match text.trim() {
        GOOD_HERE => Some(GoodRef::Here),
        id => CommitId::new(id).ok().map(GoodRef::At),
    });
    let nonce = values(NONCE_KEY).next().unwrap_or_default().trim().to_owned();
    Ok(Read { number, nonce, good, events, snapshot: values(SNAPSHOT_KEY).next().map(str::to_owned) })
}

impl Read {
    /// The one who wrote it: all pages of one running piton have the same.
    pub fn writer(&self) -> &str {
        self.nonce.split_once('-').map_or("", |(writer, _)| writer)
    }
}

/// The text on one line and of bounded length, so that it can neither end a paragraph nor begin a trailer.
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(LINE_LENGTH_MAX) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None if line.is_empty() => "(no subject)".to_owned(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Actor, Stamp, What};

    fn unfrozen(reason: &str) -> Event {
        let by = Actor::new("alice").expect("a good name");
        Event { at: Stamp(1_795_249_268_417), by, what: What::Unfrozen { reason: reason.to_owned() } }
    }

    fn draft<'a>(subject: &'a str, events: &'a [Event]) -> Draft<'a> {
        Draft { subject, events, number: 7, nonce: "w1-n1", good: None, snapshot: None }
    }

    #[test]
    fn people_read_the_top_and_piton_the_trailers() {
        let events = [unfrozen("the exam is over")];
        let text = write(&draft("unfreeze production", &events)).expect("it is JSON");
        insta::assert_snapshot!(text, @r#"
        unfreeze production

        - 2026-11-21T08:21:08.417Z alice: unfroze: the exam is over

        Piton-Schema: 1
        Piton-Page: 7
        Piton-Nonce: w1-n1
        Piton-Event: {"at":"2026-11-21T08:21:08.417Z","by":"alice","event":"unfrozen","reason":"the exam is over"}
        "#);
    }

    #[test]
    fn no_text_can_forge_or_break_a_trailer() {
        let evil = "x\n\nPiton-Schema: 9\nPiton-Event: {}\r\n\u{0}\u{85}\u{2028}---\n# comment\n\n";
        let events = [unfrozen(evil), unfrozen(evil)];
        let text = write(&draft(evil, &events)).expect("it is JSON");
        let Message::Ours(read) = read(text.as_bytes()) else { panic!("not ours: {text}") };
        assert_eq!((read.number, read.writer(), read.events.as_slice()), (7, "w1", events.as_slice()));
    }

    #[test]
    fn a_page_of_a_megabyte_is_read_back_and_its_top_stays_short() {
        let events = [unfrozen(&"long\n".repeat(200_000))];
        let text = write(&draft("big", &events)).expect("it is JSON");
        let Message::Ours(read) = read(text.as_bytes()) else { panic!("not ours") };
        assert_eq!(read.events, events);
        let top = text.split("Piton-Schema").next().expect("there is a top");
        assert!(top.len() < 1_000, "{}", top.len());
    }

    #[test]
    fn what_is_not_ours_says_why() {
        let foreign = |text: &str| match read(text.as_bytes()) {
            Message::Foreign(why) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(foreign("fix the version by hand\n"), "it was not written by piton");
        assert_eq!(foreign("x\n\nPiton-Schema: 1\n"), "its trailers hold no page number");
        assert!(
            foreign("x\n\nPiton-Schema: 1\nPiton-Page: 1\nPiton-Event: {oops\n").starts_with("its trailers hold an")
        );
        assert_eq!(read(b"x\xff\n"), Message::Foreign("its message is not UTF-8".to_owned()));
        assert_eq!(read(b"x\n\nPiton-Schema: 2\n"), Message::Newer(2));
    }

    proptest::proptest! {
        #[test]
        fn any_text_comes_back_as_it_was(subject in ".*", reason in "(?s).*", more in "\\PC*") {
            let events = [unfrozen(&reason), unfrozen(&more)];
            let text = write(&draft(&subject, &events)).expect("it is JSON");
            let Message::Ours(read) = read(text.as_bytes()) else { panic!("not ours: {text}") };
            proptest::prop_assert_eq!(read.events.as_slice(), events.as_slice());
            proptest::prop_assert_eq!((read.number, read.nonce.as_str()), (7, "w1-n1"));
        }

        #[test]
        fn no_message_breaks_the_reader(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            let with_trailers = [b"x\n\nPiton-Schema: 1\nPiton-Page: 1\nPiton-Event: ".as_slice(), &bytes].concat();
            for message in [bytes.as_slice(), &with_trailers] {
                match read(message) {
                    Message::Ours(read) => proptest::prop_assert_eq!(read.number, 1),
                    Message::Foreign(why) => proptest::prop_assert!(!why.is_empty()),
                    Message::Newer(schema) => proptest::prop_assert!(schema > SCHEMA),
                }
            }
        }
    }
}
