use std::{fs, path::Path};

use piton::pipeline::{FAULTS_MAX, explain, parse};

use crate::kinds;

/// The pipeline files in a folder of this repository, by name.
pub fn pipelines_in(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the fixtures are there")
        .map(|entry| {
            let path = entry.expect("the folder can be listed").path();
            let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("the fixture can be read"))
        })
        .collect();
    files.sort();
    files
}

/// Each as a person sees it.
#[test]
fn bad_files_are_refused_with_place_reason_and_remedy() {
    let files = pipelines_in("fixtures/pipelines/bad");
    assert!(files.len() >= 40, "only {} bad files", files.len());
    for (name, text) in files {
        let file = format!("pipelines/{name}.yaml");
        let Err(refusal) = parse(&file, &text, &kinds::ALL) else { panic!("{name} was accepted") };
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "../snapshots/refusals" }, {
            insta::assert_snapshot!(name.clone(), refusal.render(false));
        });
        for place in refusal.located() {
            assert!(place.line >= 1 && place.column >= 1 && !place.fault.why.is_empty(), "{name}: {place:?}");
        }
    }
}

#[test]
fn good_files_are_accepted() {
    for (name, text) in pipelines_in("fixtures/pipelines/good") {
        if let Err(refusal) = parse(&format!("{name}.yaml"), &text, &kinds::ALL) {
            panic!("{refusal}");
        }
    }
}

#[test]
fn a_byte_order_mark_and_carriage_returns_do_no_harm() {
    for (name, text) in pipelines_in("fixtures/pipelines/good") {
        let text = String::from_utf8(text).expect("it is text");
        let file = format!("{name}.yaml");
        let plain = parse(&file, text.as_bytes(), &kinds::ALL).expect("it is good");
        let other = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        let other = parse(&file, other.as_bytes(), &kinds::ALL).unwrap_or_else(|refusal| panic!("{refusal}"));
        assert_eq!(plain, other);
    }
}

#[test]
fn color_is_only_there_when_asked_for() {
    let refusal = parse("x.yaml", b"components: 1", &kinds::ALL).expect_err("it is bad");
    assert!(refusal.render(true).contains('\x1b'));
    assert!(!refusal.render(false).contains('\x1b'));
}

#[test]
fn explanations_as_a_person_sees_them() {
    for (topic, kind) in [
        (None, None),
        (Some("gate"), None),
        (Some("gate"), Some("http")),
        (Some("component"), None),
        (Some("environment"), None),
        (Some("targets"), None),
    ] {
        let name = format!("explain {} {}", topic.unwrap_or(""), kind.unwrap_or(""));
        let page = explain(&kinds::ALL, topic, kind).expect("it can be explained");
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "../snapshots/explain" }, {
            insta::assert_snapshot!(name.trim().replace(' ', "-"), page);
        });
    }
    let error = |topic, kind| explain(&kinds::ALL, topic, kind).expect_err("there is no such thing").to_string();
    assert_eq!(
        error(Some("gate"), Some("htpp")),
        "there is no kind of gate `htpp`, did you mean `http`?; kinds: `http`, `approval`, `kernel`, `window`"
    );
    assert!(
        error(Some("gaet"), None).starts_with("there is no topic `gaet`, did you mean `gate`?; topics: `pipeline`")
    );
    assert_eq!(error(Some("units"), Some("ms")), "`units` has no kinds; leave `ms` out");
}

#[test]
fn scripts_get_each_fault_with_its_place() {
    let text = b"components:\n  web: { file: v.yaml, paht: web }\nenvironments: {}\n";
    let refusal = parse("p.yaml", text, &kinds::ALL).expect_err("it is bad");
    let json = refusal.to_json();
    assert_eq!((&json[0]["file"], &json[0]["line"], &json[0]["column"]), (&"p.yaml".into(), &2.into(), &3.into()));
    assert!(json.as_array().is_some_and(|faults| faults.len() == refusal.faults.len()));
}

#[test]
fn a_flood_of_faults_is_counted() {
    let text = "a: 1\n".repeat(20_000);
    let refusal = parse("p.yaml", text.as_bytes(), &kinds::ALL).expect_err("it is bad");
    assert_eq!((refusal.faults.len(), refusal.more), (FAULTS_MAX, 19_999 - FAULTS_MAX));
    assert!(refusal.to_string().ends_with("error: and 19969 more faults\n"));
}
