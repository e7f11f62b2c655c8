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

#[test]
fn a_value_that_is_there_already_changes_nothing() {
    for (file, text, path, value) in [
        ("f.yaml", "a: \"\\x31.0\"\n", "a", "1.0"),
        ("f.yaml", "a: 1.10\n", "a", "1.10"),
        ("f.json", "{\"a\": \"\\u0031\"}", "a", "1"),
        ("f.toml", "a = \"\\u0031\"", "a", "1"),
        ("f.env", "A='1'", "A", "1"),
    ] {
        assert_eq!(write_text(text, &place(file, path), value).as_deref(), Ok(text));
    }
}

#[test]
fn the_tag_of_an_image_changes_and_its_name_stays() {
    let tag = |file: &str, path: &str| Place { part: Part::Tag, ..place(file, path) };
    for (file, text, path, to, wanted) in [
        ("f.yaml", "i: r:5000/a/b:1.0 # 1.0\n", "i", "1.1", "i: r:5000/a/b:1.1 # 1.0\n"),
        ("f.yaml", "i: \"a:1\"\n", "i", "2", "i: \"a:2\"\n"),
        ("f.yaml", "i: 'a:1'\n", "i", "2", "i: 'a:2'\n"),
        ("f.yaml", "- uses: actions/checkout@v4 # v4\n", "[0].uses", "v5", "- uses: actions/checkout@v5 # v4\n"),
        ("f.yaml", "i: >-\n  a:1\n", "i", "2", "i: >-\n  a:2\n"),
        ("f.yaml", "i: {x: a:1, y: a:1}\n", "i.y", "2", "i: {x: a:1, y: a:2}\n"),
        ("f.json", "{\"i\": \"a/b:1\"}", "i", "2", "{\"i\": \"a/b:2\"}"),
        ("f.toml", "i = 'a/b:1'", "i", "2", "i = 'a/b:2'"),
        ("f.env", "export I=r:5000/a:1\n", "I", "2", "export I=r:5000/a:2\n"),
    ] {
        let place = tag(file, path);
        assert_eq!(write_text(text, &place, to).as_deref(), Ok(wanted));
        assert_eq!(read(wanted.as_bytes(), &place), Ok(Some(version(to))));
    }
    for (text, to, reason) in [
        ("i: r:5000/a\n", "2", "`r:5000/a` has no tag"),
        ("i: \"a\\x2fb:1\"\n", "2", "name would be written differently"),
        ("i: a:1\n", "x y", "not a tag or digest"),
        ("i:\n", "2", "has no tag"),
    ] {
        let error = write_text(text, &tag("f.yaml", "i"), to).expect_err("this is refused");
        assert!(error.to_string().contains(reason), "{text:?}: {error}");
    }
    assert_eq!(read(b"i: r:5000/a\n", &tag("f.yaml", "i")), Ok(None));
}

#[test]
fn what_must_stand_there_is_checked() {
    let (place, from) = (place("f.yaml", "a"), version("1"));
    assert!(write(b"a: 1\n", &place, Some(&from), &version("2")).is_ok());
    let error = write(b"a: \"0\\n0\"\n", &place, Some(&from), &version("2")).expect_err("it differs");
    assert_eq!(error.to_string(), "cannot change `a` in f.yaml: `0\u{fffd}0` stands there, not `1`");
    assert_eq!(error.hint(), None);
}

#[test]
fn unknown_files_and_odd_bytes_are_refused() {
    refuses("f.txt", "a: 1", "a", "2", "the name of the file says nothing about its format");
    let error = write(b"a: \xff\n", &place("f.yaml", "a"), None, &version("2")).expect_err("not text");
    assert_eq!(error.to_string(), "cannot change `a` in f.yaml: the file is not UTF-8 text: byte 3 is 0xff");
    assert!(read(b"\xff\xfea\x00", &place("f.yaml", "a")).is_err());
    assert_eq!(read(b"", &place("f.toml", "a")), Ok(None));
}
