use std::sync::{PoisonError, atomic::Ordering};

use serde_json::{Value, json};

use super::{
    super::{answer::Failure, desk::Desk, history},
    traffic::Served,
};

/// What happened to every bump, from the ledger alone; and what the users saw of it.
pub async fn show(desk: &Desk, served: &Served) -> Result<Value, Failure> {
    let (good, bad) = (served.good.load(Ordering::Relaxed), served.bad.load(Ordering::Relaxed));
    let voice = &desk.voice;
    voice.say("");
    voice.say(voice.bold("── What happened, as the ledger has it"));
    let mut stories = Vec::new();
    for environment in &desk.pipeline.environments {
        stories.push(history::story(desk, &environment.name, usize::MAX).await?);
    }
    history::table(desk, &stories);
    let share = 100.0 * bad as f64 / (good + bad).max(1) as f64;
    let complaints = served.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let listed: Vec<String> = complaints.iter().map(|(what, times)| format!("{times} × {what}")).collect();
    voice.say(format!(
        "production's users made {} requests; {bad} of them failed ({share:.2} %): {}",
        good + bad,
        if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
    ));
    let mut facts: serde_json::Map<String, Value> =
        stories.iter().map(|story| (story.environment.to_string(), history::facts(story))).collect();
    facts.insert("requests".to_owned(), json!({ "good": good, "bad": bad, "complaints": complaints }));
    Ok(Value::Object(facts))
}
