//! The command line: parse and dispatch, one file a subcommand.

mod audit;
mod check;
#[cfg(feature = "train")]
mod experiment;
mod functions;
mod schema;
#[cfg(feature = "train")]
mod score;
mod simulate;
mod sql;
#[cfg(feature = "train")]
mod train;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use counterweight::error::{Error, Result};
#[cfg(feature = "train")]
use counterweight::job::DeviceSpec;
use counterweight::job::Job;
use counterweight::operator::{JobContext, Report};
use counterweight::session::{Bytes, SessionOptions};
use counterweight::storage::Storage;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Audit learned propensities in SQL, and train conversion models with losses that balance them.
#[derive(Debug, Parser)]
#[command(name = "counterweight", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Audit(audit::AuditArgs),
    Check(check::CheckArgs),
    #[cfg(feature = "train")]
    Experiment(experiment::ExperimentArgs),
    Functions(functions::FunctionsArgs),
    Schema(schema::SchemaArgs),
    #[cfg(feature = "train")]
    Score(score::ScoreArgs),
    Simulate(simulate::SimulateArgs),
    Sql(sql::SqlArgs),
    #[cfg(feature = "train")]
    Train(train::TrainArgs),
}

#[derive(Debug, Args)]
struct GlobalArgs {
    /// How log lines look on standard error
    #[arg(long, global = true, value_enum, default_value_t, env = "COUNTERWEIGHT_LOG_FORMAT")]
    log_format: LogFormat,
    /// Which log lines are shown, such as `debug` or `counterweight=trace`
    #[arg(long, global = true, default_value = "info", env = "COUNTERWEIGHT_LOG")]
    log: String,
    /// Bytes that queries may hold before they spill, such as 512MB or 2GiB
    #[arg(long, global = true, value_name = "BYTES")]
    memory_limit: Option<Bytes>,
    /// Threads that run queries and train models
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum LogFormat {
    /// One line of text an event
    #[default]
    Text,
    /// One JSON object an event
    Json,
}

/// The arguments of every subcommand that runs a job.
#[derive(Debug, Args)]
struct JobArgs {
    /// The job file
    #[arg(value_name = "JOB")]
    job: PathBuf,
    /// Set a key of the job, such as `vars.dir=/data`, `seed=3` or `train.loss.phi=product`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl JobArgs {
    /// Reads the job.
    fn load(&self, global: &GlobalArgs) -> Result<Job> {
        global.load(&self.job, &self.set)
    }

    /// The context that the job's operators run in; Ctrl-C interrupts it.
    fn context(&self, global: &GlobalArgs) -> Result<JobContext> {
        let context = JobContext::new(self.load(global)?, Arc::new(Storage::from_env()))?;
        Ok(JobContext { interrupt: ctrl_c(), ..context })
    }
}

/// The arguments of a subcommand that runs a job's models.
#[cfg(feature = "train")]
#[derive(Debug, Args)]
struct ModelArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Where the models run: auto, cpu or cuda:0; wins over the job's `device`
    #[arg(long)]
    device: Option<DeviceSpec>,
}

#[cfg(feature = "train")]
impl ModelArgs {
    /// The context that the job's models run in; Ctrl-C interrupts it.
    fn context(mut self, global: &GlobalArgs) -> Result<JobContext> {
        self.job.set.extend(self.device.map(|device| format!("device={device}")));
        self.job.context(global)
    }
}

/// A token that the first Ctrl-C cancels; the second ends the process.
fn ctrl_c() -> CancellationToken {
    let interrupt = CancellationToken::new();
    tokio::spawn({
        let interrupt = interrupt.clone();
        async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                interrupt.cancel();
                tracing::warn!("interrupted: ending cleanly; interrupt again to stop at once");
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        }
    });
    interrupt
}

impl GlobalArgs {
    /// Reads a job. What the command line says of the session wins.
    fn load(&self, job: &Path, set: &[String]) -> Result<Job> {
        let memory_limit = self.memory_limit.map(|Bytes(bytes)| format!("session.memory_limit={bytes}"));
        let threads = self.threads.map(|threads| format!("session.threads={threads}"));
        let set: Vec<String> = set.iter().cloned().chain(memory_limit).chain(threads).collect();
        Job::load(job, &set)
    }

    fn session_options(&self) -> SessionOptions {
        SessionOptions { memory_limit: self.memory_limit, threads: self.threads, ..SessionOptions::default() }
    }
}

/// Prints a report: its tables on standard output, what was written on standard error.
fn show(report: &Report) -> Result<()> {
    print(&report.text)?;
    for url in &report.outputs {
        tracing::info!("wrote {url}");
    }
    Ok(())
}

/// Writes text to standard output.
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

pub(crate) fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    start_logging(&global);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = global.threads {
        runtime.worker_threads(threads.max(1));
    }
    let result = runtime.enable_all().build().map_err(Error::from).and_then(|runtime| {
        runtime.block_on(async {
            match command {
                Command::Audit(args) => audit::run(&global, args).await,
                Command::Check(args) => check::run(&global, args).await,
                #[cfg(feature = "train")]
                Command::Experiment(args) => experiment::run(&global, args).await,
                #[cfg(feature = "train")]
                Command::Score(args) => score::run(&global, args).await,
                Command::Simulate(args) => simulate::run(&global, args).await,
                Command::Sql(args) => sql::run(&global, args).await,
                Command::Functions(args) => functions::run(args),
                Command::Schema(args) => schema::run(args),
                #[cfg(feature = "train")]
                Command::Train(args) => train::run(&global, args).await,
            }
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has seen enough.
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("counterweight: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn start_logging(global: &GlobalArgs) {
    let filter = EnvFilter::try_new(&global.log).unwrap_or_else(|error| {
        eprintln!("counterweight: --log {:?}: {error}; showing `info`", global.log);
        EnvFilter::new("info")
    });
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match global.log_format {
        LogFormat::Text => logs.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}
