//! Pages of many environments that wait at the same time leave together, and each is taken or refused for itself.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use piton::{
    ledger::{Appended, GitLedger, Ledger, LedgerError, Page},
    model::{CommitId, EnvironmentName},
};

use crate::{
    faults::hook,
    ledger_world::{World, environment, page, reasons, write},
};

const ENVIRONMENTS: usize = 48;

fn environments() -> Vec<EnvironmentName> {
    (0..ENVIRONMENTS).map(|number| environment(&format!("shop-{number}"))).collect()
}

type Written = Vec<Result<Appended, LedgerError>>;

/// One page for each, all at the same time.
async fn write_all(
    ledger: &GitLedger,
    environments: &[EnvironmentName],
    heads: &BTreeMap<EnvironmentName, CommitId>,
    page: &Page,
) -> Written {
    join_all(environments.iter().map(|e| ledger.append(e, heads.get(e), page.clone()))).await
}

fn heads(environments: &[EnvironmentName], written: Written) -> BTreeMap<EnvironmentName, CommitId> {
    let commits = written.into_iter().map(|appended| appended.expect("it is taken").commit);
    environments.iter().cloned().zip(commits).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_wait_at_the_same_time_leave_in_few_pushes() {
    let world = World::new();
    hook(&world, "pre-receive", "cat > /dev/null; echo push >> pushes");
    let ledger = world.ledger("one");
    let all = environments();
    let heads = heads(&all, write_all(&ledger, &all, &BTreeMap::new(), &page(&world.tree(), "first")).await);
    let pushes = std::fs::read_to_string(world.origin().join("pushes")).expect("the hook ran").lines().count();
    assert!(pushes * 2 < ENVIRONMENTS, "{pushes} pushes for {ENVIRONMENTS} pages");
    let reader = world.ledger("reader");
    for (opened, environment) in reader.open_many(&all).await.into_iter().zip(&all) {
        assert_eq!(opened.expect("it opens").head.as_ref(), heads.get(environment), "{environment}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_a_race_loses_alone() {
    let world = World::new();
    let (ledger, other) = (world.ledger("one"), world.ledger("two"));
    let all = environments();
    let heads = heads(&all, write_all(&ledger, &all, &BTreeMap::new(), &page(&world.tree(), "first")).await);
    let taken = |number: usize| number.is_multiple_of(8);
    for environment in all.iter().enumerate().filter(|(number, _)| taken(*number)).map(|(_, environment)| environment) {
        write(&other, environment, page(&world.tree(), "others")).await;
    }
    let written = write_all(&ledger, &all, &heads, &page(&world.tree(), "second")).await;
    let reader = world.ledger("reader");
    for ((number, environment), written) in all.iter().enumerate().zip(written) {
        let expected = match taken(number) {
            true => ["first", "others"],
            false => ["first", "second"],
        };
        assert_eq!(matches!(written, Err(LedgerError::Lost { .. })), taken(number), "{environment}: {written:?}");
        assert_eq!(reasons(&reader, environment).await, expected, "{environment}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_that_refuses_one_branch_holds_up_no_other() {
    let world = World::new();
    hook(
        &world,
        "pre-receive",
        "while read -r old new ref; do case $ref in */shop-7) echo 'shop-7 is protected' >&2; exit 1;; esac; done",
    );
    let ledger = world.ledger("one");
    let all = environments();
    let written = write_all(&ledger, &all, &BTreeMap::new(), &page(&world.tree(), "first")).await;
    for (environment, written) in all.iter().zip(written) {
        match (environment.as_str(), written) {
            ("shop-7", Err(LedgerError::Refused { why, .. })) => assert!(why.ends_with("shop-7 is protected"), "{why}"),
            ("shop-7", other) => panic!("{other:?}"),
            (_, written) => assert!(written.expect("it is taken").pushed),
        }
    }
}
