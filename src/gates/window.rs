use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Entry, Gate, Scene};
use crate::{
    judge::validate_window,
    model::{Rule, Saw, WindowRule},
    pipeline::{GateKind, Kind, checked},
};

pub const ENTRY: Entry = Entry {
    kind: GateKind {
        kind: Kind {
            name: "window",
            about: "lets changes in only on some days, between some hours",
            help: HELP,
            example: EXAMPLE,
            check: checked::<Config>,
            schema: |generator| generator.subschema_for::<Config>(),
        },
        rule,
    },
    build: |config| Ok(Box::new(serde_json::from_value::<Config>(config.clone())?)),
};

const HELP: &str = "\
Lets a promotion start only inside the window: on these days, from the first time to the second (not included), as the clocks
of the zone show it, summer time included. Days are `mon` to `sun`, a range such as `mon-fri`, or a list.

A rollback never waits for a window.";

const EXAMPLE: &str = "\
- window:
    zone: Europe/Zurich
    days: mon-fri
    from: \"09:00\"
    until: \"16:00\"
  name: office-hours
";

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Form", into = "Form")]
#[schemars(with = "Form")]
struct Config {
    form: Form,
    rule: WindowRule,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WindowGate")]
struct Form {
    /// An IANA zone name, such as `Europe/Zurich` or `UTC`.
    zone: String,
    /// `mon-fri`, `sat`, or a list of these; every day unless said otherwise.
    #[serde(default = "every_day")]
    days: Days,
    /// Such as `"09:00"`.
    from: String,
    /// Such as `"16:00"`, not included; `"24:00"` is the end of the day.
    until: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected days such as `mon-fri`, or a list of days")]
enum Days {
    One(String),
    Several(Vec<String>),
}

fn every_day() -> Days {
    Days::One("mon-sun".to_owned())
}

const DAY_NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl TryFrom<Form> for Config {
    type Error = String;
    fn try_from(form: Form) -> Result<Config, String> {
        let rule = WindowRule {
            zone: form.zone.clone(),
            days: form.days.numbers()?,
            from_minute: minute("from", &form.from)?,
            until_minute: minute("until", &form.until)?,
        };
        validate_window(&rule)?;
        Ok(Config { form, rule })
    }
}

impl From<Config> for Form {
    fn from(config: Config) -> Form {
        config.form
    }
}

impl Days {
    fn numbers(&self) -> Result<Vec<u8>, String> {
        let items: &[String] = match self {
            Days::One(item) => std::slice::from_ref(item),
            Days::Several(items) => items,
        };
        let mut numbers = Vec::new();
        for item in items {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let (first, last) = (day(first)?, day(last)?);
            // `fri-mon` goes over the end of the week.
            let length = (last + 7 - first) % 7;
            numbers.extend((0..=length).map(|n| (first - 1 + n) % 7 + 1));
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }
}

/// 1 is Monday.
fn day(text: &str) -> Result<u8, String> {
    let text = text.trim().to_ascii_lowercase();
    let found = (1..).zip(DAY_NAMES).find(|(_, name)| text.len() >= 3 && (text == *name || full_name(name) == text));
    found
        .map(|(number, _)| number)
        .ok_or_else(|| format!("`{text}` is not a day; the days are {}", DAY_NAMES.join(", ")))
}

fn full_name(name: &str) -> String {
    let rest = match name {
        "tue" => "sday",
        "wed" => "nesday",
        "thu" => "rsday",
        "sat" => "urday",
        _ => "day",
    };
    format!("{name}{rest}")
}

/// Minutes since midnight.
fn minute(key: &str, text: &str) -> Result<u16, String> {
    let wrong = || format!("`{key}: {text}` is not a time of day; write it in quotes, such as `\"09:00\"`");
    let (hour, minute) = text.trim().split_once(':').ok_or_else(wrong)?;
    if minute.len() != 2 || hour.is_empty() || hour.len() > 2 {
        return Err(wrong());
    }
    let hour: u16 = hour.parse().map_err(|_| wrong())?;
    let minute: u16 = minute.parse().map_err(|_| wrong())?;
    let whole = hour * 60 + minute;
    if minute < 60 && whole <= 24 * 60 { Ok(whole) } else { Err(wrong()) }
}

fn rule(config: &Value) -> Rule {
    let config: Config = serde_json::from_value(config.clone()).expect("only checked configurations come here");
    Rule::Window(config.rule)
}

impl Gate for Config {
    fn look<'a>(&'a self, _: &'a Scene) -> BoxFuture<'a, Saw> {
        Box::pin(async { Saw::Blind("a window is judged by the clock; there is nothing to look at".to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn windows_are_read_and_refused() {
        let read = |days: Value, from: &str, until: &str| {
            serde_json::from_value::<Config>(json!({"zone": "UTC", "days": days, "from": from, "until": until}))
        };
        for (days, numbers) in [
            (json!("mon-fri"), vec![1, 2, 3, 4, 5]),
            (json!("fri-mon"), vec![1, 5, 6, 7]),
            (json!(["Sat", "sunday"]), vec![6, 7]),
            (json!("wed"), vec![3]),
        ] {
            assert_eq!(read(days.clone(), "9:00", "24:00").expect("a window").rule.days, numbers, "{days}");
        }
        let rule = read(json!("mon"), "09:05", "16:30").expect("a window").rule;
        assert_eq!((rule.from_minute, rule.until_minute), (545, 990));
        for (days, from, until) in
            [("mon", "16:00", "09:00"), ("mon", "9", "10:00"), ("mon", "09:60", "10:00"), ("moon", "09:00", "10:00")]
        {
            assert!(read(json!(days), from, until).is_err(), "{days} {from} {until}");
        }
        let mars = json!({"zone": "Mars/Base", "from": "09:00", "until": "10:00"});
        assert!(
            serde_json::from_value::<Config>(mars).expect_err("no such zone").to_string().contains("Europe/Zurich")
        );
    }
}
