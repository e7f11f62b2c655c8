//! Jobs, which may be gone when they are done.

use super::*;

fn job(ended: Option<&str>, seconds: Option<u32>) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "namespace": "hub", "name": "migrate", "uid": "j" },
        "spec": { "selector": { "matchLabels": { "job": "j" } } },
        "status": { "active": 1 },
    });
    if let Some(ended) = ended {
        job["status"] = json!({ "conditions": [{
            "type": ended, "status": "True", "reason": "BackoffLimitExceeded", "message": "it failed too often",
        }] });
    }
    if let Some(seconds) = seconds {
        job["spec"]["ttlSecondsAfterFinished"] = seconds.into();
    }
    job
}

fn migrate() -> ObjectId {
    ObjectId { api_version: "batch/v1".to_owned(), ..id("Job", "migrate") }
}

/// A watch of the Job; whether its manifest says that it is collected.
fn watching(collected: bool) -> World {
    let watched = Watched::from(&[migrate()]);
    World::of(if collected { watched.with_passing([migrate()]) } else { watched })
}

const DONE: &str = "ready: 1 object ready";

#[test]
fn a_job_that_was_seen_to_be_done_may_go() {
    for seconds in [None, Some(1)] {
        let mut world = watching(false).lists("Job", vec![job(Some("Complete"), seconds)]).lists("Pod", Vec::new());
        assert_eq!(world.after(0), DONE);
        let mut collected = job(Some("Complete"), seconds);
        collected["metadata"]["deletionTimestamp"] = "2026-11-21T13:00:00Z".into();
        let mut world = world.tells("Job", || Change::Applied(collected.clone()));
        assert_eq!(world.after(1), DONE);
        let mut world = world.tells("Job", || Change::Gone(collected.clone()));
        assert_eq!(world.after(2), DONE);
        assert_eq!(world.lists("Job", Vec::new()).after(3), DONE);
    }
}

#[test]
fn a_job_that_ends_and_goes_at_once_is_done() {
    let world = watching(false).lists("Job", vec![job(None, None)]);
    assert_eq!(world.tells("Job", || Change::Gone(job(Some("Complete"), None))).after(0), DONE);
}

#[test]
fn a_job_that_is_collected_may_be_gone_before_anybody_looks() {
    assert_eq!(watching(true).lists("Job", Vec::new()).after(0), DONE);
    let missed = "broken: Job hub/migrate: Deleted: it is not there, though it was applied";
    assert_eq!(watching(false).lists("Job", Vec::new()).after(0), missed);
    // The live one says it, too: while nobody heard anything it ended and went.
    let world = watching(false).lists("Job", vec![job(None, Some(1))]);
    assert_eq!(world.lists("Job", Vec::new()).after(0), DONE);
}

#[test]
fn a_job_that_goes_before_its_end_was_deleted_by_somebody() {
    for collected in [true, false] {
        let world = watching(collected).lists("Job", vec![job(None, Some(1))]);
        let mut world = world.tells("Job", || Change::Gone(job(None, Some(1))));
        assert!(
            world.after(0).starts_with("broken: Job hub/migrate: Deleted: somebody deleted it"),
            "{}",
            world.after(0)
        );
        // Another one takes its place.
        let mut world = world.tells("Job", || Change::Applied(job(None, Some(1))));
        assert!(world.after(1).starts_with("open: job migrate: 0 of 1 done"), "{}", world.after(1));
    }
}

#[test]
fn a_job_that_failed_did_so_when_it_is_gone_as_well() {
    let world = watching(true).lists("Job", vec![job(Some("Failed"), Some(1))]).lists("Pod", Vec::new());
    let failed = "broken: Job hub/migrate: BackoffLimitExceeded: it failed too often";
    assert_eq!(world.tells("Job", || Change::Gone(job(Some("Failed"), Some(1)))).after(0), failed);
}
