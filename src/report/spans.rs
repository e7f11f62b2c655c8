//! A promotion as spans, in the words of OpenTelemetry's conventions for pipelines.

use super::{AttemptLine, Mark, Outcome, story};
use crate::model::{AttemptId, EnvironmentName, Event, PipelineName, Stamp, What};

/// A stretch of time with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSpan {
    pub name: String,
    /// Which of the spans before it holds it; the first one is the promotion itself.
    pub parent: Option<usize>,
    pub from: Stamp,
    pub until: Stamp,
    /// What went wrong.
    pub failed: Option<String>,
    pub attributes: Vec<(&'static str, String)>,
}

/// The spans of one promotion that has ended: itself, its steps, what its gates saw in each, its acts and its way back.
/// Their number is bounded by the plan, not by how long it took. Nothing for an attempt that these events do not tell of.
/// `ledger` is the address of the repository that tells of it all, as git is given it.
pub fn spans(
    pipeline: &PipelineName,
    environment: &EnvironmentName,
    events: &[Event],
    attempt: AttemptId,
    ledger: &str,
) -> Vec<TraceSpan> {
    let story = story(environment.clone(), events);
    let Some(line) = story.attempts.iter().find(|line| line.id == attempt && line.ending.is_some()) else {
        return Vec::new();
    };
    let mut spans = vec![root(pipeline, environment, line)];
    for (number, step) in line.steps.iter().enumerate() {
        let until = step.until.unwrap_or(line.seen).max(step.from);
        let result = if step.passed { "success" } else { "failure" };
        let at = spans.len();
        let mut span = task(&format!("step {}", step.name), 0, (step.from, until), result, "deploy");
        if !step.passed {
            span.attributes.push(("error.type", line.caught_by().unwrap_or_else(|| "not_passed".to_owned())));
        }
        spans.push(span);
        spans.extend(gates_of(line, number, at));
    }
    spans.extend(acts(events, attempt, line, &spans));
    if let Some(rollback) = &line.rollback {
        let until = rollback.back.or(line.ended).unwrap_or(line.seen);
        let result = if rollback.back.is_some() { "success" } else { "failure" };
        let mut span = task("rollback", 0, (rollback.began, until), result, "deploy");
        span.attributes.push(("piton.rollback.cause", rollback.cause.sentence()));
        if rollback.back.is_none() {
            span.attributes.push(("error.type", "rollback_failed".to_owned()));
        }
        spans.push(span);
    }
    // What came after its end, such as taking down what it replaced, belongs to it, too.
    spans[0].until = spans.iter().map(|span| span.until).max().unwrap_or(line.seen);
    let run = format!("{environment}/{}", line.id.0);
    let place = url(ledger);
    spans[0].attributes.push(("cicd.pipeline.run.url.full", format!("{place}#{run}")));
    for (number, task) in spans.iter_mut().enumerate().skip(1) {
        task.attributes.push(("cicd.pipeline.task.run.id", format!("{run}/{number}")));
        task.attributes.push(("cicd.pipeline.task.run.url.full", format!("{place}#{run}/{number}")));
    }
    spans
}

/// The address of a repository as a URL, without the user and the password that may be in it.
fn url(address: &str) -> String {
    if let Some((scheme, rest)) = address.split_once("://") {
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        return format!("{scheme}://{host}/{path}");
    }
    // `git@host:team/deploy.git`, unless a slash before the colon says that it is a path.
    match address.split_once(':').filter(|(host, _)| !host.contains('/')) {
        Some((host, path)) => {
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("ssh://{host}/{}", path.trim_start_matches('/'))
        }
        None => format!("file://{address}"),
    }
}

fn root(pipeline: &PipelineName, environment: &EnvironmentName, line: &AttemptLine) -> TraceSpan {
    let (result, status) = match line.outcome() {
        Outcome::Promoted => ("success", "succeeded"),
        Outcome::RolledBack => ("failure", "failed"),
        Outcome::Refused => ("skip", "failed"),
        Outcome::Stuck => ("error", "failed"),
        Outcome::UnderWay => ("error", "failed"),
    };
    let mut attributes = vec![
        ("cicd.pipeline.name", pipeline.to_string()),
        ("cicd.pipeline.action.name", "RUN".to_owned()),
        ("cicd.pipeline.run.id", format!("{environment}/{}", line.id.0)),
        ("cicd.pipeline.result", result.to_owned()),
        ("deployment.environment.name", environment.to_string()),
        ("deployment.id", format!("{environment}/{}", line.id.0)),
        ("deployment.status", status.to_owned()),
        ("piton.promotion", line.what.clone()),
    ];
    attributes.extend(line.source.as_ref().map(|source| ("vcs.ref.head.revision", source.to_string())));
    attributes.extend(line.caught_by().map(|by| ("error.type", by)));
    TraceSpan {
        name: format!("RUN {pipeline}"),
        parent: None,
        from: line.started,
        until: line.ended.unwrap_or(line.seen),
        failed: line.cause().map(|cause| cause.sentence()),
        attributes,
    }
}

fn task(name: &str, parent: usize, (from, until): (Stamp, Stamp), result: &str, kind: &str) -> TraceSpan {
    let attributes = vec![
        ("cicd.pipeline.task.name", name.to_owned()),
        ("cicd.pipeline.task.run.result", result.to_owned()),
        ("cicd.pipeline.task.type", kind.to_owned()),
    ];
    let failed = (result != "success").then(|| format!("{name}: {result}"));
    TraceSpan { name: name.to_owned(), parent: Some(parent), from, until, failed, attributes }
}

