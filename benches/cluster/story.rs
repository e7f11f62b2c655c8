//! The story that every tool goes through, measured by an onlooker.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    pods::Onlooker,
    tools::{Answer, Ending, LONGEST, REPLICAS, Site, Tool},
    usage::{self, Requests},
};

/// What a change to one kind of version came to, in seconds from the change.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// `good`, `crash loop`…
    pub what: &'static str,
    /// The first pod that anybody could see to be broken.
    pub visible: Option<f64>,
    /// Every pod serves what it should, and nothing else is left.
    pub settled: f64,
    /// The tool says that it is over.
    pub told: f64,
    pub ending: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    pub tool: &'static str,
    /// From the start of the tool to the first version that serves.
    pub started: f64,
    pub changes: Vec<Change>,
    /// From the command to every pod back, and to the tool's word; each time that it was tried.
    pub backs: Vec<[f64; 2]>,
    /// From the start of the tool's program to its end or readiness, with nothing to do.
    pub startup: Option<f64>,
    /// Requests of one good change, by program.
    pub requests: BTreeMap<String, usize>,
    /// Of those, the tool's own.
    pub own_requests: usize,
    pub failed: Option<String>,
}

/// What is tried: the fake kubelet takes what a pod does from its tag.
pub const BAD: [(&str, &str); 3] =
    [("crash loop", "2.0.0-crash"), ("image-pull failure", "2.0.0-pull"), ("never ready", "2.0.0-never")];
const FIRST: &str = "1.0.0";
const SECOND: &str = "1.1.0";

/// Goes through the story as far as it goes.
pub async fn of(tool: &mut dyn Tool, site: &Site, requests: &Requests) -> Measured {
    let mut measured = Measured {
        tool: tool.name(),
        started: 0.0,
        changes: Vec::new(),
        backs: Vec::new(),
        startup: None,
        requests: BTreeMap::new(),
        own_requests: 0,
        failed: None,
    };
    let told = tell(tool, site, requests, &mut measured).await;
    measured.failed = told.err();
    measured
}

async fn tell(tool: &mut dyn Tool, site: &Site, requests: &Requests, measured: &mut Measured) -> Answer<()> {
    let onlooker = Onlooker::of(&site.client, &site.namespace);
    let began = Instant::now();
    tool.start(FIRST).await?;
    measured.started = began.elapsed().as_secs_f64();
    onlooker.until(LONGEST, |pods| pods.only(FIRST, REPLICAS)).await?;

    measured.startup = tool.startup().await?;

    for time in 0..tool.times() {
        let tag = format!("1.0.{}", time + 1);
        measured.changes.push(good(tool, &onlooker, &tag).await?);
        let began = Instant::now();
        let (told, settled) = tokio::try_join!(
            async { tool.back(&tag, FIRST).await.map(|()| Instant::now()) },
            onlooker.until(LONGEST, |pods| pods.back(FIRST, &tag, REPLICAS)),
        )?;
        measured.backs.push([seconds(began, settled), seconds(began, told)]);
    }

    let mark = requests.mark();
    measured.changes.push(good(tool, &onlooker, SECOND).await?);
    measured.requests = requests.since(mark);
    measured.own_requests = usage::own(&measured.requests, tool.agents());

    for (what, tag) in BAD {
        measured.changes.push(bad(tool, &onlooker, what, tag, SECOND).await?);
        tool.mend(SECOND).await?;
        onlooker.until(LONGEST, |pods| pods.back(SECOND, tag, REPLICAS)).await?;
    }
    Ok(())
}

async fn good(tool: &dyn Tool, onlooker: &Onlooker, tag: &str) -> Answer<Change> {
    let began = Instant::now();
    let ((ending, told), settled) = tokio::try_join!(
        async { tool.change(tag).await.map(|ending| (ending, Instant::now())) },
        onlooker.until(LONGEST, |pods| pods.only(tag, REPLICAS)),
    )?;
    match ending {
        Ending::Good => {
            let (settled, told) = (seconds(began, settled), seconds(began, told));
            Ok(Change { what: "good", visible: None, settled, told, ending: "good" })
        }
        Ending::WentBack => Err(format!("{} went back from the good version {tag}", tool.name())),
    }
}

async fn bad(tool: &dyn Tool, onlooker: &Onlooker, what: &'static str, tag: &str, good: &str) -> Answer<Change> {
    let began = Instant::now();
    let settled = async {
        onlooker.until(LONGEST, |pods| pods.any(tag)).await?;
        onlooker.until(LONGEST, |pods| pods.back(good, tag, REPLICAS)).await
    };
    let told = async { tool.change(tag).await.map(|ending| (ending, Instant::now())) };
    let ((ending, told), settled) = tokio::try_join!(told, settled)?;
    match ending {
        Ending::WentBack => {
            let visible = onlooker.broken(tag).map(|at| seconds(began, at));
            let (settled, told) = (seconds(began, settled), seconds(began, told));
            Ok(Change { what, visible, settled, told, ending: "went back" })
        }
        Ending::Good => Err(format!("{} let {tag} in", tool.name())),
    }
}

fn seconds(from: Instant, to: Instant) -> f64 {
    Duration::as_secs_f64(&to.saturating_duration_since(from))
}
