//! The clone itself: what is never touched, what is refused, and content by its id.

use std::{collections::BTreeMap, path::Path};

use piton::{
    ledger::{Freshness, Ledger, LedgerError, Repository, RepositoryError},
    model::{CommitId, TreeId},
    planner::{Changed, Trees},
};

use crate::ledger_world::{World, commit_all, environment, git, good_page, ledger_in, page, reasons, tree_of, write};

#[tokio::test]
async fn head_index_and_work_tree_are_never_touched() {
    let world = World::new();
    let dir = world.clone("one");
    git(&dir, &["checkout", "--quiet", "--detach"]);
    std::fs::write(dir.join("values.yaml"), "hub: 2.0.0 # not committed\n").expect("a file");
    std::fs::write(dir.join("staged"), "x").expect("a file");
    git(&dir, &["add", "staged"]);
    std::fs::write(dir.join("untracked"), "x").expect("a file");
    std::fs::create_dir(dir.join("deep")).expect("a folder");
    // A hook of the user is for the user's own pushes.
    let hook = dir.join(".git/hooks/pre-push");
    std::fs::write(&hook, "#!/bin/sh\nexit 1\n").expect("a file");
    make_executable(&hook);
    let before = picture(&dir);

    let production = environment("production");
    let ledger = ledger_in(&dir.join("deep"), Some("origin"));
    write(&ledger, &production, good_page(&world.tree(), "first")).await;
    write(&world.ledger("two"), &production, page(&world.tree(), "second")).await;
    ledger.open(&production).await.expect("it opens");
    ledger.repository().tip_of_source("main").await.expect("there is a main");
    assert_eq!(reasons(&ledger, &production).await, ["first", "second"]);
    assert_eq!(picture(&dir), before);
}

/// All of the clone that is the user's.
fn picture(dir: &Path) -> BTreeMap<&'static str, Vec<u8>> {
    let file = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
    BTreeMap::from([
        ("HEAD", file(".git/HEAD")),
        ("index", file(".git/index")),
        ("FETCH_HEAD", file(".git/FETCH_HEAD")),
        ("config", file(".git/config")),
        ("values.yaml", file("values.yaml")),
        ("branches", git(dir, &["for-each-ref", "refs/heads", "refs/tags"]).into_bytes()),
        ("status", git(dir, &["status", "--porcelain=v2", "--branch"]).into_bytes()),
    ])
}

#[tokio::test]
async fn without_a_remote_the_repository_is_the_origin() {
    let world = World::new();
    let production = environment("production");
    let ledger = ledger_in(&world.path("author"), None);
    let opened = write(&ledger, &production, good_page(&world.tree(), "first")).await;
    assert_eq!(opened.freshness, Freshness::Origin);
    let head = opened.head.expect("it was written");
    assert_eq!(git(&world.path("author"), &["rev-parse", "piton/production"]), head.as_str());
    assert_eq!(git(&world.path("author"), &["rev-parse", "refs/piton/production/good"]), head.as_str());

    git(&world.path("author"), &["checkout", "--quiet", "piton/production"]);
    let error = ledger.append(&production, Some(&head), page(&world.tree(), "second")).await;
    let error = error.expect_err("the branch is checked out");
    let LedgerError::Git { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().starts_with("`piton/production` is checked out here"), "{source}");
}

#[tokio::test]
async fn many_environments_are_opened_with_one_question() {
    let world = World::new();
    let ledger = world.ledger("one");
    let environments = ["staging", "production", "production-eu"].map(environment);
    for environment in &environments[..2] {
        write(&ledger, environment, page(&world.tree(), environment.as_str())).await;
    }
    let opened = world.ledger("two").open_many(&environments).await;
    let heads: Vec<bool> = opened.into_iter().map(|o| o.expect("it opens").head.is_some()).collect();
    assert_eq!(heads, [true, true, false]);
}

#[test]
fn repositories_we_cannot_read_are_refused_with_a_sentence() {
    let world = World::new();
    git(world.dir.path(), &["init", "--quiet", "--object-format=sha256", "sha256"]);
    let url = format!("file://{}", world.origin().display());
    git(&world.origin(), &["config", "uploadpack.allowFilter", "true"]);
    git(world.dir.path(), &["clone", "--quiet", "--filter=blob:none", &url, "partial"]);
    git(world.dir.path(), &["init", "--quiet", "tables"]);
    git(&world.path("tables"), &["config", "extensions.refStorage", "reftable"]);
    let what = |name: &str| match Repository::open(&world.path(name), None, "piton").map(drop) {
        Err(error @ RepositoryError::Unsupported { .. }) => (error.to_string(), error.hint().is_some()),
        other => panic!("{name}: {other:?}"),
    };
    for (name, says) in [
        ("sha256", "names its objects by sha256, which piton cannot read"),
        ("partial", "is a partial clone, which piton cannot read"),
        ("tables", "keeps its refs in the form `reftable`, which piton cannot read"),
    ] {
        let (sentence, has_hint) = what(name);
        assert!(sentence.ends_with(says) && has_hint, "{sentence}");
    }
    let nowhere = tempfile::tempdir().expect("a temporary folder");
    let missing = Repository::open(nowhere.path(), None, "piton").map(drop);
    assert!(matches!(missing, Err(RepositoryError::Missing { .. })), "{missing:?}");
    let prefix = Repository::open(&world.origin(), None, "a b").map(drop);
    assert!(matches!(prefix, Err(RepositoryError::Prefix(_))), "{prefix:?}");
}

