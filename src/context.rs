//! What operators run in: a job, a session that has its tables, its stores, and ways to tell and to be told.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::context::{SQLOptions, SessionState};
use datafusion::prelude::SessionContext;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::advice::quoted;
use crate::error::{Context, Error, Result};
use crate::events::{EventSink, LogEvents};
use crate::job::Job;
use crate::operator::{Operator, operators};
use crate::session::{TableSource, session_beside, session_with, without_tables};
use crate::storage::{Storage, parse_url};
use crate::table::{open_table, require_file};

/// Relative difference that makes a figure another than was expected.
const EXPECTED_TO: f64 = 1e-9;

/// A job, and what its operators work with. A clone is the same context.
#[derive(Clone)]
#[non_exhaustive]
pub struct JobContext {
    /// The job.
    pub job: Arc<Job>,
    /// A session that has the job's tables by name, each opened when a query first reads it.
    pub session: SessionContext,
    /// The stores that the session reads from and outputs go to.
    pub storage: Arc<Storage>,
    /// Who is told how work goes.
    pub events: Arc<dyn EventSink>,
    /// Asks a running operator to end early, keeping what is worth keeping.
    pub interrupt: CancellationToken,
    operators: Vec<Arc<dyn Operator>>,
}

/// Makes a [`JobContext`]. What the host does not bring is ours.
#[must_use]
pub struct JobContextBuilder {
    job: Job,
    session: Option<SessionContext>,
    storage: Option<Arc<Storage>>,
    events: Arc<dyn EventSink>,
    interrupt: CancellationToken,
    operators: Vec<Arc<dyn Operator>>,
}

impl JobContextBuilder {
    /// A session of the host's: its catalogs, functions, stores, memory pool and configuration. It stays as it is.
    ///
    /// Queries of the job see its tables beside those of the job: where both have a table of one name, the bare name means
    /// the job's, and the host's has its qualified one. The job's `[session]` is not used.
    pub fn session(mut self, session: SessionContext) -> Self {
        self.session = Some(session);
        self
    }

    /// The stores of the job's inputs and outputs, whose time-out is their own; by default those that the environment and
    /// the job's `[storage]` configure.
    ///
    /// A URL whose store a host's session has registered is read from there. Outputs go to these stores alone: what is to be
    /// written to a store that the host has made belongs in here, too, by
    /// [`register_store`](datafusion::execution::object_store::ObjectStoreRegistry::register_store).
    pub fn storage(mut self, storage: Arc<Storage>) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Who is told how work goes; by default [`LogEvents`].
    pub fn events(mut self, events: Arc<dyn EventSink>) -> Self {
        self.events = events;
        self
    }

    /// A token of the host's that ends work early. No operator cancels it.
    pub fn interrupt(mut self, interrupt: CancellationToken) -> Self {
        self.interrupt = interrupt;
        self
    }

    /// An operator beside those of the job, or in the place of the one that has its name: a host that links
    /// `counterweight-train` gives its operators here.
    pub fn operator(mut self, operator: Arc<dyn Operator>) -> Self {
        self.operators.push(operator);
        self
    }

    /// The context. Reads nothing yet: an operator needs only the tables that its own queries read.
    ///
    /// # Errors
    /// Where the job asks for a session that cannot be made.
    pub fn build(self) -> Result<JobContext> {
        let Self { job, session, storage, events, interrupt, operators: given } = self;
        let job = Arc::new(job);
        let storage = storage.unwrap_or_else(|| Arc::new(job.storage.stores()));
        if let Some(folder) = &job.session.spill_directory {
            storage.require_allowed(&parse_url(&folder.to_string_lossy())?)?;
        }
        let tables: Vec<Arc<dyn TableSource>> = vec![Arc::new(JobTables::new(Arc::clone(&job)))];
        let session = match session {
            Some(host) => session_beside(&host, Arc::clone(&storage), tables)?,
            None => session_with(&job.session, Arc::clone(&storage), tables)?,
        };
        let mut operators = operators(&job);
        for operator in given {
            match operators.iter_mut().find(|known| known.name() == operator.name()) {
                Some(known) => *known = operator,
                None => operators.push(operator),
            }
        }
        Ok(JobContext { job, session, storage, events, interrupt, operators })
    }
}

