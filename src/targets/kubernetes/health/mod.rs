//! What the status of an object says about it: pure functions of what the API server answered.

use serde_json::Value;

use crate::clients::kube::ObjectId;

/// How an object is doing.
#[derive(Debug, Clone, PartialEq)]
pub enum Health {
    Ready,
    /// Under way; `why` says what is missing, such as `2 of 3 replicas are ready`.
    Progressing { why: String },
    /// It will not become ready by waiting.
    Broken(Trouble),
}

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
    /// The last lines that the container wrote.
    pub log: Vec<String>,
}

/// The health of any object by its own status alone; pods are looked at by `rollout`.
pub fn of(_object: &Value) -> Health {
    Health::Ready
}
