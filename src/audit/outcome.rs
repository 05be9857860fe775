//! What an audit found: the results of its checks, as JSON for programs and as text for people.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::RecordBatch;
use serde_json::{Map, Value, json};

use super::checks::ListedCheck;
use super::figures::JsonRow;
use super::gauges::Gauges;
use super::text::{segment_name, short, table};
use super::verdict::Verdict;

/// What one audit found.
#[derive(Debug)]
pub(super) struct AuditOutcome {
    /// The audit's name.
    pub(super) name: String,
    /// The job's name.
    pub(super) table: String,
    /// φ in words.
    pub(super) phi: String,
    pub(super) finished: DateTime<Utc>,
    pub(super) took: Duration,
    /// Why there was nothing to judge by, if so: the audit is no success.
    pub(super) fault: Option<String>,
    pub(super) results: Vec<CheckResult>,
    /// Checks that were left out, and why.
    pub(super) skipped: Vec<(ListedCheck, String)>,
}

/// What one check found.
#[derive(Debug)]
pub(super) struct CheckResult {
    pub(super) check: ListedCheck,
    /// One, or one a segment column.
    pub(super) parts: Vec<Part>,
}

/// The result of one query.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) segment_column: Option<String>,
    pub(super) batch: RecordBatch,
    pub(super) rows: Vec<JsonRow>,
    pub(super) verdict: Verdict,
    pub(super) gauges: Gauges,
}

/// Why the audit of that name has nothing to judge by, where its results say so.
pub(super) fn fault(audit: &str, results: &[CheckResult]) -> Option<String> {
    let balance = results.iter().find(|result| result.check.name == "balance")?;
    let row = balance.parts.first()?.rows.first()?;
    let count = |column: &str| row.get(column).and_then(Value::as_i64).unwrap_or_default();
    if count("n") > 0 {
        return None;
    }
    let skipped = count("rows_skipped");
    if skipped == 0 {
        return Some(format!("audit.{audit}.query gives none; see whether its WHERE and its tables are right"));
    }
    let roles = ["treated", "propensity", "phi"].map(|role| (role, count(&format!("null_{role}"))));
    let reasons: Vec<_> =
        roles.iter().filter(|(_, rows)| *rows > 0).map(|(role, rows)| format!("{role} is NULL in {rows}")).collect();
    Some(format!("none of the {skipped} that audit.{audit}.query gives counts: {}", reasons.join(", ")))
}

impl AuditOutcome {
    /// All figures, for a program.
    pub(super) fn json(&self) -> Value {
        let checks: Map<_, _> =
            self.results.iter().map(|result| (result.check.name.to_owned(), result.json())).collect();
        let skipped: Map<_, _> =
            self.skipped.iter().map(|(check, reason)| (check.name.to_owned(), reason.as_str().into())).collect();
        json!({
            "table": self.table,
            "phi": self.phi,
            "finished": self.finished,
            "seconds": self.took.as_secs_f64(),
            "fault": self.fault,
            "alarm": self.alarm(),
            "checks": checks,
            "skipped": skipped,
        })
    }

    /// What one line of a log tells.
    pub(super) fn digest(&self) -> Value {
        let balance = self.results.iter().find(|result| result.check.name == "balance");
        let balance = balance.and_then(|result| result.parts.first());
        json!({
            "rows": balance.and_then(|part| part.rows.first()).map(|row| &row["n"]),
            "seconds": self.took.as_secs_f64(),
            "fault": self.fault,
            "alarm": self.alarm(),
            "verdict": balance.map(|part| &part.verdict.text),
        })
    }

    /// Whether a check has found a reason to distrust the propensities.
    pub(super) fn alarm(&self) -> bool {
        self.parts().any(|part| part.verdict.alarm)
    }

    /// The parts of every result.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.results.iter().flat_map(|result| &result.parts)
    }
}

impl Part {
    /// The rows for a person: segments by their names.
    fn shown(&self) -> Vec<JsonRow> {
        let mut rows = self.rows.clone();
        if self.segment_column.is_some() {
            for segment in rows.iter_mut().filter_map(|row| row.get_mut("segment")) {
                *segment = segment_name(segment.as_str()).into();
            }
        }
        rows
    }
}

impl CheckResult {
    /// `{"title": …, "verdicts": [{"text": …, "alarm": …}], "rows": […]}`
    pub(super) fn json(&self) -> Value {
        let verdicts: Vec<_> = self.parts.iter().map(|part| &part.verdict).collect();
        let rows: Vec<_> = self.parts.iter().flat_map(|part| &part.rows).collect();
        json!({ "title": self.check.title(), "verdicts": verdicts, "rows": rows })
    }
}

impl fmt::Display for AuditOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = short(self.took.as_secs_f64());
        writeln!(f, "Audit {} of {} (phi = {}), {seconds} s", self.name, self.table, self.phi)?;
        if let Some(fault) = &self.fault {
            writeln!(f, "! no rows: {fault}")?;
        }
        for CheckResult { check, parts } in &self.results {
            for part in parts {
                let by = part.segment_column.as_ref().map_or(String::new(), |column| format!(" By {column}:"));
                writeln!(f, "\n{}{by}", check.title())?;
                let mark = if part.verdict.alarm { "! " } else { "" };
                writeln!(f, "  {mark}{}", part.verdict.text)?;
                let schema = part.batch.schema();
                let columns: Vec<_> = schema.fields().iter().map(|field| field.name().clone()).collect();
                f.write_str(&table(&columns, &part.shown(), check.hidden))?;
            }
        }
        for (check, reason) in &self.skipped {
            writeln!(f, "\n{}\n  left out: {reason}", check.title())?;
        }
        Ok(())
    }
}
