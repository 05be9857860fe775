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
mod roles;
mod schema;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::error::Result;
use crate::redact::redact_json;

pub use json_schema::json_schema;
pub(crate) use json_schema::json_schema_of;
pub(crate) use read::{parse_toml, read};
pub use roles::{ColumnKind, Columns, Role};
pub use schema::{
    AdamKind, AdamSpec, AuditSpec, CheckpointSpec, Curve, DataSpec, DeviceSpec, Embeddings, EstimateFormula,
    EvaluationSpec, HeadKind, ImputedError, JobFile, Lambda, LossSpec, Method, MethodInfo, Metric, ModelKind,
    ModelSpec, OptimizerSpec, Phi, PointLoss, Population, Precision, PropensitySource, PropensitySpec, Regularizer,
    Resume, Schedule, ScoreSpec, Secret, Shape, Split, StorageSpec, TableSpec, TrainSpec, Unfinished, Unknown,
    methods_markdown,
};

/// A job whose file makes sense: what its sections say is read from it as from a [`JobFile`], and cannot be changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Job {
    file: JobFile,
    #[serde(skip)]
    source: JobSource,
}

/// What a job was parsed from: with it another process parses the same job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobSource {
    /// The text of the job file.
    pub text: String,
    /// The assignments that were made after it, as [`Job::parse`] takes them.
    pub assignments: Vec<String>,
}

impl Job {
    fn new(file: JobFile, source: JobSource) -> Result<Self> {
        file.validate()?;
        Ok(Self { file, source })
    }

    /// What it was parsed from.
    pub fn source(&self) -> &JobSource {
        &self.source
    }
}

impl Deref for Job {
    type Target = JobFile;

    fn deref(&self) -> &JobFile {
        &self.file
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
const NOT_LEARNED: [&str; 12] = [
    "audit",
    "columns.cluster",
    "name",
    "score",
    "secrets",
    "session",
    "storage",
    "train.checkpoint",
    "train.output",
    "train.preset",
    "train.timing",
    "vars",
];

/// Every key of a job, given as JSON, that has a bearing on what is learned, by its dotted path, without
/// [what nobody is to see](crate::redact).
pub fn settings_of(job: &Json) -> BTreeMap<String, Json> {
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
            value => {
                let mut value = value.clone();
                redact_json(&mut value);
                settings.insert(path, value);
            }
        }
    }
    settings
}
