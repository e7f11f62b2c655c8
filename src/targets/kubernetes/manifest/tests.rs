use serde_json::json;

use super::*;

const TWO: &str = "\
# a comment
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: shop}
data:
  mode: \"0755\"
---
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec: {replicas: 2, defaultMode: 0644}
";

#[test]
fn documents_become_objects_with_their_lines() {
    let manifests = parse("app.yaml", TWO.as_bytes()).expect("it is good");
    let told: Vec<String> = manifests.iter().map(|m| format!("{} {}", m.spot(), m.id)).collect();
    assert_eq!(told, ["app.yaml:3 ConfigMap shop/a", "app.yaml:10 Deployment web"]);
    assert_eq!(manifests[0].object["data"], json!({ "mode": "0755" }));
    assert_eq!(manifests[1].object["spec"], json!({ "replicas": 2, "defaultMode": 420 }));
    assert_eq!((manifests[0].document, manifests[1].document), (0, 2));
}

#[test]
fn json_is_yaml_and_lists_are_what_is_in_them() {
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b"}}]}"#;
    let manifests = parse("list.json", list.as_bytes()).expect("it is good");
    assert_eq!(manifests.iter().map(|m| m.id.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn anchors_and_merges_are_read() {
    let text = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
base: &base {x: 1, y: 2}
data: {<<: *base, y: 3}
more: *base
";
    let manifests = parse("a.yaml", text.as_bytes()).expect("it is good");
    assert_eq!(manifests[0].object["data"], json!({ "y": 3, "x": 1 }));
    assert_eq!(manifests[0].object["more"], json!({ "x": 1, "y": 2 }));
}

#[test]
fn faults_name_file_line_and_remedy() {
    let object = |rest: &str| format!("apiVersion: v1\nkind: Pod\n{rest}");
    let cases = [
        ("a: [1".to_owned(), "x.yaml:"),
        ("kind: Pod\n\tname: x\n".to_owned(), "x.yaml:1: this is not YAML"),
        (
            "- a\n- b\n".to_owned(),
            "x.yaml:1: a manifest is a mapping with `apiVersion`, `kind` and `metadata`; this is a list",
        ),
        ("hello\n".to_owned(), "this is a single value"),
        ("\n\napiVersion: v1\nmetadata: {name: x}\n".to_owned(), "x.yaml:3: there is no `kind`"),
        ("kind: Pod\nmetadata: {name: x}\n".to_owned(), "x.yaml:1: Pod has no `apiVersion`"),
        (object("metadata: {}\n"), "Pod has no `metadata.name`"),
        (object("metadata: {name: 12}\n"), "Pod has no `metadata.name`"),
        (object("metadata: {generateName: x-}\n"), "every deploy would make another one"),
        (
            object("metadata: {name: x}\nmetadata: {name: y}\n"),
            "x.yaml:4: this is not YAML: the key `metadata` stands here twice",
        ),
        ("name: {{ .Values.name }}\n".to_owned(), "x.yaml:1: this is not YAML: a key must be a word; a template's"),
        (object("metadata: {name: x}\nsops: {mac: abc}\n"), "x.yaml:1: this file is encrypted (sops)"),
        (
            "\0GITCRYPT\0abc".to_owned(),
            "x.yaml: this file is encrypted (git-crypt), so it cannot be applied as it is; name it under `opaque`",
        ),
        ("$ANSIBLE_VAULT;1.1;AES256\n616".to_owned(), "encrypted (ansible-vault)"),
    ];
    for (text, expected) in cases {
        let error = parse("x.yaml", text.as_bytes()).expect_err(&text).to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    assert!(parse("x.yaml", &[0x66, 0xff, 0xfe]).expect_err("no text").to_string().contains("not UTF-8"));
}

#[test]
fn an_alias_bomb_is_refused_before_it_goes_off() {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let item = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", vec![item; 10].join(","));
    }
    let error = parse("bomb.yaml", text.as_bytes()).expect_err("it is a bomb").to_string();
    assert!(error.contains("aliases included"), "{error}");
}

#[test]
fn a_long_text_behind_many_aliases_is_refused_before_it_is_copied() {
    let text = format!("long: &long '{}'\nall: [{}]\n", "x".repeat(1 << 20), vec!["*long"; 10_000].join(","));
    let error = parse("bomb.yaml", text.as_bytes()).expect_err("it is a bomb").to_string();
    assert!(error.contains("bomb.yaml:2: ") && error.contains("aliases included"), "{error}");
    let config = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{a: &long '{}', b: *long}}\n",
        "x".repeat(1 << 20)
    );
    assert_eq!(parse("large.yaml", config.as_bytes()).expect("it is large, and no bomb").len(), 1);
}

#[test]
fn levels_that_aliases_bring_count_too() {
    let nested = |levels: usize| {
        let mut text = "a0: &a0 [x]\n".to_owned();
        for level in 1..levels {
            text += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        text
    };
    let error = parse("bomb.yaml", nested(100_000).as_bytes()).expect_err("it is a bomb").to_string();
    assert!(error.contains("nested more than 128 levels deep, aliases included"), "{error}");
    // The mapping itself is one of them.
    let error = |levels| parse("a.yaml", nested(levels).as_bytes()).expect_err("it is no object").to_string();
    assert!(error(127).contains("there is no `kind`"), "{}", error(127));
    assert!(error(128).contains("a.yaml:128: ") && error(128).contains("nested"), "{}", error(128));
}

#[test]
fn an_object_written_twice_is_refused_with_both_places() {
    let one = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n";
    let two = "apiVersion: apps/v1beta1\nkind: Deployment\nmetadata: {name: web}\n";
    let mut manifests = parse("a.yaml", one.as_bytes()).expect("it is good");
    manifests.extend(parse("b.yaml", two.as_bytes()).expect("it is good"));
    let error = check(&manifests).expect_err("it is there twice").to_string();
    assert_eq!(error, "b.yaml:1: Deployment web is written here and in a.yaml:1; keep one of them");
}

#[test]
fn ten_thousand_objects_are_read() {
    let text: String =
        (0..10_000).map(|n| format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{n}}}\n")).collect();
    let manifests = parse("many.yaml", text.as_bytes()).expect("it is good");
    assert_eq!((manifests.len(), manifests[9_999].line), (10_000, 9_999 * 4 + 2));
    assert_eq!(check(&manifests), Ok(()));
}
