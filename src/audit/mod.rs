//! Audits propensities: runs the checks of `sql/` over the tables of a job.

mod auditor;
mod checks;
mod figures;
mod gauges;
mod outcome;
mod results;
mod roles;
mod settings;
mod text;
mod thresholds;
mod verdict;

use std::collections::BTreeMap;
use std::fmt::Write;

use async_trait::async_trait;
use datafusion::dataframe::DataFrame;
use serde_json::{Value, json};

pub use checks::{CHECKS, ListedCheck};

use crate::context::JobContext;
use crate::error::{Error, Result, invalid, suggestion};
use crate::job::{AuditSpec, Job};
use crate::operator::{Finding, Operator, Report};
use crate::storage::parse_url;
use auditor::Auditor;
use outcome::AuditOutcome;
use roles::Roles;

/// Runs the audits of a job: `[audit.NAME]`.
///
/// The summary of its report is `{"audits": {NAME: …}}`, with every figure of every check.
#[derive(Debug, Clone, Default)]
pub struct AuditOperator {
    /// The names of the audits to run; all of them where empty.
    pub audits: Vec<String>,
}

#[async_trait]
impl Operator for AuditOperator {
    fn name(&self) -> &str {
        "audit"
    }

    async fn check(&self, context: &JobContext) -> Vec<Finding> {
        let names = match self.selected(&context.job) {
            Ok(names) => names,
            Err(error) => return vec![Finding::new("[audit]", Err(error))],
        };
        let mut findings = Vec::new();
        for name in &names {
            findings.extend(check_audit(context, name).await);
        }
        if names.len() > 1 {
            findings.push(Finding::new("[audit] outputs", outputs_differ(&context.job, &names)));
        }
        findings
    }

    async fn run(&self, context: &JobContext) -> Result<Report> {
        let job = &context.job;
        let names = self.selected(job)?;
        if names.is_empty() {
            invalid!("the job has no [audit.NAME] section: there is nothing to audit");
        }
        outputs_differ(job, &names)?;
        let mut audits = Vec::with_capacity(names.len());
        for name in names {
            locations(&job.audit[name], name)?;
            audits.push(audit(context, name).await?);
        }
        let outputs = results::write(context, &audits).await?;
        let mut text = String::new();
        for audit in &audits {
            writeln!(text, "{audit}").map_err(std::io::Error::other)?;
        }
        let figures: BTreeMap<&str, Value> = audits.iter().map(|audit| (audit.name.as_str(), audit.json())).collect();
        Ok(Report::new(self.name(), text, json!({ "audits": figures }), outputs))
    }
}

impl AuditOperator {
    /// The names of the audits to run.
    fn selected<'a>(&'a self, job: &'a Job) -> Result<Vec<&'a str>> {
        let known = || job.audit.keys().map(String::as_str);
        if let Some(unknown) = self.audits.iter().find(|name| !job.audit.contains_key(*name)) {
            if job.audit.is_empty() {
                invalid!("there is no audit {unknown:?}: the job has no [audit.NAME] section");
            }
            invalid!("there is no audit {unknown:?}{}", suggestion(unknown, known().collect::<Vec<_>>()));
        }
        Ok(known().filter(|name| self.audits.is_empty() || self.audits.iter().any(|wanted| wanted == name)).collect())
    }
}

/// Runs one audit.
async fn audit(context: &JobContext, name: &str) -> Result<AuditOutcome> {
    let query = query(context, name).await?;
    let roles = Roles::resolve(&context.job, name, query.schema()).map_err(Error::several)?;
    Auditor::new(context, name, query, roles)?.run_all().await
}

async fn query(context: &JobContext, name: &str) -> Result<DataFrame> {
    context.query(&format!("audit.{name}.query"), &context.job.audit[name].query).await
}

/// What can be known of one audit before it runs.
async fn check_audit(context: &JobContext, name: &str) -> Vec<Finding> {
    let spec = &context.job.audit[name];
    let mut findings = vec![Finding::new(format!("audit.{name} output URLs"), resolve(context, spec, name))];
    let query_key = format!("audit.{name}.query");
    let query = match query(context, name).await {
        Ok(query) => query,
        Err(error) => {
            findings.push(Finding::new(query_key, Err(error)));
            return findings;
        }
    };
    findings.push(Finding::new(query_key, Ok(())));
    let roles_key = format!("audit.{name} columns");
    let roles = match Roles::resolve(&context.job, name, query.schema()) {
        Ok(roles) => roles,
        Err(problems) => {
            findings.extend(problems.into_iter().map(|problem| Finding::new(&roles_key, Err(problem))));
            return findings;
        }
    };
    findings.push(Finding::new(format!("{roles_key}: {roles}"), Ok(())));
    match Auditor::new(context, name, query, roles) {
        Ok(auditor) => findings.extend(auditor.plan_all().await),
        Err(error) => findings.push(Finding::new(format!("audit.{name}"), Err(error))),
    }
    findings
}

/// Whether no two audits write to one folder.
fn outputs_differ(job: &Job, names: &[&str]) -> Result<()> {
    let mut folders: BTreeMap<String, &str> = BTreeMap::new();
    for name in names {
        let Some(output) = &job.audit[*name].output else { continue };
        let folder = parse_url(output)?.to_string();
        if let Some(other) = folders.insert(folder.trim_end_matches('/').to_owned(), name) {
            invalid!("audit.{other}.output and audit.{name}.output are the same folder: give each its own");
        }
    }
    Ok(())
}

/// Where an audit's results and metrics go.
fn locations(spec: &AuditSpec, name: &str) -> Result<(Option<url::Url>, Option<url::Url>)> {
    let parse = |key: &str, text: &Option<String>| {
        let url = text.as_deref().map(parse_url).transpose();
        url.map_err(|error| Error::Invalid(format!("audit.{name}.{key}: {error}")))
    };
    Ok((parse("output", &spec.output)?, parse("metrics", &spec.metrics)?))
}

fn resolve(context: &JobContext, spec: &AuditSpec, name: &str) -> Result<()> {
    let (output, metrics) = locations(spec, name)?;
    if metrics.as_ref().is_some_and(|url| url.path().ends_with('/')) {
        invalid!("audit.{name}.metrics is a folder: give the URL of one file, such as …/audit.prom");
    }
    for url in output.iter().chain(&metrics) {
        context.storage.resolve(url)?;
    }
    Ok(())
}
