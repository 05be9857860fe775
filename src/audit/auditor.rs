//! Runs the checks of one audit.

use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use datafusion::arrow::array::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::prelude::SessionContext;
use tokio_util::sync::CancellationToken;

use super::checks::{CHECKS, ListedCheck};
use super::figures::{json_rows, plain};
use super::outcome::{AuditOutcome, CheckResult, Part, bad_rows, fault};
use super::roles::Roles;
use super::settings::Settings;
use crate::context::JobContext;
use crate::error::{Context, Error, Result};
use crate::job::AuditSpec;
use crate::operator::Finding;
use crate::session::without_tables;

/// The name of the view that the checks query.
const VIEW: &str = "audited";

/// Runs checks over one audited query.
pub(super) struct Auditor<'a> {
    context: &'a JobContext,
    name: &'a str,
    spec: &'a AuditSpec,
    query: DataFrame,
    roles: Roles,
    /// Whether rows are left out that functions refuse.
    leaves_out: bool,
    /// A session in which the view is the only table: the job's own tables cannot be mistaken for it.
    session: SessionContext,
}

impl<'a> Auditor<'a> {
    pub(super) fn new(context: &'a JobContext, name: &'a str, query: DataFrame, roles: Roles) -> Result<Self> {
        let session = without_tables(context.session.state());
        Ok(Self { context, name, spec: &context.job.audit[name], query, roles, leaves_out: false, session })
    }

    /// Runs every check for which the roles are there. One that fails for its values does not keep the others from it.
    ///
    /// # Errors
    /// Where it is interrupted, the world fails, or the rows cannot even be counted.
    pub(super) async fn run_all(mut self) -> Result<AuditOutcome> {
        let start = Instant::now();
        let (mut results, mut skipped, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for check in CHECKS {
            if let Some(reason) = self.lack(check) {
                skipped.push((*check, reason));
                continue;
            }
            match self.run(check).await {
                Ok(result) => {
                    self.leaves_out |= bad_rows(&result) > 0;
                    results.push(result);
                }
                Err(error) if results.is_empty() || !error.is_invalid_input() => return Err(error),
                Err(error) => problems.push((*check, error)),
            }
        }
        Ok(AuditOutcome {
            name: self.name.to_owned(),
            table: self.context.job.name.clone(),
            phi: self.roles.phi_label(),
            clusters: self.roles.cluster_columns().into_iter().map(str::to_owned).collect(),
            finished: Utc::now(),
            took: start.elapsed(),
            fault: fault(self.name, self.spec.max_invalid, &results),
            problems,
            results,
            skipped,
        })
    }

    /// Plans every check, to the point where only data could make it fail.
    pub(super) async fn plan_all(self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for check in CHECKS {
            let what = format!("audit.{} check {}", self.name, check.name);
            if let Some(reason) = self.lack(check) {
                findings.push(Finding::new(format!("{what}: left out, {reason}"), Ok(())));
                continue;
            }
            for segment in self.segments(check) {
                let planned = async {
                    let plan = self.query(check, segment).await?.create_physical_plan().await;
                    self.explain(check, plan.map_err(Error::from))
                };
                findings.push(Finding::new(&what, planned.await.map(drop)));
            }
        }
        findings
    }

    fn lack(&self, check: &ListedCheck) -> Option<String> {
        check.needs().find_map(|column| self.roles.lacks(column))
    }

    /// The segment columns that a check is run for one by one.
    fn segments(&self, check: &ListedCheck) -> Vec<Option<&str>> {
        match check.needs().any(|column| column == "segment") {
            true => self.roles.segments().map(Some).collect(),
            false => vec![None],
        }
    }

    async fn run(&self, check: &ListedCheck) -> Result<CheckResult> {
        let mut parts = Vec::new();
        for segment in self.segments(check) {
            let frame = self.query(check, segment).await?;
            let schema = Arc::clone(frame.schema().inner());
            let batches = collect(frame, &self.context.interrupt).await;
            let batch = self.explain(check, batches.and_then(|batches| plain(&schema, &batches)))?;
            let (verdict, gauges) = check.conclude(&batch).context(|| format!("audit.{}", self.name))?;
            let rows = json_rows(&batch);
            parts.push(Part { segment_column: segment.map(str::to_owned), batch, rows, verdict, gauges });
        }
        Ok(CheckResult { check: *check, parts })
    }

    /// The query of a check, which gives the columns that the check reads.
    async fn query(&self, check: &ListedCheck, segment: Option<&str>) -> Result<DataFrame> {
        let planned = async {
            let sound = self.leaves_out && !check.every_row;
            let view = self.roles.view(self.query.clone(), &self.session, segment, sound)?;
            self.session.deregister_table(VIEW)?;
            self.session.register_table(VIEW, view.into_view())?;
            let settings = Settings {
                phi: self.roles.phi_names(),
                phi_columns: self.roles.phi_columns(),
                clusters: self.roles.clusters(),
                tolerance: self.spec.tolerance,
                bias_tolerance: self.spec.bias_tolerance,
                confidence: self.spec.confidence,
                min_effective_share: self.spec.min_effective_share,
                bounds: self.spec.propensity_bounds,
                lambda: self.spec.lambda,
                bins: self.spec.propensity_bins,
                worst: self.spec.worst,
                days: self.spec.days,
                segment_column: segment.unwrap_or_default().to_owned(),
            };
            Ok(self.session.sql(&settings.apply(check.sql)).await?)
        };
        let frame = self.explain(check, planned.await)?;
        check.verify(frame.schema().inner()).context(|| format!("audit.{}", self.name))?;
        Ok(frame)
    }

    /// Says of which audit an error is, and which columns the functions' arguments are.
    fn explain<T>(&self, check: &ListedCheck, result: Result<T>) -> Result<T> {
        match result {
            Err(Error::Interrupted) => Err(Error::Interrupted),
            result => result.context(|| {
                let (audit, roles) = (self.name, &self.roles);
                format!("audit.{audit}.query, check {} ({roles})", check.name)
            }),
        }
    }
}

async fn collect(frame: DataFrame, interrupt: &CancellationToken) -> Result<Vec<RecordBatch>> {
    tokio::select! {
        collected = frame.collect() => Ok(collected?),
        () = interrupt.cancelled() => Err(Error::Interrupted),
    }
}