#[tokio::test]
async fn the_source_branch_is_read_in_first_parent_order() {
    let world = World::new();
    let author = world.path("author");
    git(&author, &["checkout", "--quiet", "-b", "side"]);
    commit_all(&author, "on the side");
    git(&author, &["checkout", "--quiet", "main"]);
    commit_all(&author, "second");
    git(&author, &["merge", "--quiet", "--no-ff", "-m", "merge side", "side"]);
    commit_all(&author, "last");
    git(&author, &["push", "--quiet", "origin", "main"]);
    // A clone without history has to ask for more.
    let url = format!("file://{}", world.origin().display());
    git(world.dir.path(), &["clone", "--quiet", "--depth=1", &url, "shallow"]);
    for dir in [author.clone(), world.path("shallow")] {
        let repository = Repository::open(&dir, Some("origin"), "piton").expect("it is a repository");
        let tip = repository.tip_of_source("main").await.expect("there is a main");
        let all = repository.first_parents(None, &tip, 9).await.expect("they are read");
        let subjects: Vec<&str> = all.iter().map(|commit| commit.subject.as_str()).collect();
        assert_eq!(subjects, ["first", "second", "merge side", "last"], "{}", dir.display());
        let next = repository.first_parents(Some(&all[0].id), &tip, 2).await.expect("they are read");
        assert_eq!(next.iter().map(|c| c.subject.as_str()).collect::<Vec<_>>(), ["second", "merge side"]);
        let newest = repository.first_parents(None, &tip, 2).await.expect("they are read");
        assert_eq!(newest.iter().map(|c| c.subject.as_str()).collect::<Vec<_>>(), ["merge side", "last"]);
        let alone = repository.first_parents(None, &all[0].id, 1).await.expect("it is read");
        assert_eq!(alone, all[..1]);
        let side = CommitId::new(git(&author, &["rev-parse", "side"])).expect("an id");
        let after_side = repository.first_parents(Some(&side), &tip, 9).await.expect("they are read");
        assert_eq!(after_side.iter().map(|c| c.subject.as_str()).collect::<Vec<_>>(), ["second", "merge side", "last"]);
        assert_eq!(repository.resolve("main").expect("it is known"), tip);
        assert_eq!(repository.resolve(tip.short()).expect("it is known"), tip);
        let absent = repository.resolve("no-such-thing").expect_err("it is not there").to_string();
        assert!(absent.starts_with("there is no commit `no-such-thing`"), "{absent}");
        let gone = repository.tip_of_source("gone").await.expect_err("it is not there").to_string();
        assert_eq!(gone, "there is no branch `gone` in the deploy repository");
    }
}

#[tokio::test]
async fn one_old_commit_is_read_in_a_clone_without_history() {
    let world = World::new();
    let author = world.path("author");
    let old = CommitId::new(git(&author, &["rev-parse", "HEAD"])).expect("an id");
    commit_all(&author, "second");
    git(&author, &["push", "--quiet", "origin", "main"]);
    let url = format!("file://{}", world.origin().display());
    git(world.dir.path(), &["clone", "--quiet", "--depth=1", &url, "shallow"]);
    let repository = Repository::open(&world.path("shallow"), Some("origin"), "piton").expect("it is a repository");
    let found = repository.first_parents(None, &old, 1).await.expect("it is brought");
    assert_eq!((found.len(), found[0].subject.as_str()), (1, "first"));
    let tip = repository.tip_of_source("main").await.expect("there is a main");
    let next = repository.first_parents(Some(&old), &tip, 9).await.expect("they are read");
    assert_eq!(next.iter().map(|c| c.subject.as_str()).collect::<Vec<_>>(), ["second"]);
    assert!(repository.first_parents(Some(&tip), &old, 9).await.expect("they are read").is_empty());

    git(&author, &["checkout", "--quiet", "--orphan", "other"]);
    commit_all(&author, "another beginning");
    git(&author, &["push", "--quiet", "origin", "other"]);
    let other = repository.tip_of_source("other").await.expect("there is another");
    let apart = repository.first_parents(Some(&old), &other, 9).await.expect_err("they share nothing").to_string();
    assert!(apart.starts_with("there is no common history of "), "{apart}");
}

