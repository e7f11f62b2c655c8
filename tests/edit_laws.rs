//! What holds for every edit, on documents and bytes that nobody thought of.

use std::path::PathBuf;

use piton::{
    edit::{self, At, Part, Place},
    model::Version,
};
use proptest::{collection::vec, prelude::*, sample::Index};

fn place(file: &str, path: &str) -> Place {
    let path = path.parse().unwrap_or_else(|error| panic!("{error}"));
    Place { file: file.to_owned(), at: At::Path(path), part: Part::Whole }
}

fn version(text: &str) -> Version {
    Version::new(text).expect("a good version")
}

#[derive(Debug, Clone)]
enum Doc {
    Scalar(Scalar),
    Map { entries: Vec<(Key, Doc)>, flow: bool },
    List { items: Vec<Doc>, flow: bool },
}

#[derive(Debug, Clone, PartialEq)]
enum Scalar {
    Word(String),
    Number(String),
    Switch(&'static str),
    Nothing,
    Single(String),
    Double(String),
    Block(String),
}

#[derive(Debug, Clone, Copy)]
enum Key {
    Plain,
    Quoted,
}

fn scalar() -> impl Strategy<Value = Scalar> {
    let word = prop_oneof!["[a-z][a-z0-9.-]{0,8}[g-m]", "v[0-9]\\.[0-9]{1,2}\\.[0-9]", "[0-9]\\.[0-9]{1,2}\\.[0-9]"];
    prop_oneof![
        4 => word.prop_map(Scalar::Word),
        2 => "[1-9][0-9]{0,4}".prop_map(Scalar::Number),
        1 => "[0-9]\\.[0-9]?[1-9]".prop_map(Scalar::Number),
        1 => prop_oneof![Just("true"), Just("false")].prop_map(Scalar::Switch),
        1 => Just(Scalar::Nothing),
        2 => odd_text().prop_map(Scalar::Single),
        2 => odd_text().prop_map(Scalar::Double),
        1 => "[a-z0-9:#}-]{1,9}x".prop_map(Scalar::Block),
    ]
}

/// Any text on one line, and those that readers of YAML disagree on.
fn odd_text() -> impl Strategy<Value = String> {
    let known = [
        "1.10",
        "no",
        "12e3456",
        "0755",
        "1:30",
        "~",
        "null",
        "<<",
        "=",
        "2024-01-02",
        "a: b",
        "a #b",
        "- x",
        "*a",
        "&a",
        "!a",
        "{a",
        "[a",
        "a]",
        "a}",
        "a,b",
        "it's",
        "\"q\"",
        "\\",
        "%x",
        "@x",
        "`x`",
        "|",
        ">",
        "---",
        "...",
        "?",
        "? a",
        ":",
        "a:",
        "1_000",
        "0x1f",
        ".5",
        "1.",
        "+1",
        "-1",
        "\u{feff}x",
        "a\u{2028}b",
        "\u{1f600}",
        "true",
        "Off",
        "y",
        "1.0.0-0.dev.git.3983.h383374de",
        "r:5000/a:1.2@sha256:ab",
    ];
    prop_oneof![
        2 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,12}[a-z]",
        1 => "[-0-9a-f.:_+]{1,9}",
    ]
    .prop_filter("templates are refused", |text| !text.contains("{{") && !text.contains("{%"))
}

fn doc() -> impl Strategy<Value = Doc> {
    let key = || prop_oneof![4 => Just(Key::Plain), 1 => Just(Key::Quoted)];
    let leaf = scalar().prop_map(Doc::Scalar);
    let node = leaf.prop_recursive(4, 40, 5, move |inner| {
        let entries = vec((key(), inner.clone()), 1..5);
        prop_oneof![
            3 => (entries, any::<bool>()).prop_map(|(entries, flow)| Doc::Map { entries, flow }),
            1 => (vec(inner, 1..4), any::<bool>()).prop_map(|(items, flow)| Doc::List { items, flow }),
        ]
    });
    vec((key(), node), 1..5).prop_map(|entries| Doc::Map { entries, flow: false })
}

/// A document as text, with the path of every scalar.
struct Written {
    text: String,
    scalars: Vec<(String, Scalar)>,
    step: usize,
    comments: bool,
}

