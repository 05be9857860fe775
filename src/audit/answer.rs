//! Asks the questions of one audit.

use std::fmt;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use datafusion::arrow::array::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::prelude::SessionContext;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use super::figures::{self, Row};
use super::question::{QUESTIONS, Question, Settings};
use super::roles::Roles;
use super::verdict::{Verdict, judge};
use crate::context::JobContext;
use crate::error::{Context, Error, Result};
use crate::job::AuditSpec;
use crate::operator::Finding;
use crate::session::without_tables;

/// The name of the view that the questions are asked of.
const VIEW: &str = "audited";

/// Asks questions of one audited query.
pub(super) struct Asker<'a> {
    context: &'a JobContext,
    name: &'a str,
    spec: &'a AuditSpec,
    query: DataFrame,
    roles: Roles,
    /// A session in which the view is the only table: the job's own tables cannot be mistaken for it.
    session: SessionContext,
}

impl<'a> Asker<'a> {
    pub(super) fn new(context: &'a JobContext, name: &'a str, query: DataFrame, roles: Roles) -> Result<Self> {
        let session = without_tables(context.session.state());
        Ok(Self { context, name, spec: &context.job.audit[name], query, roles, session })
    }

    /// Answers every question for which the roles are there.
    pub(super) async fn answer_all(self) -> Result<Answered> {
        let start = Instant::now();
        let (mut answers, mut skipped) = (Vec::new(), Vec::new());
        for question in QUESTIONS {
            match self.lack(question) {
                Some(reason) => skipped.push((*question, reason)),
                None => answers.push(self.answer(question).await?),
            }
        }
        Ok(Answered {
            name: self.name.to_owned(),
            table: self.context.job.name.clone(),
            phi: self.roles.phi_label(),
            finished: Utc::now(),
            took: start.elapsed(),
            answers,
            skipped,
        })
    }

    /// Plans every question, to the point where only data could make it fail.
    pub(super) async fn plan_all(self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for question in QUESTIONS {
            let what = format!("audit.{} question {}", self.name, question.name);
            if let Some(reason) = self.lack(question) {
                findings.push(Finding::new(format!("{what}: left out, {reason}"), Ok(())));
                continue;
            }
            for segment in self.segments(question) {
                let planned = async { Ok(self.ask(question, segment).await?.create_physical_plan().await?) }.await;
                findings.push(Finding::new(&what, self.explain(question, planned).map(drop)));
            }
        }
        findings
    }

    fn lack(&self, question: &Question) -> Option<String> {
        question.needs().find_map(|column| self.roles.lacks(column))
    }

    /// The segment columns that a question is asked of one by one.
    fn segments(&self, question: &Question) -> Vec<Option<&str>> {
        match question.needs().any(|column| column == "segment") {
            true => self.roles.segments().map(Some).collect(),
            false => vec![None],
        }
    }

    async fn answer(&self, question: &Question) -> Result<Answer> {
        let mut parts = Vec::new();
        for segment in self.segments(question) {
            let collected = async {
                let frame = self.ask(question, segment).await?;
                let schema = Arc::clone(frame.schema().inner());
                let batches = collect(frame, &self.context.interrupt).await?;
                figures::plain(&schema, &batches)
            };
            let batch = self.explain(question, collected.await)?;
            let rows = figures::rows(&batch);
            let verdict = judge(question.name, &rows);
            parts.push(Part { segment_column: segment.map(str::to_owned), batch, rows, verdict });
        }
        Ok(Answer { question: *question, parts })
    }

    async fn ask(&self, question: &Question, segment: Option<&str>) -> Result<DataFrame> {
        let view = self.roles.view(self.query.clone(), &self.session, segment)?;
        self.session.deregister_table(VIEW)?;
        self.session.register_table(VIEW, view.into_view())?;
        let settings = Settings {
            phi: self.roles.phi_names(),
            phi_columns: self.roles.phi_columns(),
            bounds: self.spec.propensity_bounds,
            lambda: self.spec.lambda,
            bins: self.spec.propensity_bins,
            worst: self.spec.worst,
            days: self.spec.days,
            segment_column: segment.unwrap_or_default().to_owned(),
        };
        Ok(self.session.sql(&question.with(&settings)).await?)
    }

