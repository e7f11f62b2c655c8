//! What the README shows works.

use std::{fs, process::Command};

#[test]
fn the_pipeline_of_the_readme_is_valid() {
    let readme = fs::read_to_string("README.md").expect("the README");
    let block = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a YAML block");
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("pipelines")).expect("a folder");
    fs::write(folder.path().join("pipelines/shop.yaml"), block).expect("a file");
    let piton = Command::new(env!("CARGO_BIN_EXE_piton")).arg("check").current_dir(folder.path()).output();
    let piton = piton.expect("piton runs");
    assert!(piton.status.success(), "{}", String::from_utf8_lossy(&piton.stderr));
}

#[test]
fn every_command_of_the_readme_exists() {
    let readme = fs::read_to_string("README.md").expect("the README");
    let words = regex::Regex::new(r"`piton ([a-z]+)").expect("a regular expression");
    for found in words.captures_iter(&readme) {
        let help = Command::new(env!("CARGO_BIN_EXE_piton")).args([&found[1], "--help"]).output().expect("piton runs");
        assert!(help.status.success(), "the README names `piton {}`", &found[1]);
    }
}
