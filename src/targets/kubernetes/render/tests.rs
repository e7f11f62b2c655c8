use std::{fs, os::unix::fs::symlink};

use super::*;
use crate::targets::kubernetes::glob::Glob;

fn globs(patterns: &[&str]) -> Vec<Glob> {
    patterns.iter().map(|p| Glob::try_from((*p).to_owned()).expect("a good pattern")).collect()
}

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    dir
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\n";

#[test]
fn plain_manifests_are_read_in_order_and_opaque_files_left_alone() {
    let dir = tree(&[
        ("deploy/b.yaml", &MAP.replace("NAME", "b")),
        ("deploy/a/c.yml", &MAP.replace("NAME", "c")),
        ("deploy/README.md", "# not a manifest"),
        ("deploy/secret.enc.yaml", "sops: {mac: x}"),
        ("other/d.yaml", "not read"),
    ]);
    let rendered = plain::read(dir.path(), &globs(&["deploy"]), &globs(&["**/*.enc.yaml"])).expect("it is good");
    let names: Vec<&str> = rendered.manifests.iter().map(|m| m.file.as_str()).collect();
    assert_eq!(names, ["deploy/a/c.yml", "deploy/b.yaml"]);
    assert_eq!(rendered.opaque, ["deploy/secret.enc.yaml"]);
    let encrypted = plain::read(dir.path(), &globs(&["deploy"]), &[]).expect_err("one is encrypted").to_string();
    assert!(encrypted.contains("deploy/secret.enc.yaml:1: this file is encrypted (sops)"), "{encrypted}");
    let missing = plain::read(dir.path(), &globs(&["nope"]), &[]).expect_err("there is none").to_string();
    assert_eq!(missing, "the pattern `nope` matches no file of the release");
}

#[test]
fn a_link_out_of_the_release_is_refused() {
    let dir = tree(&[("deploy/a.yaml", &MAP.replace("NAME", "a"))]);
    symlink("/etc/hostname", dir.path().join("deploy/b.yaml")).expect("a link");
    let error = plain::read(dir.path(), &globs(&["deploy"]), &[]).expect_err("it leads out").to_string();
    assert!(error.contains("deploy/b.yaml leads out of the release"), "{error}");
}

#[test]
fn a_link_in_a_chart_may_lead_elsewhere_in_the_release_only() {
    let dir = tree(&[("chart/Chart.yaml", "name: hub"), ("shared/notes", "-")]);
    symlink("/etc/hostname", dir.path().join("unused")).expect("a link");
    let refused = || helm::nothing_leads_out(dir.path(), "chart").err().map(|error| error.to_string());
    symlink("../shared", dir.path().join("chart/more")).expect("a link");
    assert_eq!(refused(), None);
    symlink("/etc/hostname", dir.path().join("shared/name")).expect("a link");
    let said = refused().expect("it leads out by way of another link");
    assert!(said.starts_with("shared/name leads out of the release"), "{said}");
}

#[test]
fn versions_of_renderers_are_compared_by_their_beginning() {
    for (version, wanted, good) in [
        ("v3.21.4", None, true),
        ("v3.21.4", Some("3.21"), true),
        ("v3.21.4", Some("v3.2"), false),
        ("v5.7.0", Some("v5"), true),
        ("v4.0.0", Some("v3"), false),
    ] {
        assert_eq!(check_version("helm", version, wanted).is_ok(), good, "{version} {wanted:?}");
    }
}
