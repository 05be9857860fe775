//! What the executables share: arguments, log lines, progress bars, signals, and how a run ends. The rest of the library
//! writes to no stream.

mod args;
mod progress;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

pub use args::{GlobalArgs, JobArgs, LogFormat, ModelArgs, ScoreArgs, TrainArgs};
pub use progress::{Stderr, StderrEvents};

use crate::error::{Error, Result};
use crate::operator::Report;

/// Runs the work of an executable on a runtime of its own, and gives the exit code that it ends with.
pub fn execute(global: &GlobalArgs, work: impl AsyncFnOnce() -> Result<()>) -> ExitCode {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = global.threads {
        runtime.worker_threads(threads.max(1));
    }
    let runtime = runtime.enable_all().build().map_err(Error::from);
    match runtime.and_then(|runtime| runtime.block_on(work())) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has seen enough.
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Writes a line about this program to standard error; where nobody can read it, it is lost.
fn complain(message: &str) {
    progress::clear();
    let _ = writeln!(Stderr, "counterweight: {message}");
}

/// Shows log lines on standard error from now on. A line that cannot be written is lost.
pub fn start_logging(global: &GlobalArgs) {
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

/// A token that the first Ctrl-C or SIGTERM cancels; the second Ctrl-C ends the process.
pub fn on_signal() -> CancellationToken {
    let interrupt = CancellationToken::new();
    tokio::spawn({
        let interrupt = interrupt.clone();
        async move {
            if asked_to_end().await {
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

/// Waits for Ctrl-C or SIGTERM.
async fn asked_to_end() -> bool {
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        return tokio::select! {
            ctrl_c = tokio::signal::ctrl_c() => ctrl_c.is_ok(),
            signal = terminate.recv() => signal.is_some(),
        };
    }
    tokio::signal::ctrl_c().await.is_ok()
}
