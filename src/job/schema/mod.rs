//! What a job file says, one file a section.

mod audit;
mod checkpoint;
mod data;
mod device;
mod evaluation;
mod lambda;
mod loss;
mod method;
mod model;
mod optimizer;
mod population;
mod propensity;
mod score;
mod secret;
mod storage;
mod table;
mod train;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use audit::AuditSpec;
pub use checkpoint::{CheckpointSpec, Resume};
pub use data::{DataSpec, Split};
pub use device::DeviceSpec;
pub use evaluation::{EvaluationSpec, Metric};
pub use lambda::{Curve, Lambda, Schedule};
pub use loss::{ImputedError, LossSpec, Phi, PointLoss, Regularizer};
pub use method::{EstimateFormula, Method, MethodInfo, methods_markdown};
pub use model::{Embeddings, HeadKind, ModelKind, ModelSpec};
pub use optimizer::{AdamKind, AdamSpec, OptimizerSpec};
pub use population::{Population, Shape};
pub use propensity::{PropensitySource, PropensitySpec};
pub use score::{ScoreSpec, Unfinished, Unknown};
pub use secret::Secret;
pub use storage::StorageSpec;
pub use table::TableSpec;
pub use train::{Precision, TrainSpec};

use super::Columns;
use crate::session::SessionOptions;

/// What a job file says, section by section, whether or not it makes sense together; a [`Job`](super::Job) is one that
/// does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct JobFile {
    /// The job's name: the `table` label of its metrics, and the default of report titles.
    pub name: String,
    /// Seeds every random choice.
    #[serde(default)]
    pub seed: u64,
    /// Where models are trained and scored.
    #[serde(default)]
    pub device: DeviceSpec,
    /// Text that `${NAME}` stands for elsewhere in the file, and `${NAME:sql}` as a value in SQL: in quotes.
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    /// Variables that nobody is to see: in messages, logs and whatever is written, `***` stands in their place.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    /// What queries may use of the machine.
    #[serde(default)]
    pub session: SessionOptions,
    /// How stores are asked.
    #[serde(default)]
    pub storage: StorageSpec,
    /// Input tables by name: files at a URL each.
    #[serde(default)]
    pub tables: BTreeMap<String, TableSpec>,
    /// The column of a query's result that plays each role. A role without a column is absent.
    #[serde(default)]
    pub columns: Columns,
    /// The population D: what a row is, and what all of it is.
    #[serde(default)]
    pub population: Population,
    /// What to train, on what: `counterweight train`.
    pub train: Option<TrainSpec>,
    /// A table to score: `counterweight score`.
    pub score: Option<ScoreSpec>,
    /// Tables to audit, by the audit's name: `counterweight audit`.
    #[serde(default)]
    pub audit: BTreeMap<String, AuditSpec>,
}

fn one() -> f64 {
    1.0
}
