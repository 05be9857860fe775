//! What a batch system plugs in and calls: an operator takes a job's context and gives a report.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::prelude::SessionContext;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::error::{Context, Error, Result};
use crate::job::Job;
use crate::session::{open_table, require_file, session};
use crate::storage::{Storage, parse_url};

/// One kind of work on a job: audit, train or score.
#[async_trait]
pub trait Operator: Send + Sync {
    /// The operator's name, as on the command line.
    fn name(&self) -> &'static str;

    /// Validates everything that can be known before running: sections, queries, columns and their types, device.
    /// Writes nothing.
    async fn check(&self, context: &JobContext) -> Result<()>;

    /// What [`Operator::check`] looks at, thing by thing, and the problem with each.
    async fn findings(&self, context: &JobContext) -> Vec<Finding> {
        vec![Finding::new(self.name(), self.check(context).await)]
    }

    /// Does the work. Outputs appear whole, once all of it has succeeded, or not at all.
    async fn run(&self, context: &JobContext) -> Result<Report>;
}

/// One thing that was validated.
#[derive(Debug)]
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
}

/// A job with its tables opened.
#[derive(Clone)]
pub struct JobContext {
    /// The job.
    pub job: Arc<Job>,
    /// A session in which the job's tables are registered by name.
    pub session: SessionContext,
    /// The stores that the session reads from and outputs go to.
    pub storage: Arc<Storage>,
    /// Asks a running operator to end early, keeping what is worth keeping.
    pub interrupt: CancellationToken,
}

/// What an operator did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The operator's name.
    pub operator: &'static str,
    /// For a person: tables and figures, several lines.
    #[serde(skip)]
    pub text: String,
    /// For a program: the same figures.
    pub summary: serde_json::Value,
    /// What was written.
    #[serde(serialize_with = "as_text")]
    pub outputs: Vec<Url>,
}

fn as_text<S: serde::Serializer>(urls: &[Url], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(urls.iter().map(Url::as_str))
}

impl JobContext {
    /// Opens every input table of `job`, but for one that `[score]` of the same job is yet to write.
    ///
    /// # Errors
    /// Where a table has no files or cannot be read; the message names it.
    pub async fn open(job: Job, storage: Arc<Storage>) -> Result<Self> {
        let context = Self::unopened(job, storage)?;
        for name in context.job.tables.keys() {
            if !context.is_to_be_scored(name).await {
                context.open_table(name).await?;
            }
        }
        Ok(context)
    }

    /// A context whose tables are yet to be opened, with [`JobContext::open_table`].
    pub fn unopened(job: Job, storage: Arc<Storage>) -> Result<Self> {
        let session = session(&job.session, Arc::clone(&storage))?;
        Ok(Self { job: Arc::new(job), session, storage, interrupt: CancellationToken::new() })
    }

    /// Opens the job's input table of that name.
    pub async fn open_table(&self, name: &str) -> Result<()> {
        let spec = &self.job.tables[name];
        let table = open_table(&self.session.state(), &spec.url, &spec.format()).await;
        let table = table.context(|| format!("[tables.{name}]"))?;
        self.session.register_table(TableReference::bare(name.to_owned()), table)?;
        Ok(())
    }

    /// Whether the input table of that name is the output of the job's own `[score]`, which has not run.
    pub async fn is_to_be_scored(&self, name: &str) -> bool {
        let Some(score) = &self.job.score else { return false };
        let folder = |text: &str| parse_url(text).map(|url| url.as_str().trim_end_matches('/').to_owned());
        let table = &self.job.tables[name].url;
        let is_output = matches!((folder(table), folder(&score.output)), (Ok(table), Ok(output)) if table == output);
        is_output && require_file(&self.session.state(), table).await.is_err_and(|error| error.is_invalid_input())
    }

    /// Plans the query that the job gives under `key`.
    ///
    /// # Errors
    /// [`Error::ToBeScored`] where it reads a table that `[score]` of the same job is yet to write.
    pub async fn query(&self, key: &str, sql: &str) -> Result<DataFrame> {
        let state = self.session.state();
        let statement = state.sql_to_statement(sql, &state.config().options().sql_parser.dialect);
        let read = statement.and_then(|statement| state.resolve_table_references(&statement));
        for table in read.iter().flatten().map(TableReference::table) {
            let is_absent = !self.session.table_exist(table).unwrap_or(false);
            if is_absent && self.job.tables.contains_key(table) && self.is_to_be_scored(table).await {
                return Err(Error::ToBeScored { key: key.to_owned(), table: table.to_owned() });
            }
        }
        self.session.sql(sql).await.context(|| format!("{key} does not plan"))
    }
}
