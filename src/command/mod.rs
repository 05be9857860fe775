//! What the executables share: arguments, log lines, progress bars, signals, and how a run ends. The rest of the library
//! writes to no stream.

mod args;
mod progress;
mod signals;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

pub use args::{GlobalArgs, JobArgs, LogFormat, ModelArgs, ScoreArgs, TrainArgs};
pub use progress::{Stderr, StderrEvents};
pub use signals::{interrupt, leave_interrupts};

use crate::error::{DIVERGED, Error, Result};
use crate::operator::Report;
use crate::redact::hide_secrets;

/// How long work that looks after its own clean end has for it after SIGINT or SIGTERM.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// The same of training, which ends an epoch or writes what it has kept.
pub const PATIENCE_OF_TRAINING: Duration = Duration::from_secs(25);
/// The same of what waits for processes that train.
pub const PATIENCE_OF_EXPERIMENTS: Duration = Duration::from_secs(40);
/// How long after that a process is ended all the same.
const GRACE: Duration = Duration::from_secs(1);

/// Whether lines on standard error are JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// Runs the work of an executable on a runtime of its own, and gives the exit code that it ends with.
///
/// After SIGINT or SIGTERM the work has `patience` to end; then it is dropped, and what it has staged is withdrawn.
pub fn execute(global: &GlobalArgs, patience: Duration, work: impl AsyncFnOnce() -> Result<()>) -> ExitCode {
    let outcome = signals::listen(patience + GRACE).and_then(|()| run(global, patience, work));
    match outcome {
        Ok(()) => ExitCode::from(signals::exit_code().unwrap_or(0)),
        // The reader of our output has seen enough.
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            match error.exit_code() {
                code @ (2 | DIVERGED) => ExitCode::from(code),
                code => ExitCode::from(signals::exit_code().unwrap_or(code)),
            }
        }
    }
}

fn run(global: &GlobalArgs, patience: Duration, work: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = global.threads {
        runtime.worker_threads(threads);
    }
    let runtime = runtime.enable_all().build()?;
    let outcome = runtime.block_on(async {
        let asked_to_end = async {
            signals::interrupt().cancelled().await;
            tokio::time::sleep(patience).await;
        };
        tokio::select! {
            biased;
            outcome = work() => outcome,
            () = asked_to_end => Err(Error::Interrupted),
        }
    });
    if outcome.is_err() {
        // Threads that compute are not waited for; what is withdrawn in the background is.
        runtime.shutdown_timeout(GRACE / 2);
    }
    outcome
}

/// Writes a line about this program to standard error; where nobody can read it, it is lost.
fn complain(message: &str) {
    progress::clear();
    let _ = if JSON.load(Relaxed) {
        let mut timestamp = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
        writeln!(Stderr, "{}", serde_json::json!({"timestamp": timestamp, "level": "ERROR", "message": message}))
    } else {
        writeln!(Stderr, "counterweight: {message}")
    };
}

/// Shows log lines on standard error from now on. A line that cannot be written is lost.
pub fn start_logging(global: &GlobalArgs) {
    JSON.store(matches!(global.log_format, LogFormat::Json), Relaxed);
    let filter = log_filter(global);
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Stderr);
    match global.log_format {
        LogFormat::Text => logs.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}

/// Which log lines the arguments ask for.
pub fn log_filter(global: &GlobalArgs) -> EnvFilter {
    // What is retried is said by our own stores.
    EnvFilter::try_new(format!("object_store=warn,{}", global.log)).unwrap_or_else(|error| {
        complain(&format!("--log {:?}: {error}; showing `info`", global.log));
        EnvFilter::new("info")
    })
}

/// Prints a report: its text on standard output, what was written as log lines.
pub fn show(report: &Report) -> Result<()> {
    let printed = print(&report.text);
    for url in &report.outputs {
        tracing::info!("wrote {url}");
    }
    printed
}

/// Writes text to standard output, without the secrets of a job.
pub fn print(text: &str) -> Result<()> {
    progress::clear();
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(hide_secrets(text).as_bytes())?;
    Ok(stdout.flush()?)
}
