//! Listens to a kernel and decides; every rule was learnt from a real failure.

use super::wire::Message;
use crate::{gates::facts::excerpt, model::Span};

/// What was heard so far in answer to one request.
#[derive(Debug, Clone)]
pub(super) struct Hearing {
    request: String,
    expected: String,
    replied: bool,
    result: Option<String>,
    /// The kernel is done with our request, as it says itself; alone that means nothing.
    idle: bool,
    busy: bool,
}

impl Hearing {
    pub fn of(request: &str, expected: &str) -> Hearing {
        let (request, expected) = (request.to_owned(), expected.trim().to_owned());
        Hearing { request, expected, replied: false, result: None, idle: false, busy: false }
    }

    /// Takes in a message; the verdict as soon as there is one, an error being a sentence.
    pub fn hear(&mut self, message: &Message) -> Option<Result<(), String>> {
        if let Some(death) = message.death() {
            return Some(Err(death));
        }
        // Left-over replies to other requests say `ok`, too, and have made dead kernels look good.
        if !message.answers(&self.request) {
            return None;
        }
        match message.kind() {
            "execute_reply" if message.channel == "shell" => match message.content["status"].as_str() {
                Some("ok") => self.replied = true,
                Some("error") => return Some(Err(raised(message))),
                other => return Some(Err(format!("the kernel replied `{}`", other.unwrap_or("nothing")))),
            },
            "error" => return Some(Err(raised(message))),
            "execute_result" => self.result = message.content.pointer("/data/text~1plain").map(text),
            "status" => match message.content["execution_state"].as_str() {
                Some("idle") => self.idle = true,
                Some("busy") => self.busy = true,
                Some(_) | None => {}
            },
            _ => {}
        }
        self.verdict()
    }

    fn verdict(&self) -> Option<Result<(), String>> {
        match &self.result {
            Some(result) if *result != self.expected => {
                Some(Err(format!("the result is `{}`, not `{}`", excerpt(result), excerpt(&self.expected))))
            }
            Some(_) => self.replied.then_some(Ok(())),
            // Results come before the kernel calls itself idle.
            None if self.replied && self.idle => {
                Some(Err(format!("the kernel executed the code and gave no result, not `{}`", excerpt(&self.expected))))
            }
            None => None,
        }
    }

    /// What to say when the time is over.
    pub fn silence(&self, after: Span) -> String {
        let missing = match (self.replied, self.result.is_some()) {
            (false, false) => "neither a reply nor a result",
            (false, true) => "no reply",
            (true, _) => "no result",
        };
        let state = match (self.idle, self.busy) {
            (true, _) => "the kernel calls itself idle",
            (false, true) => "the kernel is busy",
            (false, false) => "the kernel did not take up the request",
        };
        format!("the code never executed: {missing} within {after}, although {state}")
            .replace("although the kernel did not", "and the kernel did not")
    }
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned).trim().to_owned()
}

fn raised(message: &Message) -> String {
    let part = |key: &str| message.content[key].as_str().unwrap_or_default();
    format!("the code raised {}", excerpt(&format!("{}: {}", part("ename"), part("evalue"))))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn message(channel: &str, parent: &str, kind: &str, content: Value) -> Message {
        let (header, parent) = (json!({"msg_type": kind, "msg_id": "x"}), json!({"msg_id": parent}));
        Message { channel: channel.to_owned(), header, parent, content }
    }

    fn status(parent: &str, state: &str) -> Message {
        message("iopub", parent, "status", json!({"execution_state": state}))
    }

    fn reply(parent: &str, status: &str) -> Message {
        message("shell", parent, "execute_reply", json!({"status": status, "ename": "E", "evalue": "v"}))
    }

    fn result(parent: &str, text: &str) -> Message {
        message("iopub", parent, "execute_result", json!({"data": {"text/plain": text}}))
    }

    fn verdict(messages: &[Message]) -> Option<Result<(), String>> {
        let mut hearing = Hearing::of("mine", "2");
        messages.iter().find_map(|message| hearing.hear(message))
    }

    #[test]
    fn a_pass_needs_both_reply_and_result_in_either_order() {
        let good = [status("mine", "busy"), result("mine", "2"), reply("mine", "ok"), status("mine", "idle")];
        assert_eq!(verdict(&good), Some(Ok(())));
        assert_eq!(verdict(&[result("mine", "2"), status("mine", "idle"), reply("mine", "ok")]), Some(Ok(())));
        assert_eq!(verdict(&[result("mine", "2")]), None);
        assert_eq!(verdict(&[reply("mine", "ok")]), None);
        assert_eq!(verdict(&[status("mine", "idle")]), None);
    }

    #[test]
    fn answers_to_others_count_for_nothing() {
        let stray = message("shell", "other", "kernel_info_reply", json!({"status": "ok"}));
        assert_eq!(verdict(&[stray, reply("other", "ok"), result("other", "2"), status("other", "idle")]), None);
        assert_eq!(verdict(&[reply("other", "error")]), None);
    }

    #[test]
    fn death_wrong_results_and_errors_are_told_at_once() {
        let says = |messages: &[Message]| verdict(messages).expect("a verdict").expect_err("a bad one");
        assert_eq!(says(&[status("", "restarting")]), "the kernel died: it is `restarting`");
        assert_eq!(says(&[status("other", "dead")]), "the kernel died: it is `dead`");
        assert_eq!(says(&[result("mine", "3")]), "the result is `3`, not `2`");
        assert_eq!(says(&[reply("mine", "error")]), "the code raised E: v");
        assert_eq!(says(&[reply("mine", "aborted")]), "the kernel replied `aborted`");
        assert!(says(&[reply("mine", "ok"), status("mine", "idle")]).contains("gave no result"));
    }

    #[test]
    fn silence_says_what_was_missing() {
        let mut hearing = Hearing::of("mine", "2");
        assert!(hearing.silence(Span::seconds(3)).ends_with("within 3s, and the kernel did not take up the request"));
        hearing.hear(&status("mine", "busy"));
        hearing.hear(&status("mine", "idle"));
        assert_eq!(
            hearing.silence(Span::seconds(3)),
            "the code never executed: neither a reply nor a result within 3s, although the kernel calls itself idle"
        );
    }
}
