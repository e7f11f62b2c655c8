use serde_json::json;

use super::{
    answer::{Answer, Failure, PENDING},
    desk::Desk,
    promote::say_paused,
    voice::Voice,
};
use crate::{
    commands::PlanArgs,
    model::{FileChange, GateName, Held, HeldBy, Plan, PlanKind, Step},
    planner::{self, Planned},
};

/// `piton plan`
pub async fn run(desk: &Desk, args: &PlanArgs) -> Result<Answer, Failure> {
    let environment = desk.environment(&args.environment)?;
    let (opened, upto) = desk.read_both(&args.environment, args.to.as_deref()).await?;
    if let Some(attempt) = &opened.state.attempt {
        desk.voice.say(format!("{} is under way: {}", attempt.id, attempt.plan.headline()));
    }
    match desk.plan(environment, &opened.state, &upto?).await? {
        Planned::UpToDate { held } => {
            desk.voice.say(format!("{} {} is up to date", desk.voice.good("✓"), environment.name));
            say_held(&desk.voice, &held);
            Ok(Answer::done("up_to_date").with("environment", environment.name.as_str()).with("held", json!(held)))
        }
        Planned::Next(plan) => {
            say_plan(desk, &plan, args.diff);
            let pause = opened.state.paused(desk.now());
            if let Some(pause) = pause {
                say_paused(desk, environment, pause);
            }
            Ok(Answer::new(PENDING, "continue", "changes_pending")
                .with("environment", environment.name.as_str())
                .with("plan", json!(plan))
                .with("pause", json!(pause)))
        }
    }
}

/// What changes, what it does, in what order, behind which gates, how long at least, and what a rollback restarts.
pub fn say_plan(desk: &Desk, plan: &Plan, whole_diff: bool) {
    let voice = &desk.voice;
    voice.say(voice.bold(format!("{}: {}", plan.environment, plan.headline())));
    let kind = match plan.kind {
        PlanKind::Bump => "the smallest next step",
        PlanKind::Content => "files outside any component",
        PlanKind::Pin => "to what is pinned",
        PlanKind::Jump => "all at once, as ordered",
        PlanKind::First => "the first release",
    };
    let author = plan.author.as_ref().map_or(String::new(), |a| format!(" by {a}"));
    voice.say(voice.dim(format!("  {kind}; {} {}{author}", plan.release.source.short(), plan.subject)));
    for bump in &plan.bumps {
        let text = |v: &Option<crate::model::Version>| v.as_ref().map_or("(absent)".to_owned(), |v| v.to_string());
        voice.say(format!(
            "  {}  {} → {}",
            voice.note(&bump.component),
            voice.dim(text(&bump.from)),
            voice.bold(text(&bump.to))
        ));
    }
    if let Some(renderer) = &plan.renderer {
        voice.say(voice.dim(format!("  rendered by {renderer}")));
    }
    say_held(voice, &plan.held);
    plan.files.iter().for_each(|file| say_file(voice, file, whole_diff));
    for (number, step) in plan.steps.iter().enumerate() {
        voice.say(format!("  {}. {}", number + 1, step_words(step)));
    }
    if plan.watch.time.0 > 0 {
        voice.say(format!("  then known good, and watched for {}", plan.watch.time));
    }
    voice.say(voice.dim(format!("  takes at least {}", planner::least_time(plan))));
    let way_back = match &plan.back {
        Some(back) => format!("  a rollback goes to {}{}", back.tree.short(), restarts(desk, plan)),
        None => "  a rollback takes it down again: there is nothing before it".to_owned(),
    };
    voice.say(voice.dim(way_back));
}

fn restarts(desk: &Desk, plan: &Plan) -> String {
    let of = |bump: &crate::model::Bump| {
        let component = desk.pipeline.components.get(&bump.component)?;
        component.restarts.as_ref().map(|what| format!("{}: {what}", bump.component))
    };
    let texts: Vec<String> = plan.bumps.iter().filter_map(of).collect();
    if texts.is_empty() { String::new() } else { format!(" and restarts {}", texts.join(", ")) }
}

pub fn say_held(voice: &Voice, held: &[Held]) {
    for held in held {
        let text = |v: &Option<crate::model::Version>| v.as_ref().map_or("(absent)".to_owned(), |v| v.to_string());
        let end = |until: &Option<crate::model::Stamp>| until.map_or("for ever".to_owned(), |u| format!("until {u}"));
        let why = match &held.by {
            HeldBy::Pin { reason, until } => format!("pinned {}: {reason}", end(until)),
            HeldBy::Quarantine { reason, until } => format!("in quarantine {}: {reason}", end(until)),
            HeldBy::Unproven { environment } => format!("not proven in {environment}"),
            HeldBy::NextStep => "the step after this one".to_owned(),
        };
        voice.say(format!(
            "  {}  stays at {}, {} waits ({why})",
            voice.warn(&held.component),
            text(&held.at),
            text(&held.wanted)
        ));
    }
}

/// Lines of a file's difference that are shown without `--diff`.
const DIFF_LINES_MAX: usize = 12;

fn say_file(voice: &Voice, file: &FileChange, whole: bool) {
    voice.say(format!(
        "  {} {} {}",
        file.path,
        voice.good(format!("+{}", file.added)),
        voice.bad(format!("-{}", file.removed))
    ));
    let is_change =
        |l: &&str| (l.starts_with('+') || l.starts_with('-')) && !l.starts_with("+++") && !l.starts_with("---");
    let lines: Vec<&str> = file.diff.lines().filter(is_change).collect();
    let shown = if whole { lines.len() } else { lines.len().min(DIFF_LINES_MAX) };
    for line in &lines[..shown] {
        let styled = if line.starts_with('+') { voice.good(line) } else { voice.bad(line) };
        voice.say(format!("    {styled}"));
    }
    if shown < lines.len() {
        voice.say(voice.dim(format!("    … {} more lines, `--diff` shows them", lines.len() - shown)));
    }
}

/// A step as a person would say it.
pub fn step_words(step: &Step) -> String {
    let gates = |gates: &[GateName]| match gates {
        [] => String::new(),
        names => format!(" behind {}", names.iter().map(GateName::as_str).collect::<Vec<_>>().join(", ")),
    };
    match step {
        Step::Check { gates: names } if names.is_empty() => "preflight".to_owned(),
        Step::Check { gates: names } => format!("preflight{}", gates(names)),
        Step::Deploy => "deploy beside what is live".to_owned(),
        Step::Shift { to, hold, gates: names } if hold.0 > 0 => format!("{to} of the users for {hold}{}", gates(names)),
        Step::Shift { to, gates: names, .. } => format!("{to} of the users{}", gates(names)),
        Step::Prove { gates: names } => format!("proof{}", gates(names)),
        Step::Bake { time, gates: names } => format!("bake {time}{}", gates(names)),
    }
}