impl Written {
    fn block(&mut self, doc: &Doc, indent: usize, path: &str) {
        match doc {
            Doc::Map { entries, flow: false } => {
                for (number, (key, value)) in entries.iter().enumerate() {
                    self.comment_line(indent);
                    let (token, step) = key_token(*key, number, path.is_empty());
                    self.text.push_str(&format!("{}{token}:", " ".repeat(indent)));
                    self.value(value, indent, &format!("{path}{step}"));
                }
            }
            Doc::List { items, flow: false } => {
                for (number, item) in items.iter().enumerate() {
                    self.comment_line(indent);
                    self.text.push_str(&format!("{}-", " ".repeat(indent)));
                    self.value(item, indent, &format!("{path}[{number}]"));
                }
            }
            Doc::Map { .. } | Doc::List { .. } | Doc::Scalar(_) => unreachable!("only block collections come here"),
        }
    }

    fn value(&mut self, doc: &Doc, indent: usize, path: &str) {
        match doc {
            Doc::Map { flow: false, .. } | Doc::List { flow: false, .. } => {
                self.end_line();
                self.block(doc, indent + self.step, path);
            }
            Doc::Scalar(Scalar::Nothing) => {
                if !path.ends_with(']') || path.ends_with("\"]") {
                    self.scalars.push((path.to_owned(), Scalar::Nothing));
                }
                self.end_line();
            }
            Doc::Scalar(Scalar::Block(text)) => {
                self.scalars.push((path.to_owned(), Scalar::Block(text.clone())));
                self.text.push_str(&format!(" |-\n{}{text}\n", " ".repeat(indent + self.step)));
            }
            Doc::Scalar(_) | Doc::Map { .. } | Doc::List { .. } => {
                self.text.push(' ');
                self.flow(doc, path);
                self.end_line();
            }
        }
    }

    fn flow(&mut self, doc: &Doc, path: &str) {
        match doc {
            Doc::Scalar(scalar) => {
                let scalar = match scalar {
                    Scalar::Block(text) => Scalar::Double(text.clone()),
                    Scalar::Nothing => Scalar::Switch("true"),
                    other => other.clone(),
                };
                self.text.push_str(&token(&scalar));
                self.scalars.push((path.to_owned(), scalar));
            }
            Doc::Map { entries, .. } => {
                self.text.push('{');
                for (number, (key, value)) in entries.iter().enumerate() {
                    let (token, step) = key_token(*key, number, path.is_empty());
                    self.text.push_str(&format!("{}{token}: ", if number > 0 { ", " } else { "" }));
                    self.flow(value, &format!("{path}{step}"));
                }
                self.text.push('}');
            }
            Doc::List { items, .. } => {
                self.text.push('[');
                for (number, item) in items.iter().enumerate() {
                    self.text.push_str(if number > 0 { " , " } else { "" });
                    self.flow(item, &format!("{path}[{number}]"));
                }
                self.text.push(']');
            }
        }
    }

    fn comment_line(&mut self, indent: usize) {
        if self.comments {
            self.text.push_str(&format!("{}# k0: 1.2.3 {{x\n", " ".repeat(indent)));
        }
    }

    fn end_line(&mut self) {
        self.text.push_str(if self.comments { "  # v: 1 'x\n" } else { "\n" });
    }
}

fn key_token(key: Key, number: usize, first: bool) -> (String, String) {
    match key {
        Key::Plain => (format!("k{number}"), format!("{}k{number}", if first { "" } else { "." })),
        Key::Quoted => (format!("\"a.b/{number}\""), format!("[\"a.b/{number}\"]")),
    }
}

fn token(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Word(text) | Scalar::Number(text) => text.clone(),
        Scalar::Switch(text) => (*text).to_owned(),
        Scalar::Single(text) => {
            let odd = |c: char| matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}');
            format!("'{}'", text.replace('\'', "''").replace(odd, ""))
        }
        Scalar::Double(text) => {
            let plain = text.replace('\\', "\\\\").replace('"', "\\\"");
            plain.chars().map(escaped).collect::<String>().replacen("", "\"", 1) + "\""
        }
        Scalar::Nothing | Scalar::Block(_) => unreachable!("written elsewhere"),
    }
}

fn escaped(c: char) -> String {
    match c {
        '\u{feff}' | '\u{2028}' | '\u{2029}' => format!("\\u{:04x}", c as u32),
        c => c.to_string(),
    }
}

#[derive(Debug, Clone, Copy)]
struct Look {
    step: usize,
    comments: bool,
    crlf: bool,
    mark: bool,
    last_line_end: bool,
}

fn look() -> impl Strategy<Value = Look> {
    (prop_oneof![Just(2usize), Just(4), Just(3)], any::<[bool; 4]>())
        .prop_map(|(step, [comments, crlf, mark, last_line_end])| Look { step, comments, crlf, mark, last_line_end })
}

