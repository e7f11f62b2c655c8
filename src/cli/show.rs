use serde_json::json;

use super::{
    answer::{Answer, Failure},
    desk::Desk,
    history,
};
use crate::{
    commands::Show,
    engine::rests_until,
    model::headline,
    report::{self, AttemptLine, Mark},
};

/// `piton show`
pub async fn run(desk: &Desk, args: &Show) -> Result<Answer, Failure> {
    desk.environment(&args.environment)?;
    let story = history::story(desk, &args.environment, usize::MAX).await?;
    let attempt = match &args.attempt {
        None => story.attempts.last(),
        Some(text) => {
            let number = text.trim_start_matches('#');
            let number: u64 = number
                .parse()
                .map_err(|_| Failure::usage(format!("{text:?} is not the number of a promotion, such as `12`")))?;
            story.attempts.iter().find(|a| a.id.0 == number)
        }
    };
    let Some(attempt) = attempt.cloned() else {
        let there =
            story.attempts.last().map_or("there is none".to_owned(), |last| format!("the newest is {}", last.id));
        return Err(Failure::usage(format!("`{}` has no such promotion; {there}", args.environment)));
    };
    if let Some(file) = &args.svg {
        std::fs::write(file, report::svg::gates(&attempt))
            .map_err(|e| Failure::world(&format!("cannot write {}", file.display()), &e))?;
    }
    let alone = report::Story { attempts: vec![attempt.clone()], ..story };
    match args.markdown {
        true => desk.voice.say(report::summary_markdown(std::slice::from_ref(&alone)).trim_end()),
        false => {
            history::table(desk, std::slice::from_ref(&alone));
            details(desk, &attempt);
        }
    }
    Ok(Answer::done("shown")
        .with("environment", args.environment.as_str())
        .with("attempt", json!(history::facts(&alone)[0])))
}

/// Looks of a gate that are drawn in a line.
const SPARK_WIDTH: usize = 40;

fn details(desk: &Desk, attempt: &AttemptLine) {
    let voice = &desk.voice;
    for step in &attempt.steps {
        let length = step.until.map_or("under way".to_owned(), |until| until.since(step.from).to_string());
        let sign = if step.passed { voice.good("✓") } else { voice.bad("✗") };
        voice.say(format!("  {sign} {:<28} {}", step.name, voice.dim(length)));
    }
    for gate in &attempt.gates {
        let mark = Mark::of(&gate.verdict);
        let sign = mark.sign().to_string();
        let sign = match mark {
            Mark::Good => voice.good(sign),
            Mark::Bad => voice.bad(sign),
            Mark::Blind | Mark::Undecided => voice.warn(sign),
        };
        voice.say(format!(
            "  {sign} {:<16} {} {}",
            gate.name,
            report::sparkline(gate, SPARK_WIDTH),
            voice.dim(headline(gate.verdict.why()))
        ));
    }
    if let Some(cause) = attempt.cause() {
        voice.say(format!("  {}", voice.bad(cause.sentence())));
    }
    if let Some(until) = attempt.paused_until {
        voice.say(format!("  {}", voice.warn(format!("not the release's doing{}", rests_until(Some(until))))));
    }
    for (at, trouble) in &attempt.troubles {
        voice.say(format!("  {} {trouble}", voice.dim(at.to_string())));
    }
}
