use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::{
    answer::{Answer, Failure, gravity},
    desk::Desk,
    plan::step_words,
};
use crate::{
    commands::Status,
    engine::{self, Setup, State},
    ledger::{Freshness, Opened},
    model::{ComponentName, EnvironmentName, Quarantined, Stamp, Version},
    pipeline::Environment,
};

/// `piton status`
pub async fn run(desk: &Desk, args: &Status) -> Result<Answer, Failure> {
    let chosen: Vec<&Environment> = match &args.environment {
        Some(name) => vec![desk.environment(name)?],
        None => desk.pipeline.environments.iter().collect(),
    };
    let names: Vec<EnvironmentName> = chosen.iter().map(|e| e.name.clone()).collect();
    let mut opened = Vec::new();
    match args.offline {
        true => {
            for name in &names {
                opened.push(desk.ledger.open_mirror(name).await);
            }
        }
        false => opened = desk.ledger.open_many(&names).await,
    }
    // One that cannot be read hides no other.
    let opened = opened.into_iter().map(|one| one.map_err(Failure::from));
    let rows: Vec<Row> = chosen.into_iter().zip(opened).collect();
    if let [(_, Err(failure))] = rows.as_slice() {
        return Err(failure.clone());
    }
    let now = desk.now();
    table(desk, &rows, now);
    for (environment, opened) in &rows {
        match opened {
            Ok(opened) => details(desk, environment, opened, now),
            Err(failure) => unread(desk, environment, failure),
        }
    }
    let all: serde_json::Map<String, Value> = rows.iter().map(|(e, o)| (e.name.to_string(), known(o, now))).collect();
    let failures = rows.iter().filter_map(|(_, opened)| opened.as_ref().err());
    let answer = match failures.max_by_key(|failure| gravity(failure.code)) {
        None => Answer::done("status"),
        Some(worst) => Answer::new(worst.code, worst.decision(), worst.reason_code),
    };
    Ok(answer.with("environments", all))
}

/// An environment, and what it has come to or why that cannot be read.
type Row<'a> = (&'a Environment, Result<Opened, Failure>);

fn known(opened: &Result<Opened, Failure>, now: Stamp) -> Value {
    match opened {
        Ok(opened) => facts(&opened.state, opened, now),
        Err(failure) => json!({
            "exit_code": failure.code, "reason_code": failure.reason_code, "message": failure.message,
            "hint": failure.hint,
        }),
    }
}

fn unread(desk: &Desk, environment: &Environment, failure: &Failure) {
    let (voice, name) = (&desk.voice, &environment.name);
    voice.say(format!("  {name}: {}", voice.bad(&failure.message)));
    if let Some(hint) = &failure.hint {
        voice.say(format!("  {name}: {}", voice.dim(format!("hint: {hint}"))));
    }
}

fn table(desk: &Desk, rows: &[Row], now: Stamp) {
    let voice = &desk.voice;
    let mut table = Table::new();
    table.load_style(if voice.live { presets::UTF8_BORDERS_ONLY } else { presets::NOTHING });
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(u16::try_from(voice.width()).unwrap_or(120));
    let mut header = vec!["environment".to_owned()];
    header.extend(desk.pipeline.components.keys().map(ToString::to_string));
    header.extend(["known good".to_owned(), "now".to_owned()]);
    table.set_header(header);
    for (environment, opened) in rows {
        let state = opened.as_ref().map(|opened| &opened.state).ok();
        let mut row = vec![environment.name.to_string()];
        row.extend(desk.pipeline.components.keys().map(|c| state.map_or(UNKNOWN.to_owned(), |s| cell(s, c, now))));
        let good = |state: &State| state.good.as_ref().map_or("none".to_owned(), |g| g.commit.short().to_owned());
        row.push(state.map_or(UNKNOWN.to_owned(), good));
        row.push(state.map_or("cannot be read".to_owned(), |state| headline(state, now)));
        table.add_row(row);
    }
    voice.say(table.to_string());
}

/// Stands where nothing is known.
const UNKNOWN: &str = "?";

fn cell(state: &State, component: &ComponentName, now: Stamp) -> String {
    let live = state.live.as_ref().and_then(|l| l.versions.get(component));
    let text = live.map_or("–".to_owned(), Version::to_string);
    if state.pin(component, now).is_some() { format!("{text} (pinned)") } else { text }
}

/// The state in a few words.
fn headline(state: &State, now: Stamp) -> String {
    if let Some(stuck) = &state.stuck {
        return format!("STUCK {}", stuck.at);
    }
    if let Some(rollback) = &state.rollback {
        return format!("rolling back {}", rollback.attempt);
    }
    if let Some(attempt) = &state.attempt {
        let step = attempt.current().map_or("settling".to_owned(), step_words);
        return format!("{} {}: {step}", attempt.id, attempt.plan.headline());
    }
    if state.drift.is_some() {
        return "drifted".to_owned();
    }
    if let Some(pause) = state.paused(now) {
        return format!("automation rests until {}", pause.until);
    }
    match (state.watches.last(), &state.live) {
        (Some(watch), _) => format!("watching {}", watch.plan.headline()),
        (None, Some(_)) => "quiet".to_owned(),
        (None, None) => "nothing deployed".to_owned(),
    }
}

