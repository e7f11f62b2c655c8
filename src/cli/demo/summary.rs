use serde_json::Value;

use super::super::{answer::Failure, desk::Desk, history};

/// What happened to every bump, from the ledger alone; and what the users saw of it.
pub async fn show(desk: &Desk, (good, bad): (u64, u64)) -> Result<Value, Failure> {
    desk.voice.say("");
    desk.voice.say(desk.voice.bold("── What happened, as the ledger has it"));
    let mut all = serde_json::Map::new();
    for environment in &desk.pipeline.environments {
        let story = history::story(desk, &environment.name, usize::MAX).await?;
        history::table(desk, &story);
        all.insert(environment.name.to_string(), history::facts(&story));
    }
    let share = 100.0 * bad as f64 / (good + bad).max(1) as f64;
    desk.voice.say(format!("production's users made {} requests; {bad} of them failed ({share:.2}%)", good + bad));
    all.insert("requests".to_owned(), serde_json::json!({ "good": good, "bad": bad }));
    Ok(Value::Object(all))
}
