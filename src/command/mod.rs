//! What the executables share: arguments, log lines, progress bars, signals, and how a run ends. The rest of the library
//! writes to no stream.

mod args;
mod progress;
mod signals;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value as Json;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use url::Url;

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
/// What the line at the end of a run tells of it.
static TOLD: Mutex<BTreeMap<String, Json>> = Mutex::new(BTreeMap::new());

/// Runs the work of an executable on a runtime of its own, and gives the exit code that it ends with. Where log lines are
/// JSON, the last one tells how the run of `name`, a subcommand, went.
///
/// After SIGINT or SIGTERM the work has `patience` to end; then it is dropped, and what it has staged is withdrawn.
pub fn execute(
    global: &GlobalArgs,
    name: &str,
    patience: Duration,
    work: impl AsyncFnOnce() -> Result<()>,
) -> ExitCode {
    let start = Instant::now();
    let outcome = signals::listen(patience + GRACE).and_then(|()| run(global, patience, work));
    let (code, message) = match outcome {
        Ok(()) => (signals::exit_code().unwrap_or(0), None),
        // The reader of our output has seen enough.
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => (0, None),
        Err(error) => {
            let code = match error.exit_code() {
                code @ (2 | DIVERGED) => code,
                code => signals::exit_code().unwrap_or(code),
            };
            (code, Some(error.to_string()))
        }
    };
    TOLD.lock().extend([
        ("command".to_owned(), name.into()),
        ("exit_code".to_owned(), code.into()),
        ("seconds".to_owned(), start.elapsed().as_secs_f64().into()),
    ]);
    match message {
        Some(message) => complain(&message),
        None if is_json() => json_line(Level::INFO, "finished", told()),
        None => {}
    }
    ExitCode::from(code)
}

/// Adds figures, an object, and what was written to what the line at the end of the run tells, where lines are JSON.
pub fn tell(figures: Json, outputs: &[Url]) {
    let mut told = TOLD.lock();
    if let Json::Object(figures) = figures {
        told.extend(figures);
    }
    told.insert("outputs".to_owned(), outputs.iter().map(Url::as_str).collect());
}

/// The line at the end of the run.
fn told() -> Json {
    Json::Object(TOLD.lock().clone().into_iter().collect())
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
    if is_json() {
        json_line(Level::ERROR, message, told());
    } else {
        let _ = writeln!(Stderr, "counterweight: {message}");
    }
}

fn is_json() -> bool {
    JSON.load(Relaxed)
}

/// Writes a log line with `fields`, those that are null left out, if lines of that level are shown.
fn json_line(level: Level, message: &str, fields: Json) {
    let shown = match level {
        Level::ERROR => true,
        _ => tracing::enabled!(Level::INFO),
    };
    if !shown {
        return;
    }
    let Json::Object(mut fields) = fields else { return };
    let mut timestamp = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    fields.retain(|_, value| !value.is_null());
    fields.extend([
        ("timestamp".to_owned(), timestamp.into()),
        ("level".to_owned(), level.as_str().into()),
        ("message".to_owned(), message.into()),
    ]);
    // In one piece: what is to be hidden may not be cut.
    let _ = Stderr.write_all(format!("{}\n", Json::Object(fields)).as_bytes());
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
    tell(report.digest.clone(), &report.outputs);
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
