//! Whatever the bytes, the answer is a pipeline or a refusal that can be shown.

use piton::pipeline::parse;
use proptest::prelude::*;

use crate::kinds;

const GOOD: &str = include_str!("../../fixtures/pipelines/good/mybinder.yaml");

fn is_answered(bytes: &[u8]) {
    if let Err(refusal) = parse("fuzzed.yaml", bytes, &kinds::ALL) {
        assert!(!refusal.faults.is_empty(), "refused without a reason");
        assert!(refusal.render(true).len() > 10);
        assert!(refusal.located().iter().all(|place| place.line >= 1));
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let pieces = [
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "\n",
        "  ",
        "\t",
        "&a ",
        "*a",
        "!!str ",
        "!x ",
        "'",
        "\"",
        "|\n",
        ">-\n",
        "---\n",
        "...\n",
        "# ",
        "? ",
        "<<: ",
        "~",
        "100%",
        "é",
        "🧗",
        "\u{feff}",
        "\0",
        "%YAML 1.2\n",
        "components",
        "environments",
        "gates",
        "\r",
    ];
    prop_oneof![proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned), "\\PC{0,6}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        is_answered(&bytes);
    }

    #[test]
    fn any_pieces_of_yaml(pieces in proptest::collection::vec(pieces(), 0..60)) {
        is_answered(pieces.concat().as_bytes());
    }

    #[test]
    fn a_good_file_with_something_put_in(at in 0..GOOD.len(), piece in pieces()) {
        let at = GOOD.floor_char_boundary(at);
        is_answered(format!("{}{piece}{}", &GOOD[..at], &GOOD[at..]).as_bytes());
    }

    #[test]
    fn a_good_file_with_something_taken_out(from in 0..GOOD.len(), length in 1..200usize) {
        let mut bytes = GOOD.as_bytes().to_vec();
        bytes.drain(from..(from + length).min(GOOD.len()));
        is_answered(&bytes);
    }

    #[test]
    fn a_good_file_with_one_byte_changed(at in 0..GOOD.len(), byte in any::<u8>()) {
        let mut bytes = GOOD.as_bytes().to_vec();
        bytes[at] = byte;
        is_answered(&bytes);
    }
}
