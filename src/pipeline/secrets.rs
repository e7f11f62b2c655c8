//! A pipeline file is read by everyone and ends up in logs: no secret may stand in it.

use super::{Fault, Node, node::Content, section::Faults};

/// How tokens of well-known services begin.
const TOKEN_STARTS: [&str; 11] =
    ["ghp_", "gho_", "ghs_", "ghu_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "xapp-", "AKIA", "eyJhbGci"];

/// Reports every place that holds a secret, or looks as if it did.
pub(super) fn look_for(root: &Node, faults: &Faults) {
    // A stack of our own: the tree may be deep.
    let mut rest = vec![root];
    while let Some(node) = rest.pop() {
        match &node.content {
            Content::Scalar { text, .. } => {
                if looks_like_a_token(text) {
                    faults.add(secret(node));
                }
            }
            Content::List(items) => rest.extend(items),
            Content::Map(entries) => {
                for (key, value) in entries {
                    match value.text() {
                        Some(text) if is_secret_key(&key.text) && !looks_like_a_token(text) => {
                            faults.keep(variable(value));
                        }
                        _ => rest.push(value),
                    }
                }
            }
        }
    }
}

/// The name of an environment variable, and nothing that could be a secret itself.
pub(super) fn variable(node: &Node) -> Result<String, Fault> {
    let text: String = node.read()?;
    let ok = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    match text.chars().all(ok) && text.starts_with(|c: char| !c.is_ascii_digit()) && text.len() <= 100 {
        true => Ok(text),
        false => Err(secret(node)),
    }
}

fn secret(node: &Node) -> Fault {
    let mut fault = node.fault("a secret must not stand in a pipeline file");
    fault.secret = true;
    fault.help("put it into an environment variable and write its name here, in capitals: `HUB_TOKEN`")
}

fn is_secret_key(key: &str) -> bool {
    let key = key.to_lowercase().replace('-', "_");
    let words = ["token", "password", "passwd", "secret", "api_key", "apikey"];
    words.iter().any(|word| key == *word || key.ends_with(&format!("_{word}")))
}

fn looks_like_a_token(text: &str) -> bool {
    let text = text.trim();
    let begins = |part: &str| TOKEN_STARTS.iter().any(|start| part.len() > start.len() + 8 && part.starts_with(start));
    let bearer = text.split_once(' ').is_some_and(|(scheme, rest)| {
        matches!(scheme.to_lowercase().as_str(), "bearer" | "basic" | "token")
            && rest.len() >= 16
            && !rest.contains([' ', '$'])
    });
    let hook = text.contains("hooks.slack.com/services/T") || text.contains("discord.com/api/webhooks/");
    let key = text.contains("-----BEGIN ");
    bearer || hook || key || text.split(|c: char| c.is_whitespace() || "=:,\"'".contains(c)).any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_from_words() {
        for secret in [
            "ghp_0123456789abcdef",
            "Bearer abcdefghijklmnop",
            "https://hooks.slack.com/services/T000/B000/XXXX",
            "curl -H x:glpat-0123456789",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
        ] {
            assert!(looks_like_a_token(secret), "{secret}");
        }
        for word in [
            "HUB_TOKEN",
            "Bearer ${HUB_TOKEN}",
            "token",
            "ghp_",
            "basic auth",
            "a bearer of news",
            "basic functionality",
        ] {
            assert!(!looks_like_a_token(word), "{word}");
        }
    }

    #[test]
    fn keys_that_hold_secrets() {
        for (key, is) in [("token", true), ("api-key", true), ("hub_token", true), ("tokens", false), ("key", false)] {
            assert_eq!(is_secret_key(key), is, "{key}");
        }
    }
}