fn written(doc: &Doc, look: Look) -> (String, Vec<(String, Scalar)>) {
    let mut out = Written { text: String::new(), scalars: Vec::new(), step: look.step, comments: look.comments };
    out.block(doc, 0, "");
    let mut text = out.text;
    if !look.last_line_end {
        text.truncate(text.len() - 1);
    }
    if look.crlf {
        text = text.replace('\n', "\r\n");
    }
    if look.mark {
        text.insert(0, '\u{feff}');
    }
    (text, out.scalars)
}

/// Another reader's view of the text.
fn seen(text: &str) -> serde_yaml::Value {
    serde_yaml::from_str(text.trim_start_matches('\u{feff}')).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// The value at a path, as a place to write to.
fn at<'v>(value: &'v mut serde_yaml::Value, path: &str) -> &'v mut serde_yaml::Value {
    let path = path.replace("[\"", "\u{1}").replace("\"]", "").replace('[', "\u{2}").replace(']', "");
    let mut current = value;
    for step in path.replace(".k", "\u{1}k").split_inclusive(['\u{1}', '\u{2}']).scan('\u{1}', |mark, piece| {
        let step = (*mark, piece.trim_end_matches(['\u{1}', '\u{2}']).to_owned());
        *mark = piece.chars().last().unwrap_or(*mark);
        Some(step)
    }) {
        current = match step {
            (_, key) if key.is_empty() => current,
            ('\u{2}', number) => &mut current[number.parse::<usize>().expect("a number")],
            (_, key) => &mut current[key.as_str()],
        };
    }
    current
}

fn quotes(text: &str) -> usize {
    text.matches('"').count()
}

