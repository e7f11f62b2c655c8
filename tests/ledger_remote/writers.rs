//! Many writers on one environment.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use piton::{
    ledger::{GitLedger, append_with},
    model::{Span, TreeId},
};

use crate::{
    http::Host,
    ledger_world::{World, environment, ledger_in, page, reasons},
};

const WRITERS: usize = 8;
const PAGES_EACH: usize = 4;

/// Every writer has a clone and a ledger of its own, as eight CI jobs would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_writers_lose_nothing_and_none_starves() {
    let world = World::new();
    let host = Host::start(world.dir.path());
    let ledgers: Vec<GitLedger> =
        (0..WRITERS).map(|n| ledger_in(&host.clone(&format!("writer-{n}")), Some("origin"))).collect();
    let tree = world.tree();
    let tasks: Vec<_> = ledgers
        .into_iter()
        .enumerate()
        .map(|(writer, ledger)| tokio::spawn(write_pages(ledger, writer, tree.clone())))
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.expect("the writer ends"));
    }
    took.sort();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!("{} appends by {WRITERS} writers over http: median {median:?}, worst {worst:?}", took.len());

    let reader = ledger_in(&host.clone("reader"), Some("origin"));
    let written = reasons(&reader, &environment("production")).await;
    let expected: BTreeSet<String> =
        (0..WRITERS).flat_map(|w| (0..PAGES_EACH).map(move |p| format!("writer {w} page {p}"))).collect();
    assert_eq!(written.len(), expected.len(), "each page is there once");
    assert_eq!(written.iter().cloned().collect::<BTreeSet<_>>(), expected);
    for writer in 0..WRITERS {
        let prefix = format!("writer {writer} ");
        let own: Vec<&String> = written.iter().filter(|reason| reason.starts_with(&prefix)).collect();
        assert!(own.iter().zip(0..).all(|(reason, page)| **reason == format!("{prefix}page {page}")), "{own:?}");
    }
    assert!(worst <= median * 10, "a writer starved: median {median:?}, worst {worst:?}");
}

async fn write_pages(ledger: GitLedger, writer: usize, tree: TreeId) -> Vec<Duration> {
    let mut took = Vec::new();
    for number in 0..PAGES_EACH {
        let began = Instant::now();
        let reason = format!("writer {writer} page {number}");
        let done =
            append_with(&ledger, &environment("production"), Span::minutes(10), |_| Some(page(&tree, &reason))).await;
        done.expect("it is taken in the end").expect("there was something to write");
        took.push(began.elapsed());
    }
    took
}

/// A controller and a person's command in the same clone share its refs, but nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_programs_in_one_clone_do_not_take_each_other_for_a_rewrite() {
    let world = World::new();
    let dir = world.clone("shared");
    let tree = world.tree();
    let tasks: Vec<_> =
        (0..3).map(|writer| tokio::spawn(write_pages(ledger_in(&dir, Some("origin")), writer, tree.clone()))).collect();
    for task in tasks {
        task.await.expect("the writer ends");
    }
    let reader = world.ledger("reader");
    assert_eq!(reasons(&reader, &environment("production")).await.len(), 3 * PAGES_EACH);
}
