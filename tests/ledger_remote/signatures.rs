//! Signed pages. Keys are named by environment variables, and these belong to a process: each case has one of its own.

use std::path::Path;

use piton::{
    ledger::{GitLedger, Ledger, LedgerError, Settings, Signers},
    model::TreeId,
};

use crate::{
    alone::in_another_process,
    ledger_world::{World, commit_all, environment, git, ledger_with, page, settings, write},
};

const OURS: &str = "PITON_TEST_KEY_OURS";
const THEIRS: &str = "PITON_TEST_KEY_THEIRS";

#[test]
fn signatures_are_made_and_checked() {
    let keys = tempfile::tempdir().expect("a temporary folder");
    let (ours, theirs) = (keys.path().join("ours"), keys.path().join("theirs"));
    new_key(&ours);
    new_key(&theirs);
    for case in ["unsigned_and_wrongly_signed_heads_are_refused", "a_commit_cannot_allow_its_own_signer"] {
        in_another_process(&format!("signatures::{case}"), &[(OURS, &ours), (THEIRS, &theirs)]);
    }
}

#[tokio::test]
#[ignore = "started by the first test, with keys"]
async fn unsigned_and_wrongly_signed_heads_are_refused() {
    let world = World::new();
    let production = environment("production");
    let allowed = world.path("allowed");
    let public = public_half(OURS);
    std::fs::write(&allowed, format!("piton@example.org {public}")).expect("a file");
    let strict = Settings { signers: Some(Signers::File(allowed)), ..settings() };
    let ours = signing(&world.clone("ours-clone"), OURS, strict.clone());
    let theirs = signing(&world.clone("theirs-clone"), THEIRS, settings());

    let signed = write(&ours, &production, page(&world.tree(), "signed")).await.head.expect("it was written");
    let reader = ledger_with(&world.clone("reader"), Some("origin"), strict);
    assert_eq!(reader.open(&production).await.expect("it is signed").head, Some(signed.clone()));

    write(&theirs, &production, page(&world.tree(), "signed by another")).await;
    let error = reader.open(&production).await.expect_err("the signer is not allowed");
    assert!(matches!(error, LedgerError::Unsigned { .. }), "{error:?}");
    assert_eq!(reader.open_mirror(&production).await.expect("the mirror stays").head, Some(signed));

    write(&world.ledger("plain"), &production, page(&world.tree(), "not signed")).await;
    let error = reader.open(&production).await.expect_err("it is not signed");
    assert!(error.to_string().ends_with("is not signed by an allowed signer: it has no signature"), "{error}");
}

#[tokio::test]
#[ignore = "started by the first test, with keys"]
async fn a_commit_cannot_allow_its_own_signer() {
    let world = World::new();
    let production = environment("production");
    let public = public_half(OURS);
    let intruder = public_half(THEIRS);
    let author = world.path("author");
    let tree_with = |signers: &str| -> TreeId {
        std::fs::write(author.join("signers"), signers).expect("a file");
        commit_all(&author, "signers");
        git(&author, &["push", "--quiet", "origin", "HEAD:main"]);
        world.tree()
    };
    let honest = tree_with(&format!("piton@example.org {public}"));
    let strict = Settings { signers: Some(Signers::InTree("signers".to_owned())), ..settings() };
    let ours = signing(&world.clone("ours-clone"), OURS, strict.clone());
    write(&ours, &production, page(&honest, "signed")).await;
    let reader = ledger_with(&world.clone("reader"), Some("origin"), strict);
    reader.open(&production).await.expect("it is signed");

    let forged = tree_with(&format!("piton@example.org {intruder}"));
    let theirs = signing(&world.clone("theirs-clone"), THEIRS, settings());
    write(&theirs, &production, page(&forged, "let me in")).await;
    let error = reader.open(&production).await.expect_err("the signer allowed itself");
    assert!(matches!(error, LedgerError::Unsigned { .. }), "{error:?}");
}

/// Makes a key.
fn new_key(path: &Path) {
    let made =
        std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.expect("ssh-keygen is there").success());
}

fn public_half(variable: &str) -> String {
    let path = std::env::var(variable).expect("the first test gives the key");
    std::fs::read_to_string(format!("{path}.pub")).expect("the key has two halves")
}

/// A ledger that signs.
fn signing(dir: &Path, variable: &str, settings: Settings) -> GitLedger {
    ledger_with(dir, Some("origin"), Settings { sign_with: Some(variable.to_owned()), ..settings })
}
