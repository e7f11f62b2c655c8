//! Limits, rights and environment variables belong to a process: a case that changes them has one of its own.

use std::{path::Path, process::Command};

/// Runs an ignored test of this binary in another process, and fails as it fails.
pub fn in_another_process(test: &str, variables: &[(&str, &Path)]) {
    let output = Command::new(std::env::current_exe().expect("a test knows its binary"))
        .args(["--exact", test, "--ignored", "--nocapture"])
        .envs(variables.iter().copied())
        .output()
        .expect("the test binary starts");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{test}: {said}");
}
