//! `[train.data]`: the data sets.

use std::fmt;

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

/// What a data set is for: its key in `[train.data]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// [`DataSpec::train`].
    Train,
    /// [`DataSpec::validation`].
    Validation,
    /// [`DataSpec::test`].
    Test,
    /// [`DataSpec::uniform`].
    Uniform,
}

impl Split {
    /// Every split.
    pub const ALL: [Self; 4] = [Self::Train, Self::Validation, Self::Test, Self::Uniform];

    /// Its name: the last part of its key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::Uniform => "uniform",
        }
    }
}

/// Its key in a job file, `train.data.NAME`.
impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "train.data.{}", self.name())
    }
}

impl DataSpec {
    /// The query of a split, where there is one.
    pub fn query(&self, split: Split) -> Option<&str> {
        match split {
            Split::Train => Some(&self.train),
            Split::Validation => Some(&self.validation),
            Split::Test => self.test.as_deref(),
            Split::Uniform => self.uniform.as_deref(),
        }
    }
}
