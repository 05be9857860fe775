//! `[score]`: a table to score.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A table to score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ScoreSpec {
    /// Name of the input table, one of `[tables]`.
    pub table: String,
    /// URL of the model folder; by default the one that `[train]` writes.
    pub model: Option<String>,
    /// URL of the folder that the scored files are written to, laid out as the input's.
    pub output: String,
    /// What an unknown user or item gets.
    #[serde(default)]
    pub unknown: Unknown,
    /// Whether to write the φ that the model was trained with: a column `phi` of vectors.
    #[serde(default)]
    pub phi: bool,
}

/// What a user or item that the model never saw gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// The run stops and names it.
    #[default]
    Error,
    /// The mean embedding and bias of those known.
    Average,
}