#[test]
fn trees_are_read_changed_and_compared() {
    let world = World::new();
    let author = world.path("author");
    std::fs::create_dir(author.join("charts")).expect("a folder");
    std::fs::write(author.join("charts/logo.png"), [0, 159, 146, 150]).expect("a file");
    make_executable(&author.join("run.sh"));
    commit_all(&author, "more");
    let repository = Repository::open(&author, None, "piton").expect("it is a repository");
    let base = tree_of(&author, "HEAD");
    assert_eq!(repository.read(&base, "values.yaml").expect("it reads"), Some(b"hub: 1.0.0\n".to_vec()));
    assert_eq!(repository.read(&base, "charts").expect("it reads"), None);
    assert_eq!(repository.read(&base, "charts/none").expect("it reads"), None);
    for bad in ["../x", "/etc/passwd", "a//b", ".git/config", "a\0b", ""] {
        assert!(
            repository.read(&base, bad).is_err() && repository.write(&base, &[(bad.to_owned(), vec![])]).is_err(),
            "{bad:?}"
        );
    }
    let files = [
        ("values.yaml".to_owned(), b"hub: 2.0.0\n".to_vec()),
        ("run.sh".to_owned(), b"#!/bin/sh\nexit 0\n".to_vec()),
        ("charts/new/deep.yaml".to_owned(), b"a: 1\n".to_vec()),
        ("charts/logo.png".to_owned(), vec![0, 1]),
    ];
    let changed = repository.write(&base, &files).expect("it writes");
    assert_eq!(repository.write(&base, &files).expect("it writes again"), changed);
    let listing = git(&author, &["ls-tree", "-r", "--format=%(objectmode) %(path)", changed.as_str()]);
    assert_eq!(listing, "100644 charts/logo.png\n100644 charts/new/deep.yaml\n100755 run.sh\n100644 values.yaml");
    let blob = |tree: &TreeId, path: &str| git(&author, &["rev-parse", &format!("{tree}:{path}")]);
    let all = repository.changed(&base, &changed).expect("it compares");
    assert_eq!(
        all.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(),
        ["charts/logo.png", "charts/new/deep.yaml", "run.sh", "values.yaml"]
    );
    let new = Changed {
        path: "charts/new/deep.yaml".to_owned(),
        old: None,
        new: Some(blob(&changed, "charts/new/deep.yaml")),
    };
    assert_eq!(all[1], new);
    assert_eq!(all[3].old, Some(blob(&base, "values.yaml")));
    let diffs = repository.diff(&base, &changed).expect("it compares");
    assert!(diffs[3].diff.ends_with("@@ -1 +1 @@\n-hub: 1.0.0\n+hub: 2.0.0\n"), "{}", diffs[3].diff);
    assert_eq!((diffs[3].added, diffs[3].removed, diffs[0].diff.as_str()), (1, 1, ""));
}

#[test]
fn a_tree_is_checked_out_whole_or_not_at_all() {
    let world = World::new();
    let author = world.path("author");
    std::os::unix::fs::symlink("values.yaml", author.join("link")).expect("a link");
    make_executable(&author.join("run.sh"));
    commit_all(&author, "a link");
    let repository = Repository::open(&author, None, "piton").expect("it is a repository");
    let dir = world.path("out/release");
    repository.write_files(&tree_of(&author, "HEAD"), &dir).expect("it is written");
    assert_eq!(std::fs::read_to_string(dir.join("link")).expect("it leads there"), "hub: 1.0.0\n");
    let mode =
        |name: &str| std::os::unix::fs::MetadataExt::mode(&dir.join(name).metadata().expect("it is there")) & 0o111;
    assert_ne!(mode("run.sh"), 0);
    assert_eq!(mode("values.yaml"), 0);
    let again = repository.write_files(&tree_of(&author, "HEAD"), &dir).expect_err("it is not empty");
    assert!(again.to_string().starts_with("cannot write "), "{again}");

    let head = git(&author, &["rev-parse", "HEAD"]);
    git(&author, &["update-index", "--add", "--cacheinfo", &format!("160000,{head},vendor/lib")]);
    git(&author, &["commit", "--quiet", "-m", "a submodule"]);
    let tree = tree_of(&author, "HEAD");
    let error = repository.write_files(&tree, &world.path("out/second")).expect_err("it is refused").to_string();
    assert_eq!(
        error,
        format!("`vendor/lib` in tree {tree} is a submodule; piton deploys only what is in the repository itself")
    );
    let left: Vec<_> =
        std::fs::read_dir(world.path("out")).expect("it is there").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(left, ["release"]);
}

fn make_executable(path: &Path) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
}
