//! What the executables share: arguments, log lines, progress bars, signals, and how a run ends. The rest of the library
//! writes to no stream.

mod args;
mod progress;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

pub use args::{GlobalArgs, JobArgs, LogFormat, ModelArgs, ScoreArgs, TrainArgs};
pub use progress::{Stderr, StderrEvents};

use crate::error::{Error, Result};
use crate::operator::Report;

/// The exit code of a process that SIGINT ended.
const INTERRUPTED: u8 = 130;
/// The exit code of a process that SIGTERM ended.
const TERMINATED: u8 = 143;
/// How long tasks may go on once the work has ended: a long join hears of no interrupt, and nothing waits for it.
const LINGER: Duration = Duration::from_millis(500);

/// What the first signal cancels.
static INTERRUPT: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);
/// The exit code that the first signal stands for; 0 where there was none.
static SIGNALLED: AtomicU8 = AtomicU8::new(0);

/// Whether lines on standard error are JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// Runs the work of an executable on a runtime of its own, and gives the exit code that it ends with.
pub fn execute(global: &GlobalArgs, work: impl AsyncFnOnce() -> Result<()>) -> ExitCode {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = global.threads {
        runtime.worker_threads(threads.max(1));
    }
    let runtime = runtime.enable_all().build().map_err(Error::from);
    let ended = runtime.and_then(|runtime| {
        let ended = runtime.block_on(async {
            handle_signals()?;
            work().await
        });
        runtime.shutdown_timeout(LINGER);
        ended
    });
    let signalled = SIGNALLED.load(Ordering::SeqCst);
    match ended {
        Ok(()) => ExitCode::from(signalled),
        // The reader of our output has seen enough.
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            match error.exit_code() {
                1 if signalled != 0 => ExitCode::from(signalled),
                code => ExitCode::from(code),
            }
        }
    }
}

/// Writes a line about this program to standard error; where nobody can read it, it is lost.
fn complain(message: &str) {
    progress::clear();
    let _ = if JSON.load(Ordering::Relaxed) {
        let mut timestamp = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
        let line = serde_json::json!({"timestamp": timestamp, "level": "ERROR", "message": message});
        writeln!(Stderr, "{line}")
    } else {
        writeln!(Stderr, "counterweight: {message}")
    };
}

/// Shows log lines on standard error from now on. A line that cannot be written is lost.
pub fn start_logging(global: &GlobalArgs) {
    JSON.store(matches!(global.log_format, LogFormat::Json), Ordering::Relaxed);
    let filter = log_filter(global);
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Stderr);
    match global.log_format {
        LogFormat::Text => logs.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}

/// Which log lines the arguments ask for.
pub fn log_filter(global: &GlobalArgs) -> EnvFilter {
    EnvFilter::try_new(&global.log).unwrap_or_else(|error| {
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

/// Writes text to standard output.
pub fn print(text: &str) -> Result<()> {
    progress::clear();
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// The token that the first SIGINT or SIGTERM cancels; the second ends the process at once.
pub fn on_signal() -> CancellationToken {
    INTERRUPT.clone()
}

/// Handles SIGINT and SIGTERM from now on: without a handler, the first process of a container hears of neither.
fn handle_signals() -> Result<()> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        loop {
            let code = tokio::select! {
                _ = interrupts.recv() => INTERRUPTED,
                _ = terminations.recv() => TERMINATED,
            };
            if SIGNALLED.swap(code, Ordering::SeqCst) != 0 {
                std::process::exit(code.into());
            }
            INTERRUPT.cancel();
            tracing::warn!("interrupted: ending cleanly; interrupt again to stop at once");
        }
    });
    Ok(())
}
