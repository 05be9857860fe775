//! What a batch system plugs in and calls: an operator takes a job's context and gives a report.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::prelude::SessionContext;
use parking_lot::RwLock;
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

/// A job, and the session that its queries run in.
#[derive(Clone)]
pub struct JobContext {
    /// The job.
    pub job: Arc<Job>,
    /// A session that has the job's tables by name, each opened when a query first reads it.
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
    /// The context of `job`. Reads nothing yet: an operator needs only the tables that its own queries read.
    pub fn new(job: Job, storage: Arc<Storage>) -> Result<Self> {
        let job = Arc::new(job);
        let session = session(&job.session, Arc::clone(&storage))?;
        let state = session.state();
        let names = &state.config_options().catalog;
        let catalog = session.catalog(&names.default_catalog).expect("a session has a default catalog");
        let rest = catalog.schema(&names.default_schema).expect("a catalog has a default schema");
        let tables = JobTables { job: Arc::clone(&job), session: session.state_weak_ref(), rest };
        catalog.register_schema(&names.default_schema, Arc::new(tables))?;
        Ok(Self { job, session, storage, interrupt: CancellationToken::new() })
    }

    /// Opens the job's input table of that name.
    ///
    /// # Errors
    /// Where it has no files or cannot be read; the message names it.
    pub async fn open_table(&self, name: &str) -> Result<()> {
        self.session.table_provider(TableReference::bare(name)).await?;
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
            if self.job.tables.contains_key(table) && self.is_to_be_scored(table).await {
                return Err(Error::ToBeScored { key: key.to_owned(), table: table.to_owned() });
            }
        }
        self.session.sql(sql).await.context(|| format!("{key} does not plan"))
    }
}

/// The default schema of a job's session: the job's tables, and whatever else a query registers.
#[derive(Debug)]
struct JobTables {
    job: Arc<Job>,
    session: Weak<RwLock<SessionState>>,
    /// Tables opened so far, and those that are not the job's.
    rest: Arc<dyn SchemaProvider>,
}

#[async_trait]
impl SchemaProvider for JobTables {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.rest.table_names();
        names.extend(self.job.tables.keys().filter(|name| !self.rest.table_exist(name)).cloned());
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let spec = match self.job.tables.get(name) {
            Some(spec) if !self.rest.table_exist(name) => spec,
            _ => return self.rest.table(name).await,
        };
        let session = self.session.upgrade().ok_or_else(|| DataFusionError::Plan("the session has ended".into()))?;
        let state = session.read().clone();
        let table = open_table(&state, &spec.url, &spec.format()).await.context(|| format!("[tables.{name}]"));
        let table = table.map_err(|error| DataFusionError::External(Box::new(error)))?;
        // Refused where another query has opened it meanwhile.
        let _ = self.rest.register_table(name.to_owned(), Arc::clone(&table));
        Ok(Some(table))
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        self.rest.register_table(name, table)
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        self.rest.deregister_table(name)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.rest.table_exist(name) || self.job.tables.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_table_is_opened_when_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("here.csv"), "x\n1\n2\n").unwrap();
        let job =
            "name = \"lazy\"\n[tables.here]\nurl = \"${dir}/here.csv\"\n[tables.absent]\nurl = \"${dir}/absent.csv\"\n";
        let job = Job::parse(job, &[format!("vars.dir={}", folder.path().display())]).unwrap();
        let context = JobContext::new(job, Arc::new(Storage::new([]))).unwrap();

        let rows = context.query("q", "SELECT * FROM here").await.unwrap();
        assert_eq!(rows.count().await.unwrap(), 2);
        let twice = context.query("q", "SELECT * FROM here AS a, here AS b").await.unwrap();
        assert_eq!(twice.count().await.unwrap(), 4);
        let error = context.query("q", "SELECT * FROM absent").await.unwrap_err().to_string();
        assert!(error.contains("[tables.absent]") && error.contains("there is no file there"), "{error}");

        context.session.sql("CREATE VIEW double AS SELECT 2 * x AS y FROM here").await.unwrap();
        let sum = context.query("q", "SELECT sum(y) AS s FROM double").await.unwrap().to_string().await.unwrap();
        assert!(sum.contains("| 6 |"), "{sum}");
    }
}