    /// Says of which audit an error is, and which columns the functions' arguments are.
    fn explain<T>(&self, question: &Question, result: Result<T>) -> Result<T> {
        match result {
            Err(Error::Interrupted) => Err(Error::Interrupted),
            result => result.context(|| {
                let (audit, roles) = (self.name, &self.roles);
                format!("audit.{audit}.query, question {} ({roles})", question.name)
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

/// The answers of one audit.
#[derive(Debug)]
pub(super) struct Answered {
    /// The audit's name.
    pub(super) name: String,
    /// The job's name.
    pub(super) table: String,
    /// φ in words.
    pub(super) phi: String,
    pub(super) finished: DateTime<Utc>,
    pub(super) took: Duration,
    pub(super) answers: Vec<Answer>,
    /// Questions that were left out, and why.
    pub(super) skipped: Vec<(Question, String)>,
}

/// The answer to one question.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) question: Question,
    /// One, or one a segment column.
    pub(super) parts: Vec<Part>,
}

/// The result of one query.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) segment_column: Option<String>,
    pub(super) batch: RecordBatch,
    pub(super) rows: Vec<Row>,
    pub(super) verdict: Verdict,
}

impl Answered {
    /// All figures, for a program.
    pub(super) fn figures(&self) -> Value {
        let questions: Map<_, _> =
            self.answers.iter().map(|answer| (answer.question.name.to_owned(), answer.figures())).collect();
        let skipped: Map<_, _> =
            self.skipped.iter().map(|(question, reason)| (question.name.to_owned(), reason.as_str().into())).collect();
        json!({
            "table": self.table,
            "phi": self.phi,
            "finished": self.finished,
            "seconds": self.took.as_secs_f64(),
            "alarm": self.answers.iter().flat_map(|answer| &answer.parts).any(|part| part.verdict.alarm),
            "questions": questions,
            "skipped": skipped,
        })
    }

    /// The rows that answer the question of that name, over all segment columns.
    pub(super) fn rows(&self, question: &str) -> impl Iterator<Item = &Row> {
        let answers = self.answers.iter().filter(move |answer| answer.question.name == question);
        answers.flat_map(|answer| &answer.parts).flat_map(|part| &part.rows)
    }
}

impl Answer {
    /// `{"title": …, "verdicts": [{"text": …, "alarm": …}], "rows": […]}`
    pub(super) fn figures(&self) -> Value {
        let verdicts: Vec<_> = self.parts.iter().map(|part| &part.verdict).collect();
        let rows: Vec<_> = self.parts.iter().flat_map(|part| &part.rows).collect();
        json!({ "title": self.question.title(), "verdicts": verdicts, "rows": rows })
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = figures::short(self.took.as_secs_f64());
        writeln!(f, "Audit {} of {} (phi = {}), {seconds} s", self.name, self.table, self.phi)?;
        for answer in &self.answers {
            for part in &answer.parts {
                let by = part.segment_column.as_ref().map_or(String::new(), |column| format!(" By {column}:"));
                writeln!(f, "\n{}{by}", answer.question.title())?;
                let mark = if part.verdict.alarm { "! " } else { "" };
                writeln!(f, "  {mark}{}", part.verdict.text)?;
                let schema = part.batch.schema();
                let columns: Vec<_> = schema.fields().iter().map(|field| field.name().clone()).collect();
                // The same in every row, and told by the verdict or the heading.
                let hidden = [
                    "segment_column",
                    "segments",
                    "elements",
                    "days",
                    "out_of_balance",
                    "weeks_out_of_balance",
                    "changed",
                    "true_error",
                    "calibration_error",
                ];
                f.write_str(&figures::table(&columns, &part.rows, &hidden))?;
            }
        }
        for (question, reason) in &self.skipped {
            writeln!(f, "\n{}\n  left out: {reason}", question.title())?;
        }
        Ok(())
    }
}
