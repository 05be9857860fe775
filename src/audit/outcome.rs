//! What an audit found: the results of its checks, as JSON for programs and as text for people.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::RecordBatch;
use serde_json::{Map, Value, json};

use super::checks::ListedCheck;
use super::figures::JsonRow;
use super::gauges::Gauges;
use super::text::{percent, segment_name, short, table};
use super::verdict::Verdict;
use crate::error::Error;

/// What one audit found.
#[derive(Debug)]
pub(super) struct AuditOutcome {
    /// The audit's name.
    pub(super) name: String,
    /// The job's name.
    pub(super) table: String,
    /// φ in words.
    pub(super) phi: String,
    /// The columns that tell which rows belong together.
    pub(super) clusters: Vec<String>,
    pub(super) finished: DateTime<Utc>,
    pub(super) took: Duration,
    /// Why its rows make the audit no success, if so.
    pub(super) fault: Option<String>,
    /// Checks that failed, and why.
    pub(super) problems: Vec<(ListedCheck, Error)>,
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

/// A count that the check `rows` gives.
fn count(result: &CheckResult, column: &str) -> i64 {
    let row = result.parts.first().and_then(|part| part.rows.first());
    row.and_then(|row| row.get(column)).and_then(Value::as_i64).unwrap_or_default()
}

/// How many rows functions refuse or have no cluster, by the result of the check `rows`; 0 by that of another.
pub(super) fn bad_rows(result: &CheckResult) -> i64 {
    count(result, "refused") + count(result, "null_cluster")
}

/// What may keep a row from counting: the column of the check `rows`, and in words.
const REASONS: [(&str, &str); 8] = [
    ("null_treated", "treated is NULL in"),
    ("null_propensity", "propensity is NULL in"),
    ("null_phi", "phi is NULL in"),
    ("null_cluster", "cluster is NULL in"),
    ("invalid_treated", "treated is not 0 or 1 in"),
    ("invalid_propensity", "propensity is not from 0 to 1 in"),
    ("impossible", "what happened has a propensity of 0 in"),
    ("invalid_phi", "phi is not finite in"),
];

/// Why the audit of that name is no success, where its results say so: it has nothing to judge by, or more bad rows than a
/// share of `most`.
pub(super) fn fault(audit: &str, most: f64, results: &[CheckResult]) -> Option<String> {
    let rows = results.iter().find(|result| result.check.name == "rows")?;
    let (all, n) = (count(rows, "all_rows"), count(rows, "n"));
    if all == 0 {
        return Some(format!(
            "no rows: audit.{audit}.query gives none; see whether its WHERE and its tables are right"
        ));
    }
    let reasons = REASONS.iter().map(|(column, words)| (count(rows, column), words)).filter(|(rows, _)| *rows > 0);
    let reasons = reasons.map(|(rows, words)| format!("{words} {rows}")).collect::<Vec<_>>().join(", ");
    if n == 0 {
        return Some(format!("no rows: none of the {all} that audit.{audit}.query gives counts: {reasons}"));
    }
    let share = (all - n) as f64 / all as f64;
    (share > most).then(|| {
        let enough = (share * 1e4).ceil() / 1e4;
        format!(
            "bad rows: {} of the {all} that audit.{audit}.query gives ({}), more than audit.{audit}.max_invalid = {most} \
             lets be: {reasons}; mend them or leave them out in the query, bound a propensity of 0 or 1 with clip_propensity, \
             or set max_invalid = {enough}",
            all - n,
            percent(share)
        )
    })
}

impl AuditOutcome {
    /// All figures, for a program.
    pub(super) fn json(&self) -> Value {
        let checks: Map<_, _> =
            self.results.iter().map(|result| (result.check.name.to_owned(), result.json())).collect();
        let skipped: Map<_, _> =
            self.skipped.iter().map(|(check, reason)| (check.name.to_owned(), reason.as_str().into())).collect();
        let failed: Map<_, _> =
            self.problems.iter().map(|(check, error)| (check.name.to_owned(), error.to_string().into())).collect();
        json!({
            "table": self.table,
            "phi": self.phi,
            "cluster": self.clusters,
            "verdict": self.verdict().and_then(|verdict| verdict.value),
            "finished": self.finished,
            "seconds": self.took.as_secs_f64(),
            "fault": self.fault,
            "alarm": self.alarm(),
            "checks": checks,
            "skipped": skipped,
            "failed": failed,
        })
    }

    /// What one line of a log tells.
    pub(super) fn digest(&self) -> Value {
        let rows = self.results.iter().find(|result| result.check.name == "rows");
        let verdict = self.verdict();
        json!({
            "rows": rows.map(|rows| count(rows, "n")),
            "seconds": self.took.as_secs_f64(),
            "fault": self.fault,
            "alarm": self.alarm(),
            "verdict": verdict.and_then(|verdict| verdict.value),
            "text": verdict.map(|verdict| &verdict.text),
        })
    }

    /// The verdict on the whole table.
    fn verdict(&self) -> Option<&Verdict> {
        let result = self.results.iter().find(|result| result.check.name == "verdict");
        result.and_then(|result| result.parts.first()).map(|part| &part.verdict)
    }

    /// Whether every check could be run, on rows that could be judged by.
    pub(super) fn is_success(&self) -> bool {
        self.fault.is_none() && self.problems.is_empty()
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
    /// `{"title": …, "verdicts": [{"text": …, "alarm": …, "value": …}], "rows": […]}`
    pub(super) fn json(&self) -> Value {
        let verdicts: Vec<_> = self.parts.iter().map(|part| &part.verdict).collect();
        let rows: Vec<_> = self.parts.iter().flat_map(|part| &part.rows).collect();
        json!({ "title": self.check.title(), "verdicts": verdicts, "rows": rows })
    }
}

impl fmt::Display for AuditOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = short(self.took.as_secs_f64());
        let clusters = match self.clusters.as_slice() {
            [] => String::new(),
            clusters => format!(", cluster = {}", clusters.join(",")),
        };
        writeln!(f, "Audit {} of {} (phi = {}{clusters}), {seconds} s", self.name, self.table, self.phi)?;
        if let Some(fault) = &self.fault {
            writeln!(f, "! {fault}")?;
        }
        for (check, error) in &self.problems {
            writeln!(f, "! check {} failed: {error}", check.name)?;
        }
        for CheckResult { check, parts } in &self.results {
            for part in parts.iter().filter(|part| !part.verdict.is_plain) {
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
