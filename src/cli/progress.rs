//! Progress and log lines on standard error. Where that is a terminal, progress is a bar; elsewhere each of its messages is
//! a log line. A standard error that is gone ends no work.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use counterweight::events::{Event, EventSink};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

const TEMPLATE: &str = "{prefix} {human_pos}/{human_len} {wide_bar} {msg} [{elapsed}, {eta} left]";

/// The bar that is drawn, if there is one.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Shows events on standard error.
#[derive(Debug, Clone, Copy)]
pub(super) struct StderrEvents;

impl EventSink for StderrEvents {
    fn emit(&self, event: Event) {
        if let Event::Progress { task, done, total, message } = event {
            if io::stderr().is_terminal() {
                draw(task, done, total, message);
            } else if !message.is_empty() {
                tracing::info!(done, total, "{message}");
            }
        }
    }
}

fn draw(task: String, done: u64, total: Option<u64>, message: String) {
    let mut bar = BAR.lock();
    let bar = bar.get_or_insert_with(|| {
        let style = ProgressStyle::with_template(TEMPLATE).expect("a template without mistakes");
        let bar = ProgressBar::no_length().with_style(style).with_prefix(task);
        bar.enable_steady_tick(Duration::from_secs(1));
        bar
    });
    if let Some(total) = total {
        bar.set_length(total);
    }
    bar.set_message(message);
    bar.set_position(done);
}

/// Takes the bar off the terminal: what follows is the result.
pub(super) fn clear() {
    if let Some(bar) = BAR.lock().take() {
        bar.finish_and_clear();
    }
}

/// Standard error, for log lines: they stand above the bar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stderr;

impl Write for Stderr {
    /// Never fails: bytes that cannot be written are lost.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let write = || io::stderr().write_all(bytes);
        let _ = match &*BAR.lock() {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
