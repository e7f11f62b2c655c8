//! What the tables of every format share.

use super::*;

pub(super) fn place(file: &str, path: &str) -> Place {
    let path = path.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
    Place { file: file.to_owned(), at: At::Path(path), part: Part::Whole }
}

pub(super) fn version(text: &str) -> Version {
    Version::new(text).expect("a good version")
}

pub(super) fn changes(file: &str, text: &str, path: &str, to: &str, wanted: &str) {
    let place = place(file, path);
    let out = write(text.as_bytes(), &place, None, &version(to)).unwrap_or_else(|e| panic!("{text:?}: {e}"));
    assert_eq!(String::from_utf8(out).expect("text"), wanted, "{path} -> {to} in {text:?}");
    reads(file, wanted, path, Some(to));
}

pub(super) fn reads(file: &str, text: &str, path: &str, wanted: Option<&str>) {
    let found = read(text.as_bytes(), &place(file, path)).unwrap_or_else(|e| panic!("{text:?}: {e}"));
    assert_eq!(found.as_ref().map(Version::as_str), wanted, "{path} in {text:?}");
}

pub(super) fn refuses(file: &str, text: &str, path: &str, to: &str, reason: &str) {
    match write(text.as_bytes(), &place(file, path), None, &version(to)) {
        Err(error) => assert!(error.to_string().contains(reason), "{text:.200?}: {error}\nshould say: {reason}"),
        Ok(out) => panic!("{path} -> {to} in {text:?} gave {:?}", String::from_utf8_lossy(&out)),
    }
}

pub(super) fn write_text(text: &str, place: &Place, to: &str) -> Result<String, EditError> {
    write(text.as_bytes(), place, None, &version(to)).map(|out| String::from_utf8(out).expect("text"))
}
