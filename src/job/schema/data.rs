//! `[train.data]`: the data sets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Queries that give the data sets, with the columns that `[columns]` names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DataSpec {
    /// The biased log to learn from.
    pub train: String,
    /// Rows that decide when to stop: treated ones, better yet a uniform sample.
    pub validation: String,
    /// Rows that are evaluated once, at the end.
    pub test: Option<String>,
    /// Rows of a uniform sample, for propensities by naive Bayes.
    pub uniform: Option<String>,
}