impl JobContext {
    /// Starts to make the context of `job`.
    pub fn builder(job: Job) -> JobContextBuilder {
        JobContextBuilder {
            job,
            session: None,
            storage: None,
            events: Arc::new(LogEvents),
            interrupt: CancellationToken::new(),
            operators: Vec::new(),
        }
    }

    /// The operators that have work in the job, in the order in which they run: [`operators`], and the host's.
    pub fn operators(&self) -> &[Arc<dyn Operator>] {
        &self.operators
    }

    /// The same context with a token of its own: cancelled with this one's, and without effect on it.
    pub fn child(&self) -> Self {
        Self { interrupt: self.interrupt.child_token(), ..self.clone() }
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
    /// Where it is a statement that changes tables or the session, or does not plan; [`Error::ToBeScored`] where it reads a
    /// table that `[score]` of the same job is yet to write.
    pub async fn query(&self, key: &str, sql: &str) -> Result<DataFrame> {
        let state = self.session.state();
        let statement = state.sql_to_statement(sql, &state.config().options().sql_parser.dialect);
        let read = statement.and_then(|statement| state.resolve_table_references(&statement));
        for table in read.iter().flatten().map(TableReference::table) {
            if self.job.tables.contains_key(table) && self.is_to_be_scored(table).await {
                return Err(Error::ToBeScored { key: key.to_owned(), table: table.to_owned() });
            }
        }
        let frame = self.session.sql_with_options(sql, only_reads()).await;
        frame.and_then(typed).context(|| format!("{key} does not plan"))
    }
}

/// What SQL of a job may do.
fn only_reads() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}

/// The query with the types that its columns have when it runs. As it is parsed, `CASE … THEN 0 ELSE 0.5 END` still has
/// the type of its first branch.
fn typed(frame: DataFrame) -> Result<DataFrame, DataFusionError> {
    let (state, plan) = frame.into_parts();
    let plan = state.analyzer().execute_and_check(plan, state.config().options(), |_, _| {})?;
    Ok(DataFrame::new(state, plan))
}

/// The tables of a job. Each is opened once.
#[derive(Debug)]
struct JobTables {
    job: Arc<Job>,
    opened: Mutex<HashMap<String, Arc<dyn TableProvider>>>,
}

impl JobTables {
    fn new(job: Arc<Job>) -> Self {
        Self { job, opened: Mutex::default() }
    }
}

#[async_trait]
impl TableSource for JobTables {
    fn names(&self) -> Vec<String> {
        self.job.tables.keys().cloned().collect()
    }

    async fn open(&self, state: &SessionState, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(spec) = self.job.tables.get(name) else { return Ok(None) };
        if let Some(table) = self.opened.lock().get(name) {
            return Ok(Some(Arc::clone(table)));
        }
        let table = open_table(state, &spec.url, &spec.format()).await.context(|| format!("[tables.{name}]"))?;
        check_expectations(state, name, &table, &spec.expect).await?;
        self.opened.lock().insert(name.to_owned(), Arc::clone(&table));
        Ok(Some(table))
    }
}

