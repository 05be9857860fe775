//! Progress and log lines on standard error. Where that is a terminal, progress is a bar; elsewhere each of its messages is
//! a log line. A standard error that is gone ends no work.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use serde_json::json;
use tracing::Level;

use crate::events::{Event, EventSink, log};
use crate::model::{EpochRecord, Metrics};
use crate::redact::redact;

const TEMPLATE: &str = "{prefix} {human_pos}/{human_len} {wide_bar} {msg} [{elapsed}, {eta} left]";

const TRAINED: &str = "trained an epoch";

/// The bar that is drawn, if there is one.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Shows events on standard error.
#[derive(Debug, Clone, Copy)]
pub struct StderrEvents;

impl EventSink for StderrEvents {
    fn emit(&self, event: Event) {
        match event {
            Event::Epoch { member, members, epochs, record } => epoch((member, members), epochs, &record),
            Event::Progress { task, done, total, message } => {
                if io::stderr().is_terminal() {
                    draw(task, done, total, message);
                } else if !message.is_empty() {
                    tracing::info!(done, total, "{message}");
                }
            }
            Event::Log { level, message } => log(&level, &message),
        }
    }
}

/// An epoch of a member is done; members count from 0.
fn epoch((member, members): (usize, usize), epochs: usize, record: &EpochRecord) {
    let metrics = &record.validation;
    let loss = record.losses.get("total").copied();
    if io::stderr().is_terminal() {
        let shown = [("loss", loss), ("auc", metrics.auc), ("bmse", metrics.bmse)];
        let shown = shown.iter().filter_map(|(name, value)| Some(format!("{name} {:.4}", (*value)?)));
        let message = shown.collect::<Vec<_>>().join(" ");
        let (done, total) = (member * epochs + record.epoch, members * epochs);
        return draw("epoch".to_owned(), done as u64, Some(total as u64), message);
    }
    let (member, epoch, seconds) = ((members > 1).then_some(member + 1), record.epoch, record.seconds);
    let (losses, lambda) = (&record.losses, record.lambda);
    let Metrics { auc, recall, ndcg, log_loss, mse, bmse, .. } = metrics;
    if super::is_json() {
        // A field of `tracing` is no object.
        let fields = json!({
            "member": member, "epoch": epoch, "seconds": seconds, "loss": loss, "losses": losses, "lambda": lambda,
            "auc": auc, "recall": recall, "ndcg": ndcg, "log_loss": log_loss, "mse": mse, "bmse": bmse,
        });
        return super::json_line(Level::INFO, TRAINED, fields);
    }
    let losses = serde_json::to_string(losses).unwrap_or_default();
    tracing::info!(member, epoch, seconds, loss, losses, lambda, auc, recall, ndcg, log_loss, mse, bmse, "{TRAINED}");
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
pub struct Stderr;

impl Write for Stderr {
    /// Never fails: bytes that cannot be written are lost. What nobody is to see is not among them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let write = || io::stderr().write_all(redact(&text).as_bytes());
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
