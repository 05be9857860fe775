//! What a batch system plugs in and calls: an operator takes a job's context and gives a report.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::audit::AuditOperator;
use crate::context::JobContext;
use crate::error::{Error, Result};
use crate::external::ExternalOperator;
use crate::job::Job;

/// One kind of work on a job: train, score or audit, or what a host adds.
#[async_trait]
pub trait Operator: Send + Sync {
    /// The operator's name, as on the command line.
    fn name(&self) -> &str;

    /// What can be known before running: sections, queries, columns and their types, device; a finding for each thing that
    /// was looked at. Writes nothing.
    async fn check(&self, context: &JobContext) -> Vec<Finding>;

    /// Does the work. Outputs appear whole, once all of it has succeeded, or not at all.
    ///
    /// An operator cancels nothing but what it has started itself: see [`JobContext::child`].
    async fn run(&self, context: &JobContext) -> Result<Report>;
}

/// The operators that have work in a job, in the order in which they run. Training and scoring are done by the executable
/// `counterweight-train`.
pub fn operators(job: &Job) -> Vec<Arc<dyn Operator>> {
    let mut operators: Vec<Arc<dyn Operator>> = Vec::new();
    if job.train.is_some() {
        operators.push(Arc::new(ExternalOperator::train()));
    }
    if job.score.is_some() {
        operators.push(Arc::new(ExternalOperator::score()));
    }
    if !job.audit.is_empty() {
        operators.push(Arc::new(AuditOperator::default()));
    }
    operators
}

/// One thing that was validated.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finding {
    /// The thing, by the job's key.
    pub what: String,
    /// What is wrong with it, if anything.
    pub problem: Option<Error>,
}

impl Finding {
    /// The finding that a validation gave.
    pub fn new(what: impl Into<String>, result: Result<()>) -> Self {
        Self { what: what.into(), problem: result.err() }
    }

    /// Fails with all the problems of `findings`, if there are any.
    pub fn all(findings: Vec<Self>) -> Result<()> {
        Error::all(findings.into_iter().filter_map(|finding| finding.problem).collect())
    }
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The operator's name.
    pub operator: String,
    /// For a person: tables and figures, several lines.
    pub text: String,
    /// For a program: the same figures.
    pub summary: serde_json::Value,
    /// The few of them that one line of a log tells: an object.
    #[serde(default)]
    pub digest: serde_json::Value,
    /// What was written.
    #[serde(with = "urls")]
    pub outputs: Vec<Url>,
}

impl Report {
    /// A report of the operator of that name.
    pub fn new(operator: &str, text: String, summary: serde_json::Value, outputs: Vec<Url>) -> Self {
        Self { operator: operator.to_owned(), text, summary, digest: serde_json::json!({}), outputs }
    }

    /// The same with what was written.
    #[must_use]
    pub fn with_outputs(self, outputs: Vec<Url>) -> Self {
        Self { outputs, ..self }
    }

    /// The same with the figures that one line of a log tells, an object.
    #[must_use]
    pub fn with_digest(self, digest: serde_json::Value) -> Self {
        Self { digest, ..self }
    }
}

/// URLs as text.
mod urls {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use url::Url;

    pub(super) fn serialize<S: Serializer>(urls: &[Url], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(urls.iter().map(Url::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Url>, D::Error> {
        let urls = Vec::<String>::deserialize(deserializer)?;
        urls.iter().map(|url| Url::parse(url).map_err(de::Error::custom)).collect()
    }
}
