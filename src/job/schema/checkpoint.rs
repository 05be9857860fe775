//! `[train.checkpoint]`: what an unfinished run keeps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an unfinished run keeps, in the folder `resume/` of the model folder, until it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CheckpointSpec {
    /// Seconds between two writes, each at the end of an epoch; 0 writes after every epoch.
    pub every_seconds: u64,
    /// Whether to go on from what an unfinished run kept.
    pub resume: bool,
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        Self { every_seconds: 300, resume: false }
    }
}
