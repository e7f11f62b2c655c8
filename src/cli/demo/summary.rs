use serde_json::{Value, json};

use super::super::{answer::Failure, desk::Desk, history};

/// What happened to every bump, from the ledger alone; and what the users saw of it.
pub async fn show(desk: &Desk, (good, bad): (u64, u64)) -> Result<Value, Failure> {
    let voice = &desk.voice;
    voice.say("");
    voice.say(voice.bold("── What happened, as the ledger has it"));
    let mut stories = Vec::new();
    for environment in &desk.pipeline.environments {
        stories.push(history::story(desk, &environment.name, usize::MAX).await?);
    }
    history::table(desk, &stories);
    let share = 100.0 * bad as f64 / (good + bad).max(1) as f64;
    voice.say(format!("production's users made {} requests; {bad} of them failed ({share:.2} %)", good + bad));
    let mut facts: serde_json::Map<String, Value> =
        stories.iter().map(|story| (story.environment.to_string(), history::facts(story))).collect();
    facts.insert("requests".to_owned(), json!({ "good": good, "bad": bad }));
    Ok(Value::Object(facts))
}