/// Refuses the table of that name unless each aggregate of `expect` has its value, but for rounding.
async fn check_expectations(
    state: &SessionState,
    name: &str,
    table: &Arc<dyn TableProvider>,
    expect: &BTreeMap<String, f64>,
) -> Result<()> {
    if expect.is_empty() {
        return Ok(());
    }
    let figures: Vec<String> = expect.keys().map(|aggregate| format!("CAST({aggregate} AS DOUBLE)")).collect();
    let sql = format!("SELECT {} FROM {}", figures.join(", "), quoted(name));
    let session = without_tables(state.clone());
    session.register_table(TableReference::bare(name), Arc::clone(table))?;
    let batches = async { session.sql_with_options(&sql, only_reads()).await?.collect().await };
    let batches = batches.await.context(|| format!("[tables.{name}.expect]"))?;
    let found = |column| batches.first().map(|row| row.column(column).as_primitive::<Float64Type>());
    let mut problems = Vec::new();
    for (column, (aggregate, expected)) in expect.iter().enumerate() {
        let value = found(column).filter(|value| value.is_valid(0)).map(|value| value.value(0));
        if value.is_none_or(|value| (value - expected).abs() > EXPECTED_TO * expected.abs()) {
            let value = value.map_or("NULL".to_owned(), |value| value.to_string());
            problems.push(Error::Invalid(format!(
                "[tables.{name}.expect]: {aggregate} is {value}, and {expected} is expected; \
                 see whether tables.{name}.url names the right files, whole"
            )));
        }
    }
    Error::all(problems)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::prelude::{SessionConfig, col, lit};

    use super::*;

    #[tokio::test]
    async fn a_table_is_opened_when_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("here.csv"), "x\n1\n2\n").unwrap();
        let job =
            "name = \"lazy\"\n[tables.here]\nurl = \"${dir}/here.csv\"\n[tables.absent]\nurl = \"${dir}/absent.csv\"\n";
        let job = Job::parse(job, &[format!("vars.dir={}", folder.path().display())]).unwrap();
        let context = JobContext::builder(job).storage(Arc::new(Storage::new([]))).build().unwrap();

        let rows = context.query("q", "SELECT * FROM here").await.unwrap();
        assert_eq!(rows.count().await.unwrap(), 2);
        let twice = context.query("q", "SELECT * FROM here AS a, here AS b").await.unwrap();
        assert_eq!(twice.count().await.unwrap(), 4);
        let error = context.query("q", "SELECT * FROM absent").await.unwrap_err().to_string();
        assert!(error.contains("[tables.absent]") && error.contains("there is no file there"), "{error}");

        context.session.sql("CREATE VIEW double AS SELECT 2 * x AS y FROM here").await.unwrap();
        let sum = context.query("q", "SELECT sum(y) AS s FROM double").await.unwrap().to_string().await.unwrap();
        assert!(sum.contains("| 6 |"), "{sum}");

        for changing in ["DROP VIEW double", "COPY here TO 'x.csv'", "SET datafusion.execution.batch_size = 1"] {
            let error = context.query("q", changing).await.unwrap_err();
            assert!(error.is_invalid_input() && error.to_string().contains("not supported"), "{error}");
        }

        let listed = context.session.sql("SHOW TABLES").await.unwrap();
        let listed = listed.filter(col("table_schema").eq(lit("public"))).unwrap();
        let listed = listed.select_columns(&["table_name", "table_type"]).unwrap().sort_by(vec![col("table_name")]);
        let listed = listed.unwrap().to_string().await.unwrap();
        for (name, kind) in [("absent", "BASE TABLE"), ("double", "VIEW"), ("here", "BASE TABLE")] {
            assert!(listed.lines().any(|line| line.contains(name) && line.contains(kind)), "{listed}");
        }
        assert_eq!(listed.lines().count(), 3 + 4, "{listed}");
    }

    #[tokio::test]
    async fn a_job_lives_beside_its_hosts_tables() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("here.csv"), "x\n1\n2\n").unwrap();
        let job = format!("name = \"x\"\n[tables.here]\nurl = \"{}/here.csv\"\n", folder.path().display());
        let beside = |host: &SessionContext| {
            JobContext::builder(Job::parse(&job, &[]).unwrap()).session(host.clone()).build().unwrap()
        };
        async fn rows(context: &JobContext, table: &str) -> Result<usize> {
            Ok(context.query("q", &format!("SELECT * FROM {table}")).await?.count().await?)
        }
        let host = SessionContext::new();
        for made in ["CREATE TABLE here AS SELECT 7 AS x", "CREATE TABLE log AS SELECT 1 AS a"] {
            host.sql(made).await.unwrap();
        }
        let (one, two) = (beside(&host), beside(&host));
        for (table, expected) in [("here", 2), ("datafusion.public.here", 1), ("log", 1)] {
            assert_eq!(rows(&one, table).await.unwrap(), expected, "{table}");
        }

        // What the job's session registers is its own.
        for made in ["CREATE TABLE made AS SELECT 1 AS a", "CREATE DATABASE other", "CREATE SCHEMA other.inner"] {
            one.session.sql(made).await.unwrap();
        }
        assert_eq!(rows(&one, "made").await.unwrap(), 1);
        assert!(rows(&two, "made").await.is_err() && host.table("made").await.is_err());
        assert_eq!(host.catalog_names(), ["datafusion"]);

        // What the host registers later is there.
        host.sql("CREATE TABLE later AS SELECT 1 AS a").await.unwrap();
        assert_eq!(rows(&one, "later").await.unwrap(), 1);
        let nested = beside(&two.session);
        assert_eq!((rows(&nested, "here").await.unwrap(), rows(&nested, "log").await.unwrap()), (2, 1));
        let listed = "SELECT * FROM information_schema.tables WHERE table_name = 'here' AND table_schema = 'job'";
        assert_eq!(nested.query("q", listed).await.unwrap().count().await.unwrap(), 1);

        let empty = SessionContext::new_with_config(SessionConfig::new().with_create_default_catalog_and_schema(false));
        assert_eq!(rows(&beside(&empty), "here").await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_table_is_what_is_expected_of_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("log.csv"), "u,i\n1,1\n1,2\n2,2\n").unwrap();
        let expect = "[tables.log.expect]\n\"count(*)\" = 3\n\"count(DISTINCT u)\" = 2\n\
                      \"round(count(*) / (1.0 * count(DISTINCT u) * count(DISTINCT i)), 2)\" = 0.75\n";
        let context = |expect: &str| {
            let job = format!("name = \"x\"\n[tables.log]\nurl = \"{}/log.csv\"\n{expect}", folder.path().display());
            JobContext::builder(Job::parse(&job, &[]).unwrap()).storage(Arc::new(Storage::new([]))).build().unwrap()
        };
        assert_eq!(context(expect).query("q", "SELECT * FROM log").await.unwrap().count().await.unwrap(), 3);

        let wrong = expect.replace("= 2", "= 4").replace("0.75", "0.5");
        let context_of_wrong = context(&wrong);
        for _ in 0..2 {
            let error = context_of_wrong.open_table("log").await.unwrap_err();
            let text = error.to_string();
            assert!(error.is_invalid_input(), "{text}");
            assert!(text.contains("count(DISTINCT u) is 2, and 4 is expected"), "{text}");
            assert!(text.contains("is 0.75, and 0.5 is expected") && !text.contains("count(*) is 3"), "{text}");
        }
        let unknown = context(&expect.replace("DISTINCT u)\" = 2", "DISTINCT w)\" = 2"));
        let error = unknown.open_table("log").await.unwrap_err().to_string();
        assert!(error.contains("[tables.log.expect]") && error.contains('w'), "{error}");
    }

    /// The sum of `x` over `table`.
    async fn sum(context: &JobContext, table: &str) -> String {
        let sum = context.query("q", &format!("SELECT sum(x) AS s FROM {table}")).await.unwrap();
        let sum = sum.collect().await.unwrap()[0].column(0).as_primitive::<Int64Type>().value(0);
        sum.to_string()
    }

    #[tokio::test]
    async fn tables_of_a_job_lie_beside_those_of_a_host() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ours.csv");
        std::fs::write(&path, "x\n1\n2\n").unwrap();
        let host = SessionContext::new();
        for (name, value) in [("theirs", 10), ("both", 100)] {
            host.sql(&format!("CREATE TABLE {name} AS SELECT {value} AS x")).await.unwrap().collect().await.unwrap();
        }
        let job = format!("name = \"guest\"\ntables.ours.url = \"{0}\"\ntables.both.url = \"{0}\"", path.display());
        let job = Job::parse(&job, &[]).unwrap();
        let context = JobContext::builder(job).session(host.clone()).build().unwrap();

        assert_eq!(sum(&context, "ours").await, "3");
        assert_eq!(sum(&context, "theirs").await, "10");
        assert_eq!(sum(&context, "both").await, "3");
        assert_eq!(sum(&context, "datafusion.public.both").await, "100");
        assert_eq!(sum(&context, &format!("'{}'", path.display())).await, "3");
        context.query("q", "SELECT bmse(true, 0.5, 1)").await.unwrap();

        let late = host.sql("CREATE TABLE late AS SELECT 7 AS x").await.unwrap();
        late.collect().await.unwrap();
        assert_eq!(sum(&context, "late").await, "7");
        context.session.sql("CREATE VIEW made AS SELECT 2 * x AS x FROM ours").await.unwrap();
        assert_eq!(sum(&context, "made").await, "6");
        assert_eq!(sum(&context, "counterweight.job.made").await, "6");

        let public = host.catalog("datafusion").unwrap().schema("public").unwrap();
        let mut names = public.table_names();
        names.sort();
        assert_eq!(names, ["both", "late", "theirs"], "the host has what it had");
        assert!(host.sql("SELECT * FROM ours").await.is_err());
        assert!(host.sql("SELECT bmse(true, 0.5, 1)").await.is_err());
        let once_more = JobContext::builder(Job::parse("name = \"other\"", &[]).unwrap()).session(host);
        assert!(once_more.build().unwrap().query("q", "SELECT * FROM ours").await.is_err());
    }

    /// An operator of a host's, in the place of the one that trains.
    struct Trainer;

    #[async_trait]
    impl Operator for Trainer {
        fn name(&self) -> &str {
            "train"
        }

        async fn check(&self, _: &JobContext) -> Vec<crate::operator::Finding> {
            Vec::new()
        }

        async fn run(&self, _: &JobContext) -> Result<crate::operator::Report> {
            Err(Error::Interrupted)
        }
    }

    #[tokio::test]
    async fn an_operator_of_a_host_takes_the_place_of_ours() {
        let job = "name = \"x\"\n[audit.a]\nquery = \"SELECT 1\"\n[train]\noutput = \"m\"\npreset = \"ips-v2\"\n\
                   data.train = \"SELECT 1\"\ndata.validation = \"SELECT 1\"";
        let context = JobContext::builder(Job::parse(job, &[]).unwrap()).operator(Arc::new(Trainer)).build().unwrap();
        let names: Vec<&str> = context.operators().iter().map(|operator| operator.name()).collect();
        assert_eq!(names, ["train", "audit"]);
        assert!(matches!(context.operators()[0].run(&context).await, Err(Error::Interrupted)));

        let child = context.child();
        child.interrupt.cancel();
        assert!(!context.interrupt.is_cancelled());
        let child = context.child();
        context.interrupt.cancel();
        assert!(child.interrupt.is_cancelled());
    }

    #[tokio::test]
    async fn an_audit_runs_whatever_dialect_a_host_has_chosen() {
        let job = "name = \"x\"\n[columns]\ntreated = \"o\"\npropensity = \"p\"\nphi = [\"x\"]\n\
                   [audit.all]\nquery = \"SELECT value % 2 AS o, 0.5 AS p, value % 3 AS x FROM range(1000)\"";
        for dialect in ["mysql", "bigquery", "postgresql"] {
            let host = SessionConfig::new().set_str("datafusion.sql_parser.dialect", dialect);
            let context = JobContext::builder(Job::parse(job, &[]).unwrap());
            let context = context.session(SessionContext::new_with_config(host)).build().unwrap();
            let report = context.operators()[0].run(&context).await.unwrap();
            assert_eq!(report.summary["audits"]["all"]["checks"]["balance"]["rows"][0]["n"], 1000, "{dialect}");
        }
    }
}
