//! One object of a release, and where it was written.

use serde_json::Value;

use crate::clients::kube::ObjectId;

/// One object that a release wants in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub id: ObjectId,
    pub object: Value,
    /// The file in the release, or the renderer's name for it.
    pub file: String,
    /// The line its document begins on, from 1; 0 where the renderer does not say.
    pub line: usize,
}
