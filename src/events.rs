//! What operators tell while they work. The library draws nothing and writes to no stream: whoever runs an operator decides
//! what becomes of its events. Log lines are events of [`tracing`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::EpochRecord;

/// Something that happened while an operator ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// An epoch of training has ended.
    Epoch {
        /// Which model of the ensemble, from 0.
        member: usize,
        /// How many models the ensemble has.
        members: usize,
        /// Epochs of a member, at most.
        epochs: usize,
        /// What the epoch gave.
        record: Box<EpochRecord>,
    },
    /// Part of a task is done.
    Progress {
        /// The task, such as `simulate`.
        task: String,
        /// Units done so far.
        done: u64,
        /// Units in all, where that is known; it may grow.
        total: Option<u64>,
        /// What was done last, for a person; may be empty.
        message: String,
    },
    /// A log line of an operator that runs in another process.
    Log {
        /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
        level: String,
        /// The line.
        message: String,
    },
}

/// Takes the events of operators, from any thread. It must not block for long, and cannot fail: an event that cannot be
/// shown is lost, and work goes on.
pub trait EventSink: fmt::Debug + Send + Sync {
    /// Takes an event.
    fn emit(&self, event: Event);
}

/// Drops every event.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn emit(&self, _: Event) {}
}

/// Passes log lines of other processes on to [`tracing`], and drops all other events: the sink of a host that gives none.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogEvents;

impl EventSink for LogEvents {
    fn emit(&self, event: Event) {
        if let Event::Log { level, message } = event {
            log(&level, &message);
        }
    }
}

/// Logs a line at the level of that name.
pub fn log(level: &str, message: &str) {
    match level {
        "ERROR" => tracing::error!("{message}"),
        "WARN" => tracing::warn!("{message}"),
        "INFO" => tracing::info!("{message}"),
        "DEBUG" => tracing::debug!("{message}"),
        _ => tracing::trace!("{message}"),
    }
}
