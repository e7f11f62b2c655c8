//! Helm's flags that a pipeline may not set, each with the reason.

const WATCHED: &str = "piton watches the rollout itself, and sooner: a broken pod ends it within seconds";
const OURS: &str = "piton sets it";
const CLUSTER: &str = "the cluster is named under `cluster`, and checked before anything is written";
const FROM_THE_TREE: &str =
    "the values would come from Helm's memory and not from the tree, so going back would not restore them";

/// Flags by their long name, and what to do without them.
const REFUSED: [(&str, &str); 36] = [
    ("--wait", WATCHED),
    ("--wait-for-jobs", WATCHED),
    ("--atomic", "the way back is the last known-good tree, which piton takes itself"),
    ("--rollback-on-failure", "the way back is the last known-good tree, which piton takes itself"),
    (
        "--cleanup-on-fail",
        "it deletes objects that the release before may need; the way back removes what is left over",
    ),
    ("--timeout", "write `within`"),
    ("--dry-run", OURS),
    ("--hide-secret", OURS),
    ("--install", OURS),
    ("-i", OURS),
    ("--labels", OURS),
    ("-l", OURS),
    ("--description", OURS),
    ("--output", OURS),
    ("-o", OURS),
    ("--namespace", "write `namespace`"),
    ("-n", "write `namespace`"),
    ("--kube-context", CLUSTER),
    ("--kubeconfig", CLUSTER),
    ("--kube-apiserver", CLUSTER),
    ("--kube-token", CLUSTER),
    ("--kube-ca-file", CLUSTER),
    ("--kube-as-user", CLUSTER),
    ("--kube-as-group", CLUSTER),
    ("--kube-tls-server-name", CLUSTER),
    ("--kube-insecure-skip-tls-verify", CLUSTER),
    ("--values", "write `values`"),
    ("-f", "write `values`"),
    ("--set", "write `set`"),
    ("--reuse-values", FROM_THE_TREE),
    ("--reset-then-reuse-values", FROM_THE_TREE),
    ("--version", "write `version` under `chart`"),
    ("--repo", "write `from` under `chart`"),
    ("--devel", "a chart has one exact version"),
    ("--dependency-update", "write `dependencies: update`, or keep the charts in the tree"),
    ("--no-hooks", "write `hooks: skip`"),
];

/// Refuses flags that piton needs for itself.
pub fn check(flags: &[String]) -> Result<(), String> {
    for flag in flags {
        let name = flag.split_once('=').map_or(flag.as_str(), |(name, _)| name);
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name || joined(refused, flag)) {
            return Err(format!("the flag `{name}` cannot be used: {why}"));
        }
    }
    Ok(())
}

/// `-nhub` is `-n hub`.
fn joined(short: &str, flag: &str) -> bool {
    short.len() == 2 && flag.starts_with(short) && !flag.starts_with("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_are_ours_are_refused_in_every_form() {
        for flag in ["--wait", "--wait=watcher", "--atomic", "-nother", "-n", "--kube-context=x", "--reuse-values"] {
            let error = check(&["--force".to_owned(), flag.to_owned()]).expect_err(flag);
            assert!(error.starts_with("the flag `-"), "{error}");
        }
        let fine = ["--take-ownership", "--create-namespace", "--history-max=5", "--set-string", "a=b"];
        assert_eq!(check(&fine.map(str::to_owned)), Ok(()));
    }
}
