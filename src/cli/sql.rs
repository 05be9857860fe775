//! `counterweight sql`: statements from the command line, files, standard input or a shell; results in any format.

mod columns;
mod encode;
mod execute;
mod shell;
mod source;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use counterweight::context::JobContext;
use counterweight::error::{Error, Result};
use counterweight::output::Outputs;
use counterweight::session::session;
use counterweight::storage::{Storage, parse_url};
use datafusion::prelude::SessionContext;
use url::Url;

use self::encode::{Format, Output};
use self::execute::Runner;
use self::source::{Located, Sources};
use counterweight::command::{GlobalArgs, interrupt};

/// Run SQL: from the command line, from files, from standard input, or in an interactive shell
///
/// A table may be named by path or URL: SELECT count(*) FROM 's3://bucket/log/*.parquet'. It may be a file, a folder
/// (partitioned `key=value/` or not) or a glob, of Parquet, CSV, TSV, NDJSON or Arrow IPC, the text
/// formats also compressed.
///
/// No statement runs unless all of them parse; the first that fails ends the run.
#[derive(Debug, Args)]
pub(super) struct SqlArgs {
    #[command(flatten)]
    sources: Sources,
    /// How results are written [default: what the extension of --output says, else table]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write the result of the one query here, whole or not at all; a path or URL
    #[arg(long, value_name = "URL")]
    output: Option<String>,
    /// Leave out the line of column names in CSV and TSV
    #[arg(long)]
    no_header: bool,
    /// Rows that a table shows at most; 0 for all, which are then held in memory
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_rows: usize,
    /// Register the tables of this job file by name
    #[arg(long, value_name = "JOB")]
    job: Option<PathBuf>,
    /// Set a key of the job, such as `vars.dir=/data`; may be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "job")]
    set: Vec<String>,
}

pub(super) async fn run(global: &GlobalArgs, args: SqlArgs) -> Result<()> {
    let (session, storage) = open_session(global, &args)?;
    let interactive = args.sources.is_empty() && std::io::stdin().is_terminal();
    let url = args.output.as_deref().map(parse_url).transpose()?;
    let output = Output {
        format: format(args.format, url.as_ref(), interactive)?,
        header: !args.no_header,
        max_rows: Some(args.max_rows).filter(|rows| *rows > 0),
    };
    if interactive {
        if url.is_some() {
            return Err(invalid("--output needs a query: give one with -c, with -f or on standard input"));
        }
        return shell::run(session, output).await;
    }
    let statements = args.sources.read(&storage).await?;
    if statements.is_empty() && url.is_none() {
        tracing::warn!("there is no statement: nothing is run");
        return Ok(());
    }
    let Some(url) = url else { return run_all(Runner::new(session, output), statements).await };
    Outputs::write(async |outputs| {
        run_all(Runner::staging(session, output, outputs, (storage, url.clone())), statements).await
    })
    .await?;
    tracing::info!("wrote {url}");
    Ok(())
}

/// Runs all of `statements`, or until Ctrl-C or SIGTERM.
async fn run_all(mut runner: Runner, statements: Vec<Located>) -> Result<()> {
    let interrupt = interrupt();
    tokio::select! {
        run = run_each(&mut runner, statements) => run?,
        () = interrupt.cancelled() => return Err(Error::Interrupted),
    }
    runner.finish().await
}

async fn run_each(runner: &mut Runner, statements: Vec<Located>) -> Result<()> {
    for Located { place, parsed } in statements {
        runner.run(parsed).await.map_err(|error| match error {
            // Standard output, whose reader may have seen enough.
            Error::Io(_) => error,
            _ => Error::Context { context: place, source: Box::new(error) },
        })?;
    }
    Ok(())
}

/// The session, and its stores.
fn open_session(global: &GlobalArgs, args: &SqlArgs) -> Result<(SessionContext, Arc<Storage>)> {
    match &args.job {
        Some(path) => {
            let context = JobContext::builder(global.load(path, &args.set)?).build()?;
            Ok((context.session, context.storage))
        }
        None => {
            let storage = Arc::new(global.storage());
            Ok((session(&global.session_options(), Arc::clone(&storage))?, storage))
        }
    }
}

fn format(given: Option<Format>, output: Option<&Url>, interactive: bool) -> Result<Format> {
    let format = match (given, output) {
        (Some(format), _) => format,
        (None, Some(url)) => Format::of_extension(url)?,
        (None, None) => Format::Table,
    };
    if format == Format::Parquet && output.is_none() && (interactive || std::io::stdout().is_terminal()) {
        return Err(invalid("parquet is not for a terminal: name a file with --output, or redirect standard output"));
    }
    Ok(format)
}

fn invalid(message: &str) -> Error {
    Error::Invalid(message.to_owned())
}
