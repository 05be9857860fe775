//! `[population]`: what a row is, and what all of the population is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The population D.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Population {
    /// What a row of a data set is.
    pub shape: Shape,
    /// A query whose first column lists every user; by default those of the training set. Further columns are covariates
    /// of propensities by `logistic` regression. Matrix shape only.
    pub users: Option<String>,
    /// A query whose first column lists every item; by default those of the training set. Further columns are covariates
    /// of propensities by `logistic` regression. Matrix shape only.
    pub items: Option<String>,
}

/// What a row of a data set is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Every exposure is a row, untreated ones included: the rows are the population.
    #[default]
    Log,
    /// The rows are the treated pairs; the population is all users × all items.
    Matrix,
}
