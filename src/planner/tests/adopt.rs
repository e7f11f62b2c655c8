//! What is live becomes the wish only where it is certain which value that is.

use serde_json::json;

use super::*;
use crate::model::{Difference, SourcePlace};

const WEB: &str = "kind: Deployment
spec:
  containers:
  - name: web
    image: \"web:1\"
    env:
    - name: MODE
      value: fast
    - name: SPEED
      value: fast
      note: by hand
";

fn at(document: usize, path: &str, wanted: Option<Value>, live: Option<Value>) -> Difference {
    let path = path.split('.').map(str::to_owned).collect();
    Difference {
        object: "Deployment shop/web".to_owned(),
        field: "its field".to_owned(),
        wanted,
        live,
        by: None,
        at: None,
        source: Some(SourcePlace { file: "web.yaml".to_owned(), document, path }),
    }
}

fn mode(live: &str) -> Difference {
    at(0, "spec.containers.0.env.0.value", Some(json!("fast")), Some(json!(live)))
}

/// What the file says when these differences are adopted on a tip with other content than was deployed.
fn adopted(deployed: &str, tip: &str, differences: &[Difference]) -> Result<String, AdoptError> {
    let mut desk = Desk::new();
    let image = Component {
        place: Place {
            file: "web.yaml".to_owned(),
            at: At::Path("spec.containers[name=web].image".parse().expect("a path")),
            part: Part::Tag,
        },
        order: Order::Auto,
        within: None,
        restarts: None,
    };
    desk.pipeline.components.insert(name("web"), image);
    let tree = |text: &str| desk.trees.put(Files::from([("web.yaml".to_owned(), text.as_bytes().to_vec())]));
    let (deployed, tip) = (tree(deployed), tree(tip));
    let (tree, files) = adopt(&desk.pipeline, &desk.trees, &deployed, &tip, differences)?;
    assert_eq!(files, ["web.yaml"]);
    Ok(desk.trees.text(&tree, "web.yaml"))
}

#[test]
fn a_value_of_the_file_that_was_deployed_is_changed_added_and_removed() {
    let added = at(0, "spec.containers.0.tty", None, Some(json!("yes")));
    let removed = at(0, "spec.containers.0.env.1.note", Some(json!("by hand")), None);
    let out = adopted(WEB, WEB, &[mode("slow"), added, removed]).expect("it is the same file");
    let expected =
        WEB.replacen("value: fast", "value: slow", 1).replace("      note: by hand\n", "") + "    tty: \"yes\"\n";
    assert_eq!(out, expected);
}

#[test]
fn a_version_that_the_source_branch_is_ahead_by_moves_no_place() {
    let ahead = WEB.replace("web:1", "web:2");
    let out = adopted(WEB, &ahead, &[mode("slow")]).expect("every other byte is the same");
    assert_eq!(out, ahead.replacen("value: fast", "value: slow", 1));
}

#[test]
fn a_place_in_a_file_that_has_changed_since_is_not_guessed() {
    let first = WEB.replace("    env:\n", "    env:\n    - name: FIRST\n      value: fast\n");
    let document = format!("kind: Deployment\nspec: {{}}\n---\n{WEB}");
    let added = at(0, "spec.containers.0.tty", None, Some(json!("yes")));
    let removed = at(0, "spec.containers.0.env.1.note", Some(json!("by hand")), None);
    for tip in [first, document] {
        for difference in [mode("slow"), added.clone(), removed.clone()] {
            let error = adopted(WEB, &tip, &[difference]).expect_err("the same place is another value");
            let expected = "`web.yaml` in the source branch is not the one that was deployed, so that nobody can say where in \
                            it `Deployment shop/web its field` stands";
            assert_eq!(error.to_string(), expected);
        }
    }
}

#[test]
fn a_value_that_says_something_else_is_never_removed() {
    let removed = at(0, "spec.containers.0.env.1.note", Some(json!("by another hand")), None);
    let error = adopted(WEB, WEB, &[removed]).expect_err("another value stands there");
    assert!(matches!(error, AdoptError::Edit { .. }), "{error:?}");
}
