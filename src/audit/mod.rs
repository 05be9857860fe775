//! Audits propensities: runs the checks of `sql/` over the tables of a job.

mod auditor;
mod checks;
mod figures;
mod gauges;
mod known_outcome;
mod locations;
mod outcome;
mod results;
mod roles;
mod settings;
mod text;
mod text_columns;
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
use crate::job::Job;
use crate::operator::{Finding, Operator, Report};
use auditor::Auditor;
use locations::{outputs_differ, try_locations};
use outcome::AuditOutcome;
use roles::{Roles, lacks_by_job, number_columns};

/// Runs the audits of a job: `[audit.NAME]`.
///
/// An audit without a row to judge by, or with more bad rows than its `max_invalid`, is no success: the run fails with
/// [`Error::Invalid`], once everything else is done and written; so it does where a check or a whole audit fails.
/// [`AuditOperator::report`] gives what was found all the same.
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
        if names.iter().any(|name| context.job.audit[*name].output.is_some()) {
            findings.push(Finding::new("[audit] outputs", outputs_differ(&context.job, &names)));
        }
        findings
    }

    async fn run(&self, context: &JobContext) -> Result<Report> {
        let (report, ended) = self.report(context).await?;
        ended.map(|()| report)
    }
}

impl AuditOperator {
    /// Runs the audits. What they found is told even where the run then fails: where an audit is no success, or something
    /// could not be written.
    ///
    /// # Errors
    /// Where nothing was found: a location cannot be written, the query of every audit fails, or it is interrupted.
    pub async fn report(&self, context: &JobContext) -> Result<(Report, Result<()>)> {
        let job = &context.job;
        let names = self.selected(job)?;
        if names.is_empty() {
            invalid!("the job has no [audit.NAME] section: there is nothing to audit");
        }
        outputs_differ(job, &names)?;
        for name in &names {
            try_locations(context, name).await?;
        }
        let (mut audits, mut problems) = (Vec::with_capacity(names.len()), Vec::new());
        for name in names {
            match audit(context, name).await {
                Ok(audit) => audits.push(audit),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => problems.push(error),
            }
        }
        if audits.is_empty() {
            return Err(Error::several(problems));
        }
        let outputs = results::write(context, &audits).await.unwrap_or_else(|error| {
            problems.push(error);
            Vec::new()
        });
        let mut text = String::new();
        for audit in &audits {
            writeln!(text, "{audit}").map_err(std::io::Error::other)?;
        }
        for audit in &audits {
            problems.extend(audit.fault.clone().map(Error::Invalid));
        }
        let figures: BTreeMap<&str, Value> = audits.iter().map(|audit| (audit.name.as_str(), audit.json())).collect();
        let digests: BTreeMap<&str, Value> = audits.iter().map(|audit| (audit.name.as_str(), audit.digest())).collect();
        let digest = json!({ "alarm": audits.iter().any(AuditOutcome::alarm), "audits": digests });
        let report = Report::new(self.name(), text, json!({ "audits": figures }), outputs).with_digest(digest);
        problems.extend(audits.into_iter().flat_map(|audit| audit.problems).map(|(_, error)| error));
        Ok((report, Error::all(problems)))
    }

    /// The audits that would run, and for each check whether the job's columns let it: for a person, several lines.
    ///
    /// # Errors
    /// Where the job has no audit of a name that is asked for, or none at all.
    pub fn list(&self, job: &Job) -> Result<String> {
        let names = self.selected(job)?;
        if names.is_empty() {
            invalid!("the job has no [audit.NAME] section: there is nothing to audit");
        }
        let mut text = String::new();
        for name in names {
            text += &format!("audit.{name}\n");
            for check in CHECKS {
                let lacks = check.needs().find_map(|column| lacks_by_job(job, name, column));
                let left_out = lacks.map_or(String::new(), |reason| format!(" (left out: {reason})"));
                text += &format!("  {:<14}  {}{left_out}\n", check.name, check.title());
            }
        }
        Ok(text)
    }

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
    let texts = texts(context, name, &query).await;
    let roles = Roles::resolve(&context.job, name, query.schema(), &texts).map_err(Error::several)?;
    Auditor::new(context, name, query, roles)?.run_all().await
}

/// What to do about columns of text that should hold numbers.
async fn texts(context: &JobContext, name: &str, query: &DataFrame) -> BTreeMap<String, String> {
    let columns = number_columns(&context.job, name);
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    text_columns::advice(query, &columns, &format!("audit.{name}.query")).await
}

async fn query(context: &JobContext, name: &str) -> Result<DataFrame> {
    context.query(&format!("audit.{name}.query"), &context.job.audit[name].query).await
}

/// What can be known of one audit before it runs.
async fn check_audit(context: &JobContext, name: &str) -> Vec<Finding> {
    let mut findings = vec![Finding::new(format!("audit.{name} output URLs"), try_locations(context, name).await)];
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
    let texts = texts(context, name, &query).await;
    let roles = match Roles::resolve(&context.job, name, query.schema(), &texts) {
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
