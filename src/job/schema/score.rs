//! `[score]`: what to score.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to score: a table, file by file, or the rows of a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ScoreSpec {
    /// Name of the input table, one of `[tables]`: each of its files is scored into one at the same place below `output`.
    /// Either this or `query` is given.
    pub table: Option<String>,
    /// SQL over `[tables]` whose rows are scored, in its order, into files of some millions of rows.
    pub query: Option<String>,
    /// Columns of `query` by whose values the output is laid out in folders, `day=2026-11-24/`; rows are sorted by them.
    #[serde(default)]
    pub partition_by: Vec<String>,
    /// URL of the model folder; by default the one that `[train]` writes.
    pub model: Option<String>,
    /// URL of the folder that the scored files are written to. It holds nothing else.
    pub output: String,
    /// What an unknown user or item gets.
    #[serde(default)]
    pub unknown: Unknown,
    /// What a model gets whose training was interrupted or diverged.
    #[serde(default)]
    pub unfinished: Unfinished,
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

/// What is done with a model whose training did not come to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unfinished {
    /// It is refused.
    #[default]
    Error,
    /// It is used, with a warning.
    Warn,
}
