use std::io::Write;
use std::sync::Arc;

use counterweight::error::{Error, Result};
use counterweight::output::{Outputs, Staged};
use counterweight::storage::Storage;
use counterweight::table::require_file;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, Statement as PlanStatement};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{ShowStatementFilter, Statement as SqlStatement};
use futures::TryStreamExt;
use url::Url;

use super::columns;
use super::encode::{Encoder, Output};

/// Runs statements, one after another.
pub(super) struct Runner {
    pub(super) session: SessionContext,
    output: Output,
    sink: Sink,
}

#[expect(clippy::large_enum_variant, reason = "a run has one sink")]
enum Sink {
    Stdout,
    /// The one result goes here, once there is one.
    Object {
        outputs: Outputs,
        storage: Arc<Storage>,
        url: Url,
        staged: Option<Staged>,
    },
}

/// `SHOW FUNCTIONS`, of all functions. DataFusion's own leaves out those that settle the types of their arguments
/// themselves, as ours do.
fn show_functions(filter: Option<&ShowStatementFilter>) -> Result<Statement> {
    let filter = match filter {
        None => String::new(),
        Some(ShowStatementFilter::Like(pattern)) => {
            format!("WHERE function_name LIKE '{}'", pattern.replace('\'', "''"))
        }
        Some(ShowStatementFilter::ILike(pattern)) => {
            format!("WHERE function_name ILIKE '{}'", pattern.replace('\'', "''"))
        }
        Some(other) => {
            return Err(Error::Invalid(format!("SHOW FUNCTIONS {other} is not known; use SHOW FUNCTIONS LIKE '…'")));
        }
    };
    let sql = format!(
        "WITH parameters AS (
           SELECT
             specific_name AS name, rid,
             array_agg(parameter_name ORDER BY ordinal_position) FILTER (WHERE parameter_mode = 'IN') AS parameters,
             array_agg(data_type ORDER BY ordinal_position) FILTER (WHERE parameter_mode = 'IN') AS parameter_types,
             max(data_type) FILTER (WHERE parameter_mode = 'OUT') AS return_type
           FROM information_schema.parameters
           GROUP BY specific_name, rid
         ),
         functions AS (
           SELECT DISTINCT
             routine_name AS function_name,
             coalesce(return_type, data_type) AS return_type,
             parameters, parameter_types, function_type, description, syntax_example
           FROM information_schema.routines LEFT JOIN parameters
             ON routine_name = name AND function_type <> 'TABLE' AND data_type IS NOT DISTINCT FROM return_type
         )
         SELECT * FROM functions {filter} ORDER BY function_name, function_type, return_type"
    );
    let mut statements = DFParser::parse_sql(&sql)?;
    Ok(statements.pop_front().expect("it is one statement"))
}

/// What a statement came to.
pub(super) enum Outcome {
    /// Nothing to show: it changed the session.
    Done,
    /// It wrote so many rows elsewhere.
    Wrote(u64),
    /// It had a result of so many rows.
    Rows(usize),
}

impl Runner {
    /// A runner that writes results to standard output.
    pub(super) fn new(session: SessionContext, output: Output) -> Self {
        Self { session, output, sink: Sink::Stdout }
    }

    /// A runner that stages the one result at `url`, for [`Self::finish`] to add it to `outputs`.
    pub(super) fn staging(session: SessionContext, output: Output, outputs: Outputs, to: (Arc<Storage>, Url)) -> Self {
        let (storage, url) = to;
        Self { session, output, sink: Sink::Object { outputs, storage, url, staged: None } }
    }

    /// Runs a statement and writes its result, if it has one.
    pub(super) async fn run(&mut self, statement: Statement) -> Result<Outcome> {
        if let Some(columns) = columns::shown(&self.session, &statement).await? {
            return self.write(columns).await;
        }
        let statement = match &statement {
            Statement::Statement(inner) => match inner.as_ref() {
                SqlStatement::ShowFunctions { filter } => show_functions(filter.as_ref())?,
                _ => statement,
            },
            _ => statement,
        };
        let plan = self.session.state().statement_to_plan(statement).await?;
        match plan {
            LogicalPlan::Ddl(DdlStatement::CreateExternalTable(ref table)) => {
                // Without a file there would be an empty table and no complaint; a folder with declared columns may be
                // there to be filled.
                let declared = !table.schema.fields().is_empty();
                for location in table.locations.iter().filter(|location| !(declared && location.ends_with('/'))) {
                    require_file(&self.session.state(), location).await?;
                }
                self.session.execute_logical_plan(plan).await?;
                Ok(Outcome::Done)
            }
            LogicalPlan::Statement(PlanStatement::Execute(_)) => {
                let result = self.session.execute_logical_plan(plan).await?;
                self.write(result).await
            }
            LogicalPlan::Ddl(_) | LogicalPlan::Statement(_) => {
                self.session.execute_logical_plan(plan).await?;
                Ok(Outcome::Done)
            }
            LogicalPlan::Copy(_) | LogicalPlan::Dml(_) => {
                let counts = self.session.execute_logical_plan(plan).await?.collect().await?;
                let count = counts.first().and_then(|batch| batch.column(0).as_primitive_opt::<UInt64Type>());
                let rows = count.map_or(0, |count| count.value(0));
                tracing::info!("wrote {rows} rows");
                Ok(Outcome::Wrote(rows))
            }
            _ => {
                let result = self.session.execute_logical_plan(plan).await?;
                self.write(result).await
            }
        }
    }

    async fn write(&mut self, result: DataFrame) -> Result<Outcome> {
        let mut batches = result.execute_stream().await?;
        self.sink.open().await?;
        let mut encoder = Encoder::new(&self.output, batches.schema())?;
        while let Some(batch) = batches.try_next().await? {
            let flow = encoder.write(&batch)?;
            self.sink.append(&encoder.take()).await?;
            if flow.is_break() {
                tracing::warn!("only the first {} rows are shown; --max-rows 0 shows all", encoder.rows);
                break;
            }
        }
        encoder.finish()?;
        self.sink.append(&encoder.take()).await?;
        Ok(Outcome::Rows(encoder.rows))
    }

    /// Adds the result, which is whole, to the outputs.
    pub(super) async fn finish(self) -> Result<()> {
        match self.sink {
            Sink::Stdout => Ok(()),
            Sink::Object { outputs, staged: Some(staged), .. } => outputs.add(staged).await,
            Sink::Object { url, .. } => Err(Error::Invalid(format!("no statement has a result to write to {url}"))),
        }
    }
}

impl Sink {
    async fn open(&mut self) -> Result<()> {
        let Self::Object { outputs, storage, url, staged } = self else { return Ok(()) };
        if staged.is_some() {
            return Err(Error::Invalid(format!("{url} holds the result of one query, and this is a second one")));
        }
        *staged = Some(outputs.create(storage, url).await?);
        Ok(())
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Object { staged: Some(staged), .. } => staged.append(bytes).await,
            _ if bytes.is_empty() => Ok(()),
            _ => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(bytes)?;
                Ok(stdout.flush()?)
            }
        }
    }
}