fn details(desk: &Desk, environment: &Environment, opened: &Opened, now: Stamp) {
    let (voice, state) = (&desk.voice, &opened.state);
    let line = |text: String| voice.say(format!("  {}: {text}", environment.name));
    if let Freshness::Mirror { why, unpushed } = &opened.freshness {
        line(voice.warn(format!("seen last, not now ({why}); {unpushed} pages not pushed yet")));
    }
    if let Some(foreign) = &state.foreign {
        line(voice.bad(format!(
            "commit {} by {} was not written by piton: {}",
            foreign.commit.short(),
            foreign.author,
            foreign.why
        )));
    }
    if let Some(stuck) = &state.stuck {
        line(voice.bad(format!("stuck since {}: {}", stuck.since, stuck.advice)));
        if let Some(cause) = &stuck.cause {
            line(voice.bad(format!("it was to go back because of this: {}", cause.headline())));
        }
    }
    if let Some(drift) = &state.drift {
        let word =
            format!("drift since {}: {}; `piton drift {}` shows all", drift.since, drift.sentence(), environment.name);
        line(voice.bad(word));
    }
    if let Some(leftover) = &state.leftover {
        let (since, last) = (leftover.since, leftover.last);
        line(voice.warn(format!("since {since} {}; tried last at {last}", leftover.sentence())));
    }
    for (tree, way) in state.ways_back.iter().filter(|(_, way)| !way.obstacles.is_empty()) {
        line(voice.bad(format!("release {} could not be deployed again: {}", tree.short(), way.obstacles.join("; "))));
    }
    for (tree, way) in state.ways_back.iter().filter(|(_, way)| way.obstacles.is_empty()) {
        let Some((since, why)) = &way.blind else { continue };
        let short = tree.short();
        line(
            voice.warn(format!("since {since} nobody can see whether release {short} could be deployed again: {why}")),
        );
    }
    if let Some(freeze) = state.frozen(now) {
        line(voice.warn(format!("frozen by {} {}: {}", freeze.by, end(freeze.until), freeze.reason)));
    }
    for pin in state.pins.values().filter(|p| p.in_force(now)) {
        let unpin = newest(desk, &pin.component).filter(|v| *v != pin.version);
        let unpin = unpin.map_or(String::new(), |v| format!("; an unpin would bring {v}"));
        line(format!(
            "{} pinned to {} by {} {}: {}{unpin}",
            pin.component,
            pin.version,
            pin.by,
            end(pin.until),
            pin.reason
        ));
    }
    for quarantine in state.quarantines.iter().filter(|q| q.in_force(now)) {
        let what = match &quarantine.what {
            Quarantined::Version { component, version } => format!("{component} {version}"),
            Quarantined::Content { commit, files } => {
                format!(
                    "{} of {}",
                    files.iter().map(|(f, _)| f.as_str()).collect::<Vec<_>>().join(", "),
                    commit.short()
                )
            }
        };
        line(voice.warn(format!("{what} in quarantine {}: {}", end(quarantine.until), quarantine.reason)));
    }
    for wait in engine::next(state, now, Setup::default()).waits {
        let until = wait.until.map_or(String::new(), |u| format!(", {} left", u.since(now)));
        line(voice.dim(format!("waiting for {} since {}{until} ({})", wait.on, wait.since, wait.who)));
    }
}

/// The value at the newest commit of the source branch that was seen here.
fn newest(desk: &Desk, component: &ComponentName) -> Option<Version> {
    let tip = desk.repository.resolve(&desk.pipeline.source.branch).ok()?;
    let tree = desk.repository.tree_of(&tip).ok()?;
    crate::planner::versions_in(&desk.pipeline, &desk.repository, &tree).ok()?.get(component).cloned()
}

fn end(until: Option<Stamp>) -> String {
    until.map_or("for ever".to_owned(), |until| format!("until {until}"))
}

fn facts(state: &State, opened: &Opened, now: Stamp) -> Value {
    let waits = engine::next(state, now, Setup::default()).waits;
    let waits: Vec<Value> =
        waits.iter().map(|w| json!({ "on": w.on, "since": w.since, "until": w.until, "who": w.who })).collect();
    json!({
        "now": headline(state, now),
        "head": opened.head,
        "live": state.live,
        "good": state.good,
        "attempt": state.attempt.as_ref().map(|a| json!({
            "id": a.id, "plan": a.plan.headline(), "step": a.step, "steps": a.plan.steps.len(), "started": a.started,
        })),
        "rollback": state.rollback.as_ref().map(|r| json!({ "attempt": r.attempt, "cause": r.cause, "since": r.since })),
        "stuck": state.stuck,
        "watches": state.watches.iter().map(|w| json!({ "attempt": w.attempt, "until": w.until })).collect::<Vec<_>>(),
        "pins": state.pins.values().collect::<Vec<_>>(),
        "quarantines": state.quarantines,
        "freeze": state.freeze,
        "pause": state.paused(now),
        "left_behind": state.leftover,
        "lease": state.lease,
        "last": state.last,
        "foreign": state.foreign,
        "drift": state.drift,
        "ways_back": state.ways_back,
        "mirror": matches!(opened.freshness, Freshness::Mirror { .. }),
        "waits": waits,
    })
}
