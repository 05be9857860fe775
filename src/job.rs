//! The job file: what to read, what the columns mean, what to train, score and audit, and where the results go.
//!
//! A job is TOML. Inputs are named tables; every data set is a SQL query over them. Text may refer to `${name}`: an entry
//! of `[vars]`, or the job's `name` or `seed`.
//!
//! `load` makes a file's text what it says, a [`JobFile`] (`schema`, one file a section); `validate` makes that a [`Job`].
//! Structs that will have more keys are `non_exhaustive`; so are choices, but for those that training matches on: a new one
//! must not compile until it is trained.

mod json_schema;
mod load;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::ops::Deref;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::error::{Error, Result};

pub use json_schema::json_schema;
pub(crate) use json_schema::json_schema_of;
pub(crate) use read::{parse_toml, read};
pub use schema::{
    AdamKind, AdamSpec, AuditSpec, CheckpointSpec, Curve, DataSpec, DeviceSpec, Embeddings, EvaluationSpec, HeadKind,
    ImputedError, JobFile, Lambda, LossSpec, Method, Metric, ModelKind, ModelSpec, OptimizerSpec, Phi, PointLoss,
    Population, Precision, PropensitySource, PropensitySpec, Regularizer, Schedule, ScoreSpec, Shape, TableSpec,
    TrainSpec, Unknown,
};

/// A job whose file makes sense: what its sections say is read from it as from a [`JobFile`], and cannot be changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "JobFile", into = "JobFile")]
pub struct Job(JobFile);

impl Deref for Job {
    type Target = JobFile;

    fn deref(&self) -> &JobFile {
        &self.0
    }
}

impl TryFrom<JobFile> for Job {
    type Error = Error;

    /// # Errors
    /// Where a value is out of range, or two do not go together. The message names the key.
    fn try_from(file: JobFile) -> Result<Self> {
        file.validate()?;
        Ok(Self(file))
    }
}

impl From<Job> for JobFile {
    fn from(job: Job) -> Self {
        job.0
    }
}

/// The column of a query's result that plays each role. A role without a column is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// User identity: integers or text.
    pub user: Option<String>,
    /// Item identity: integers or text.
    pub item: Option<String>,
    /// o: whether the outcome was let happen (clicked, exposed, rated). Boolean, or a number that is 0 or 1.
    pub treated: Option<String>,
    /// r: known only where treated; 0 to 1 (conversion, or a binarised rating).
    pub outcome: Option<String>,
    /// p̂: the probability of being treated.
    pub propensity: Option<String>,
    /// The propensity before the last change of its model, to compare with.
    pub propensity_before: Option<String>,
    /// r̂: the predicted outcome.
    pub prediction: Option<String>,
    /// e: the error of the prediction; derived from prediction and outcome where absent.
    pub error: Option<String>,
    /// ê: a model's estimate of the error.
    pub imputed_error: Option<String>,
    /// φ: numeric columns, or one column of vectors. Absent, φ = 1.
    pub phi: Vec<String>,
    /// The true probability of the outcome, known in simulations: with it an audit shows the true error.
    pub true_conversion: Option<String>,
    /// The true propensity, known in simulations.
    pub true_propensity: Option<String>,
    /// When the row was made: a date, a moment (its date is taken), or numbers or text in the order of the days.
    pub day: Option<String>,
}

impl Columns {
    /// These roles, with those that `over` names taken from there.
    pub fn overridden(&self, over: &Self) -> Self {
        let either = |ours: &Option<String>, theirs: &Option<String>| theirs.clone().or_else(|| ours.clone());
        Self {
            user: either(&self.user, &over.user),
            item: either(&self.item, &over.item),
            treated: either(&self.treated, &over.treated),
            outcome: either(&self.outcome, &over.outcome),
            propensity: either(&self.propensity, &over.propensity),
            propensity_before: either(&self.propensity_before, &over.propensity_before),
            prediction: either(&self.prediction, &over.prediction),
            error: either(&self.error, &over.error),
            imputed_error: either(&self.imputed_error, &over.imputed_error),
            phi: if over.phi.is_empty() { self.phi.clone() } else { over.phi.clone() },
            true_conversion: either(&self.true_conversion, &over.true_conversion),
            true_propensity: either(&self.true_propensity, &over.true_propensity),
            day: either(&self.day, &over.day),
        }
    }
}

/// What a job file calls a value that is chosen by its name.
pub(crate) fn name_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Json::String(name)) => name,
        other => unreachable!("a name is text, not {other:?}"),
    }
}

/// Keys of a job that say where results go and what the machine may use, not what is learned.
const NOT_LEARNED: [&str; 9] =
    ["audit", "name", "score", "session", "train.checkpoint", "train.output", "train.preset", "train.timing", "vars"];

/// Every key of a job, given as JSON, that has a bearing on what is learned, by its dotted path.
pub(crate) fn settings_of(job: &Json) -> BTreeMap<String, Json> {
    // What a table is checked against changes nothing of what it holds.
    let is_expectation = |path: &str| path.starts_with("tables.") && path.ends_with(".expect");
    let mut settings = BTreeMap::new();
    let mut open = vec![(String::new(), job)];
    while let Some((path, value)) = open.pop() {
        match value {
            _ if NOT_LEARNED.contains(&&*path) || is_expectation(&path) => {}
            Json::Null => {}
            Json::Object(inner) => {
                let prefix = if path.is_empty() { path } else { path + "." };
                open.extend(inner.iter().map(|(key, value)| (format!("{prefix}{key}"), value)));
            }
            value => drop(settings.insert(path, value.clone())),
        }
    }
    settings
}
