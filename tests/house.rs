//! The order of the rooms, and what the thinking half must not touch. Changing the order is a design change: say why.

use std::{
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

/// A room may use only rooms above it.
const ROOMS: [&str; 21] = [
    // words and thought
    "model",
    "edit",
    "versions",
    "pipeline",
    "judge",
    "engine",
    "planner",
    "commands",
    "report",
    // outside
    "clients",
    "ledger",
    "targets",
    "gates",
    "channels", // hands
    "runner",
    "rack",
    "simulate",
    "sample", // doors
    "controller",
    "cli",
    "main",
];

/// Rooms that think: no async, no clock, no chance, no files, no network.
const THINKING: usize = 9;

/// What a thinking room must not name, and why.
const FORBIDDEN: [(&str, &str); 9] = [
    (r"\btokio\b", "no async runtime"),
    (r"\basync (fn|move)\b", "no async"),
    (r"\bstd::(fs|net|process|thread)\b", "no files, no network, no processes"),
    (r"\b(SystemTime|Instant)::now\b", "the time comes in as an argument"),
    (r"\bTimestamp::now\b|\bZoned::now\b", "the time comes in as an argument"),
    (r"\b(getrandom|rand)::", "no chance"),
    (r"\bHash(Map|Set)\b", "the order of a hash can reach an output"),
    (r"\bgit2::|\breqwest::|\bhyper::|\baxum::", "no outside"),
    (r"\bstd::env\b", "what surrounds us comes in as an argument"),
];

#[test]
fn rooms_use_only_rooms_above_them() {
    let used = Regex::new(r"\bcrate::(?:\{([^;]*)\}|(\w+))").expect("a regular expression");
    let name = Regex::new(r"(?:^|[,{]\s*)(\w+)").expect("a regular expression");
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Some(room) = room_of(&file) else { continue };
        let place = position(&room, &file);
        for found in used.captures_iter(&text) {
            let inside = found.get(1).map(|list| top_level(list.as_str()));
            let single = found.get(2).map(|one| one.as_str().to_owned());
            for other in inside
                .into_iter()
                .flat_map(|list| name.captures_iter(&list).map(|c| c[1].to_owned()).collect::<Vec<_>>())
                .chain(single)
            {
                let Some(theirs) = ROOMS.iter().position(|r| *r == other) else { continue };
                if theirs > place {
                    wrong.push(format!("{}: `{room}` uses `{other}`, which is below it", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn thinking_rooms_touch_nothing() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Some(room) = room_of(&file) else { continue };
        if position(&room, &file) >= THINKING || is_test(&file) {
            continue;
        }
        let code = without_tests(&text);
        for (pattern, why) in FORBIDDEN {
            let pattern = Regex::new(pattern).expect("a regular expression");
            for (number, line) in code.lines().enumerate() {
                if !line.trim_start().starts_with("//") && pattern.is_match(line) {
                    wrong.push(format!("{}:{}: {why}: {}", file.display(), number + 1, line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_says_what_it_is() {
    for room in ROOMS.iter().filter(|room| Path::new("src").join(room).is_dir()) {
        let readme = fs::read_to_string(format!("src/{room}/README.md")).unwrap_or_default();
        for word in ["*What.*", "*Never.*", "*Add one.*"] {
            assert!(readme.contains(word), "src/{room}/README.md does not say {word}");
        }
        let door = fs::read_to_string(format!("src/{room}/mod.rs")).expect("a room has a door");
        assert!(door.contains("include_str!(\"README.md\")"), "src/{room}/mod.rs does not include its README.md");
    }
}

#[test]
fn nothing_unwraps_outside_tests() {
    let mut wrong = Vec::new();
    for (file, text) in sources().into_iter().filter(|(file, _)| !is_test(file)) {
        for (number, line) in without_tests(&text).lines().enumerate() {
            if line.contains(".unwrap()") || line.contains("todo!(") || line.contains("unimplemented!(") {
                wrong.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_test_sleeps() {
    let mut wrong = Vec::new();
    let sleeps = Regex::new(r"\bsleep\(").expect("a regular expression");
    for file in files(Path::new("tests"), &mut Vec::new()) {
        let text = fs::read_to_string(&file).expect("a test file");
        // The one place that polls a real condition says so.
        let allowed = text.contains("// polls a real condition");
        if sleeps.is_match(&text) && !allowed && !file.ends_with("house.rs") {
            wrong.push(file.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "these tests sleep: {}", wrong.join(", "));
}

/// The list without what stands in inner braces, so that only rooms are left.
fn top_level(list: &str) -> String {
    let mut depth = 0;
    let keep = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        (depth == 0 && c != '}').then_some(c)
    };
    list.chars().filter_map(keep).collect()
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    let found = files(Path::new("src"), &mut all).clone();
    found.into_iter().map(|file| (file.clone(), fs::read_to_string(file).expect("a source file"))).collect()
}

fn files<'a>(folder: &Path, all: &'a mut Vec<PathBuf>) -> &'a mut Vec<PathBuf> {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
    all
}

fn room_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix("src").ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (room != "lib").then(|| room.to_owned())
}

fn position(room: &str, file: &Path) -> usize {
    let found = ROOMS.iter().position(|r| *r == room);
    found.unwrap_or_else(|| panic!("{}: `{room}` is not a room; give it its place in the order", file.display()))
}

fn is_test(file: &Path) -> bool {
    let name = file.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
    name == "tests" || name.ends_with("_tests") || file.components().any(|c| c.as_os_str() == "tests")
}

fn without_tests(text: &str) -> &str {
    let inline = text.find("#[cfg(test)]\nmod tests {");
    inline.map_or(text, |at| &text[..at])
}
