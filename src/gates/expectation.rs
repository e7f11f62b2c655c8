//! What a person expects, as data that is checked once.

use std::{collections::BTreeMap, fmt, num::NonZeroU32};

use jsonpath_rust::{JsonPath as _, parser::parse_json_path};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::facts::{excerpt, expand};
use crate::model::Rule;

pub(super) fn once() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// The rule of a gate whose configuration has `passes` and `tolerate`.
pub(super) fn expect_rule(config: &Value) -> Rule {
    let number = |key: &str, default: u32| {
        config.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
    };
    Rule::Expect { passes: number("passes", 1), tolerate: number("tolerate", 0) }
}

/// HTTP statuses: `200`, `"2xx"`, `"200-299"`, or a list of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "StatusForm", into = "StatusForm")]
#[schemars(with = "StatusForm")]
pub(super) struct Statuses {
    form: Vec<StatusItem>,
    ranges: Vec<(u16, u16)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a status such as `200`, `2xx`, `200-299`, or a list of these")]
enum StatusForm {
    One(StatusItem),
    Several(Vec<StatusItem>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a status such as `200`, `2xx` or `200-299`")]
enum StatusItem {
    Code(u16),
    Range(String),
}

impl Default for Statuses {
    fn default() -> Statuses {
        Statuses { form: vec![StatusItem::Range("2xx".to_owned())], ranges: vec![(200, 299)] }
    }
}

impl Statuses {
    pub fn contains(&self, status: u16) -> bool {
        self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.form.iter().map(|item| match item {
            StatusItem::Code(code) => code.to_string(),
            StatusItem::Range(text) => text.clone(),
        });
        f.write_str(&items.collect::<Vec<_>>().join(" or "))
    }
}

impl TryFrom<StatusForm> for Statuses {
    type Error = String;
    fn try_from(form: StatusForm) -> Result<Statuses, String> {
        let form = match form {
            StatusForm::One(item) => vec![item],
            StatusForm::Several(items) => items,
        };
        if form.is_empty() {
            return Err("an empty list of statuses can never be met".to_owned());
        }
        let ranges = form.iter().map(StatusItem::range).collect::<Result<_, _>>()?;
        Ok(Statuses { form, ranges })
    }
}

impl From<Statuses> for StatusForm {
    fn from(statuses: Statuses) -> StatusForm {
        match <[StatusItem; 1]>::try_from(statuses.form) {
            Ok([one]) => StatusForm::One(one),
            Err(several) => StatusForm::Several(several),
        }
    }
}

impl StatusItem {
    fn range(&self) -> Result<(u16, u16), String> {
        let (from, to) = match self {
            StatusItem::Code(code) => (*code, *code),
            StatusItem::Range(text) => StatusItem::read(text)
                .ok_or_else(|| format!("`{text}` is no status; write `200`, `2xx`, `200-299`, or a list of these"))?,
        };
        match (100..=599).contains(&from) && (100..=599).contains(&to) && from <= to {
            true => Ok((from, to)),
            false => Err(format!("statuses go from 100 to 599, first the lower: {from}-{to}")),
        }
    }

    fn read(text: &str) -> Option<(u16, u16)> {
        let text = text.trim();
        if let Some(class) = text.strip_suffix("xx") {
            let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
            return Some((class * 100, class * 100 + 99));
        }
        match text.split_once('-') {
            Some((from, to)) => Some((from.trim().parse().ok()?, to.trim().parse().ok()?)),
            None => text.parse().ok().map(|code| (code, code)),
        }
    }
}

/// A regular expression that has been tried.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub(super) struct Pattern(Regex);

impl Pattern {
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(text: String) -> Result<Pattern, String> {
        let last = |error: regex::Error| error.to_string().lines().last().unwrap_or_default().trim().to_owned();
        Regex::new(&text).map(Pattern).map_err(|error| format!("not a regular expression: {}", last(error)))
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0.as_str().to_owned()
    }
}

/// A JSON path that has been tried, such as `$.checks[0].ok`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub(super) struct JsonPath(String);

impl TryFrom<String> for JsonPath {
    type Error = String;
    fn try_from(text: String) -> Result<JsonPath, String> {
        match parse_json_path(&text) {
            Ok(_) => Ok(JsonPath(text)),
            Err(_) => Err(format!("`{text}` is not a JSON path; write for example `$.checks[0].ok`")),
        }
    }
}

impl From<JsonPath> for String {
    fn from(path: JsonPath) -> String {
        path.0
    }
}

/// What a text must be like; a plain text stands for `equals`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text, or `equals`, `contains` or `regex`")]
pub(super) enum TextRule {
    Exactly(String),
    Like(TextLike),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TextLike {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<Pattern>,
}

impl TextRule {
    /// Puts facts in place of `${name}`, but not in a pattern.
    pub fn fill(&mut self, facts: &BTreeMap<String, String>) -> Result<(), String> {
        match self {
            TextRule::Exactly(text) => *text = expand(text, facts)?,
            TextRule::Like(like) => {
                for text in [&mut like.equals, &mut like.contains].into_iter().flatten() {
                    *text = expand(text, facts)?;
                }
            }
        }
        Ok(())
    }

    /// What is wrong with the text, if anything.
    pub fn complaint(&self, text: &str) -> Option<String> {
        match self {
            TextRule::Exactly(wanted) => equals(wanted, text),
            TextRule::Like(like) => like.complaint(text),
        }
    }
}

impl TextLike {
    /// What is wrong with the text, if anything.
    pub fn complaint(&self, text: &str) -> Option<String> {
        if let Some(complaint) = self.equals.as_ref().and_then(|wanted| equals(wanted, text)) {
            return Some(complaint);
        }
        if let Some(part) = self.contains.as_ref().filter(|part| !text.contains(part.as_str())) {
            return Some(format!("does not contain `{}`: {}", excerpt(part), excerpt(text)));
        }
        let pattern = self.regex.as_ref().filter(|pattern| !pattern.matches(text))?;
        Some(format!("does not match `{}`: {}", excerpt(pattern.0.as_str()), excerpt(text)))
    }
}

fn equals(wanted: &str, text: &str) -> Option<String> {
    (wanted != text).then(|| format!("is `{}`, not `{}`", excerpt(text), excerpt(wanted)))
}

/// What must stand at a place of a JSON document.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JsonRule {
    /// Such as `$.checks[0].ok`.
    pub path: JsonPath,
    /// The value that must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    /// A pattern for the value, written as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<Pattern>,
    /// Whether anything must be there; `true` unless said otherwise.
    #[serde(default = "yes")]
    pub exists: bool,
}

fn yes() -> bool {
    true
}

impl JsonRule {
    /// Puts facts in place of `${name}` in the value that must be there.
    pub fn fill(&mut self, facts: &BTreeMap<String, String>) -> Result<(), String> {
        if let Some(Value::String(text)) = &mut self.equals {
            *text = expand(text, facts)?;
        }
        Ok(())
    }

    /// What is wrong with the document, if anything. Of several values at the place each must be right.
    pub fn complaint(&self, document: &Value) -> Option<String> {
        let path = &self.path.0;
        let found = document.query(path).unwrap_or_default();
        match (self.exists, found.is_empty()) {
            (true, true) => return Some(format!("has nothing at `{path}`")),
            (false, false) => return Some(format!("has something at `{path}`: {}", excerpt(&text_of(found[0])))),
            (false, true) => return None,
            (true, false) => {}
        }
        found.into_iter().find_map(|value| {
            let shown = text_of(value);
            if let Some(wanted) = self.equals.as_ref().filter(|wanted| !same(wanted, value)) {
                return Some(format!("has `{}` at `{path}`, not `{}`", excerpt(&shown), excerpt(&text_of(wanted))));
            }
            let pattern = self.regex.as_ref().filter(|pattern| !pattern.matches(&shown))?;
            Some(format!("has `{}` at `{path}`, which does not match `{}`", excerpt(&shown), pattern.0.as_str()))
        })
    }
}

/// A text as itself, everything else as JSON.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Numbers by their value: `1` is `1.0`.
fn same(wanted: &Value, found: &Value) -> bool {
    match (wanted.as_f64(), found.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => wanted == found,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_are_codes_classes_ranges_and_lists() {
        for (text, good, bad) in [
            ("200", 200, 201),
            ("\"2xx\"", 299, 300),
            ("\"200-299\"", 250, 199),
            ("[403, 424]", 424, 200),
            ("[\"2xx\", 404]", 404, 403),
            ("\"403\"", 403, 402),
        ] {
            let statuses: Statuses = serde_json::from_str(text).expect(text);
            assert!(statuses.contains(good) && !statuses.contains(bad), "{text}");
            let again: Statuses = serde_json::from_str(&serde_json::to_string(&statuses).expect(text)).expect(text);
            assert_eq!(again, statuses, "{text}");
        }
        for wrong in ["[]", "99", "600", "\"6xx\"", "\"299-200\"", "\"ok\"", "true", "\"20x\""] {
            assert!(serde_json::from_str::<Statuses>(wrong).is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn json_is_looked_into() {
        let document = json!({"ok": true, "checks": [{"n": 1, "ok": true}, {"n": 2, "ok": false}], "v": "1.2.3"});
        let rule = |text: &str| serde_json::from_str::<JsonRule>(text).expect(text);
        for good in [
            r#"{"path": "$.ok", "equals": true}"#,
            r#"{"path": "$.checks[0].n", "equals": 1.0}"#,
            r#"{"path": "$.v", "regex": "^1\\.2"}"#,
            r#"{"path": "$.v"}"#,
            r#"{"path": "$.error", "exists": false}"#,
        ] {
            assert_eq!(rule(good).complaint(&document), None, "{good}");
        }
        for (bad, says) in [
            (r#"{"path": "$.checks[*].ok", "equals": true}"#, "has `false` at `$.checks[*].ok`, not `true`"),
            (r#"{"path": "$.nothing"}"#, "has nothing at `$.nothing`"),
            (r#"{"path": "$.v", "exists": false}"#, "has something at `$.v`: 1.2.3"),
            (r#"{"path": "$.v", "regex": "^2"}"#, "has `1.2.3` at `$.v`, which does not match `^2`"),
        ] {
            assert_eq!(rule(bad).complaint(&document).as_deref(), Some(says), "{bad}");
        }
        assert!(serde_json::from_str::<JsonRule>(r#"{"path": "$["}"#).is_err());
    }

    #[test]
    fn texts_are_compared_searched_and_matched() {
        let rule = |text: &str| serde_json::from_str::<TextRule>(text).expect(text);
        assert_eq!(rule("\"a\"").complaint("b").as_deref(), Some("is `b`, not `a`"));
        assert_eq!(rule(r#"{"contains": "a"}"#).complaint("cab"), None);
        assert!(rule(r#"{"regex": "^a$"}"#).complaint("ab").is_some());
        assert!(serde_json::from_str::<TextRule>(r#"{"regex": "("}"#).is_err());
        assert!(serde_json::from_str::<TextRule>(r#"{"contians": "a"}"#).is_err());
    }
}
