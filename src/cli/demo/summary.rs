use serde_json::Value;

use super::super::{answer::Failure, desk::Desk};

/// What happened to every bump, from the ledger alone; and what the users saw of it.
pub async fn show(desk: &Desk, (good, bad): (u64, u64)) -> Result<Value, Failure> {
    desk.voice.say(format!("production's users made {} requests; {bad} of them failed", good + bad));
    Ok(Value::Null)
}
