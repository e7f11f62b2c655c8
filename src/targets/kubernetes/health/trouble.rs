//! What is broken, whose fault it is, and how it is said.

use std::fmt;

use serde_json::Value;

use super::read::id;
use crate::{clients::kube::ObjectId, model::Blame, targets::TargetError};

/// Lines of a container's log that a trouble carries at most.
pub const LOG_LINES_MAX: usize = 10;
/// Characters of one such line.
const LOG_LINE_CHARACTERS_MAX: usize = 200;
/// Characters of a foreign message: it goes into a line for people and into the ledger.
const MESSAGE_CHARACTERS_MAX: usize = 500;

/// Something that waiting does not mend, with what a person needs to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The object that is broken: mostly a pod.
    pub object: ObjectId,
    /// The kubelet's or controller's own word: `ImagePullBackOff`, `CrashLoopBackOff`, `Unschedulable`…
    pub reason: String,
    pub message: String,
    pub container: Option<String>,
    pub node: Option<String>,
    /// The pod that explains it, where the object is what made that pod.
    pub pod: Option<String>,
    /// The last lines that the container wrote.
    pub log: Vec<String>,
    /// A release at fault is kept out; a node that is gone, or a registry that does not answer, is not its doing.
    pub blame: Blame,
}

impl Trouble {
    pub fn new(object: ObjectId, reason: &str, message: impl Into<String>, blame: Blame) -> Trouble {
        let (reason, message) = (reason.to_owned(), one_line(&message.into(), MESSAGE_CHARACTERS_MAX));
        Trouble { object, reason, message, container: None, node: None, pod: None, log: Vec::new(), blame }
    }

    /// A trouble of this pod: with its node, when it has one.
    pub fn of_pod(pod: &Value, reason: &str, message: impl Into<String>, blame: Blame) -> Trouble {
        let node = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
        Trouble { node, ..Trouble::new(id(pod), reason, message, blame) }
    }

    /// The namespace and the name of the pod whose log explains it.
    pub fn pod_place(&self) -> Option<(&str, &str)> {
        let own = (self.object.kind == "Pod").then_some(self.object.name.as_str());
        Some((self.object.namespace.as_deref()?, own.or(self.pod.as_deref())?))
    }

    /// Takes the end of a container's log.
    pub fn with_log(mut self, text: &str) -> Trouble {
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES_MAX)..];
        self.log = last.iter().map(|line| one_line(line, LOG_LINE_CHARACTERS_MAX)).collect();
        self
    }

    /// The cause on one line: what, where, why.
    pub fn headline(&self) -> String {
        let mut text = self.object.to_string();
        if let Some(container) = &self.container {
            text.push_str(&format!(", container {container}"));
        }
        if let Some(node) = &self.node {
            text.push_str(&format!(", on {node}"));
        }
        text.push_str(&format!(": {}", self.reason));
        if !self.message.is_empty() {
            text.push_str(&format!(": {}", self.message));
        }
        text
    }

    /// As the error of a target: the fault of the release, or of the world around it.
    pub fn into_error(self) -> TargetError {
        match self.blame {
            Blame::Release | Blame::Unknown => TargetError::Release(self.to_string()),
            Blame::World => TargetError::World { what: self.to_string(), source: None },
        }
    }
}

/// The headline, and below it the log, indented.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        self.log.iter().try_for_each(|line| write!(f, "\n    | {line}"))
    }
}

/// A foreign text as one line of bounded length, without control characters.
pub(super) fn one_line(text: &str, characters_max: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let words: String = text.trim().chars().map(clean).collect();
    match words.chars().count() > characters_max {
        true => words.chars().take(characters_max).chain(['…']).collect(),
        false => words,
    }
}