/// What every gate saw in a step: one span from its first look to its last.
fn gates_of(line: &AttemptLine, step: usize, parent: usize) -> Vec<TraceSpan> {
    let mut spans = Vec::new();
    for gate in &line.gates {
        let looks: Vec<_> = gate.looks.iter().filter(|look| look.step == step).collect();
        let (Some(first), Some(last)) = (looks.first(), looks.last()) else { continue };
        let result = match last.mark {
            Mark::Good => "success",
            Mark::Bad => "failure",
            Mark::Undecided | Mark::Blind => "error",
        };
        let from = Stamp(first.at.0 - i64::try_from(first.took.0).unwrap_or(0));
        let mut span = task(&format!("gate {}", gate.name), parent, (from, last.at), result, "test");
        let bad = looks.iter().filter(|look| look.mark == Mark::Bad).count();
        match last.mark {
            Mark::Good => {}
            Mark::Bad => span.attributes.push(("error.type", gate.name.to_string())),
            Mark::Undecided => span.attributes.push(("error.type", "undecided".to_owned())),
            Mark::Blind => span.attributes.push(("error.type", "blind".to_owned())),
        }
        span.attributes.push(("piton.gate.kind", gate.kind.clone()));
        span.attributes.push(("piton.gate.looks", looks.len().to_string()));
        span.attributes.push(("piton.gate.looks.bad", bad.to_string()));
        spans.push(span);
    }
    spans
}

/// What was done to the world. The ledger says when something was done; it began when the fact before it was written.
fn acts(events: &[Event], attempt: AttemptId, line: &AttemptLine, steps: &[TraceSpan]) -> Vec<TraceSpan> {
    let mut spans = Vec::new();
    let mut since = line.started;
    for event in events.iter().filter(|event| event.at >= line.started) {
        let Some((name, whose, failed)) = act(&event.what) else {
            if !matches!(event.what, What::Read { .. } | What::Told { .. } | What::TellFailed { .. }) {
                since = event.at;
            }
            continue;
        };
        if whose == attempt {
            let holds = |span: &TraceSpan| span.parent == Some(0) && span.from <= since && since <= span.until;
            let parent = steps.iter().rposition(holds).unwrap_or(0);
            let result = if failed.is_some() { "failure" } else { "success" };
            let mut span = task(&name, parent, (since, event.at), result, "deploy");
            if failed.is_some() {
                // The act without its share: few words, so that traces can be counted by them.
                let act = name.split(' ').next().unwrap_or(&name);
                span.attributes.push(("error.type", format!("{act}_failed")));
            }
            span.failed = failed;
            spans.push(span);
        }
        since = event.at;
    }
    spans
}

/// An act's name, whose it is, and why it failed.
fn act(what: &What) -> Option<(String, AttemptId, Option<String>)> {
    let good = |name: &str, attempt: &AttemptId| Some((name.to_owned(), *attempt, None));
    let bad = |name: &str, attempt: &AttemptId, why: &str| Some((name.to_owned(), *attempt, Some(why.to_owned())));
    match what {
        What::Applied { attempt, .. } => good("apply", attempt),
        What::ApplyFailed { attempt, why, .. } => bad("apply", attempt, why),
        What::Shifted { attempt, to, .. } => good(&format!("shift to {to}"), attempt),
        What::ShiftFailed { attempt, to, why, .. } => bad(&format!("shift to {to}"), attempt, why),
        What::Settled { attempt, .. } => good("settle", attempt),
        What::SettleFailed { attempt, why } => bad("settle", attempt, why),
        What::Retreated { attempt, .. } => good("retreat", attempt),
        What::RetreatFailed { attempt, why } => bad("retreat", attempt, why),
        What::Pinned { .. }
        | What::Unpinned { .. }
        | What::Quarantined { .. }
        | What::Unquarantined { .. }
        | What::Frozen { .. }
        | What::Unfrozen { .. }
        | What::Approved { .. }
        | What::Extended { .. }
        | What::Aborted { .. }
        | What::RollbackOrdered { .. }
        | What::Leased { .. }
        | What::Released { .. }
        | What::Started { .. }
        | What::Read { .. }
        | What::StepPassed { .. }
        | What::Promoted { .. }
        | What::Refused { .. }
        | What::WatchEnded { .. }
        | What::RollbackBegan { .. }
        | What::RollbackWidened { .. }
        | What::RolledBack { .. }
        | What::Stuck { .. }
        | What::LookedForDrift { .. }
        | What::Drifted { .. }
        | What::DriftEnded { .. }
        | What::Rehearsed { .. }
        | What::WayBackWaived { .. }
        | What::Told { .. }
        | What::TellFailed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn an_address_is_a_url_without_its_secrets() {
        let cases = [
            ("https://github.com/team/deploy.git", "https://github.com/team/deploy.git"),
            ("https://ci:t0psecret@git.example.org/team/deploy", "https://git.example.org/team/deploy"),
            ("ssh://git@git.example.org:2222/team/deploy", "ssh://git.example.org:2222/team/deploy"),
            ("git@github.com:team/deploy.git", "ssh://github.com/team/deploy.git"),
            ("git.example.org:/srv/deploy", "ssh://git.example.org/srv/deploy"),
            ("/srv/git/deploy.git", "file:///srv/git/deploy.git"),
        ];
        for (address, expected) in cases {
            assert_eq!(url(address), expected, "{address}");
        }
    }
}