fn lines_that_differ(a: &str, b: &str) -> usize {
    assert_eq!(a.split('\n').count(), b.split('\n').count(), "the number of lines changed");
    a.split('\n').zip(b.split('\n')).filter(|(a, b)| a != b).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_value_of_any_document_changes(doc in doc(), look in look(), which in any::<Index>(), to in odd_text()) {
        let (text, scalars) = written(&doc, look);
        prop_assume!(!scalars.is_empty());
        let (path, scalar) = which.get(&scalars);
        let place = place("f.yaml", path);
        let old = edit::read(text.as_bytes(), &place).expect("it is read");
        let out = edit::write(text.as_bytes(), &place, old.as_ref(), &version(&to));
        if let (Err(error), Scalar::Block(_)) = (&out, scalar) {
            // A block scalar takes no text that starts with a blank, or that no escape can hold.
            let reason = error.to_string();
            prop_assert!(reason.contains("blank") || to.contains(['\u{feff}', '\u{2028}', '\u{2029}']), "{}", reason);
            return Ok(());
        }
        let out = String::from_utf8(out.map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?).expect("text");

        prop_assert_eq!(edit::read(out.as_bytes(), &place), Ok(Some(version(&to))));
        prop_assert!(lines_that_differ(&text, &out) <= 1);

        let (mut before, mut after) = (seen(&text), seen(&out));
        let (old_value, new_value) = (at(&mut before, path).clone(), at(&mut after, path).clone());
        match &new_value {
            serde_yaml::Value::String(value) => prop_assert_eq!(value.trim_end_matches('\n'), &to),
            serde_yaml::Value::Number(_) => prop_assert!(old_value.is_number(), "{:?} became {:?}", old_value, new_value),
            // Where nothing stood, a switch is written as a switch.
            serde_yaml::Value::Bool(_) => {
                prop_assert!(old_value.is_bool() || old_value.is_null(), "{:?} became {:?}", old_value, new_value);
            }
            other => prop_assert!(false, "{:?} became {:?}", old_value, other),
        }
        *at(&mut before, path) = serde_yaml::Value::Null;
        *at(&mut after, path) = serde_yaml::Value::Null;
        prop_assert_eq!(before, after);

        let kept = match scalar {
            Scalar::Single(_) => !to.contains(['\u{feff}', '\u{2028}', '\u{2029}']),
            Scalar::Double(_) | Scalar::Block(_) => true,
            Scalar::Word(_) => quotes(&out) == quotes(&text) + quotes(&to),
            Scalar::Number(_) => new_value.is_number(),
            Scalar::Switch(_) => new_value.is_bool(),
            Scalar::Nothing => false,
        };
        if let (true, Some(old)) = (kept, old) {
            let back = edit::write(out.as_bytes(), &place, None, &old).expect("back again");
            prop_assert_eq!(String::from_utf8(back).expect("text"), text);
        }
    }

    #[test]
    fn one_value_of_any_json_changes(numbers in vec(0u32..2000, 1..6), texts in vec("\\PC{1,12}", 1..6), to in "\\PC{1,12}", pretty in any::<bool>(), which in any::<Index>()) {
        prop_assume!(!to.contains("{{") && !to.contains("{%") && !texts.iter().any(|text| text.contains("{{") || text.contains("{%")));
        let value = serde_json::json!({"n": numbers, "a.b": {"t": texts, "tag": to}, "x": [{"name": "é", "v": true}]});
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.expect("JSON");
        let index = which.index(texts.len());
        let place = place("f.json", &format!("[\"a.b\"].t[{index}]"));
        let out = edit::write(text.as_bytes(), &place, None, &version(&to)).expect("it is changed");
        let mut wanted = value.clone();
        wanted["a.b"]["t"][index] = serde_json::Value::String(to);
        prop_assert_eq!(&serde_json::from_slice::<serde_json::Value>(&out).expect("JSON"), &wanted);
        let back = edit::write(&out, &place, None, &version(&texts[index])).expect("back again");
        prop_assert_eq!(back, text.into_bytes());
    }

    #[test]
    fn an_entry_goes_in_and_out(doc in doc(), look in look(), to in odd_text(), depth in 1usize..4) {
        let (text, _) = written(&doc, look);
        let path = ["fresh", "deeper", "tag"][..depth].join(".");
        let place = place("f.yaml", &path);
        let out = edit::insert(text.as_bytes(), &place, &version(&to))
            .map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(edit::read(&out, &place), Ok(Some(version(&to))));
        prop_assert_eq!(edit::remove(&out, &place, Some(&version(&to))), Ok(text.clone().into_bytes()));
        let mut after = seen(std::str::from_utf8(&out).expect("text"));
        after.as_mapping_mut().expect("a mapping").remove("fresh");
        prop_assert_eq!(after, seen(&text));
    }

    #[test]
    fn broken_files_are_refused_or_changed_in_one_line(
        file in proptest::sample::select(FILES.to_vec()),
        cuts in vec((any::<Index>(), any::<Index>(), proptest::sample::select(PIECES.to_vec())), 0..4),
    ) {
        let (name, path) = file;
        let mut text = fixture(name);
        for (from, to, piece) in cuts {
            let boundary = |at: Index| (0..=at.index(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let (from, to) = (boundary(from), boundary(to));
            let end = to.clamp(from, (from + 12).min(text.len()));
            let end = (from..=end).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(from);
            text.replace_range(from..end, piece);
        }
        let place = place(name, path);
        let before = edit::read(text.as_bytes(), &place);
        if let Ok(out) = edit::write(text.as_bytes(), &place, None, &version("9.9.9")) {
            let out = String::from_utf8(out).expect("text");
            prop_assert_eq!(edit::read(out.as_bytes(), &place), Ok(Some(version("9.9.9"))));
            prop_assert!(lines_that_differ(&text, &out) <= 1);
            let odd = |error: &edit::EditError| matches!(error.why(), Some(edit::Why::NotAVersion { .. }));
            prop_assert!(before.as_ref().map_or_else(odd, |_| true), "{:?} was changed but could not be read", before);
        }
        if let Ok(out) = edit::insert(text.as_bytes(), &place, &version("9.9.9")) {
            prop_assert_eq!(edit::read(&out, &place), Ok(Some(version("9.9.9"))));
        }
        if let Ok(out) = edit::remove(text.as_bytes(), &place, None) {
            prop_assert_eq!(edit::read(&out, &place), Ok(None));
        }
    }
}

const FILES: [(&str, &str); 9] = [
    ("values.yaml", "binderhub.jupyterhub.hub.image.tag"),
    ("values.yaml", "binderhub.dind.daemonset.image.tag"),
    ("Chart.yaml", "dependencies[name=traefik].version"),
    ("manifests.yaml", "data.version"),
    ("helmfile.yaml", "releases[name=hub].version"),
    ("package.json", "dependencies.lodash"),
    ("pyproject.toml", "tool.example.members[name=beta].chart"),
    ("cert-manager.env", "KUBECTL_VERSION"),
    ("requirements.txt", "jupyterhub"),
];

const PIECES: [&str; 24] = [
    "",
    "\n",
    "\r\n",
    " ",
    "\t",
    "'",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "#",
    " # ",
    "&a ",
    "*a",
    "|\n",
    "---\n",
    "{{ x }}",
    "\\",
    "\u{feff}",
    "é",
    "<<: *pdb\n",
];

fn fixture(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/edit").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
