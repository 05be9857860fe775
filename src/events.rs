//! What work tells while it goes on. The library draws nothing and writes to no stream: whoever runs the work decides what
//! becomes of its events. Log lines are events of [`tracing`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that happened during work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
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
}

/// Takes events, from any thread. It must not block for long, and cannot fail: an event that cannot be shown is lost, and
/// work goes on.
pub trait EventSink: fmt::Debug + Send + Sync {
    /// Takes an event.
    fn emit(&self, event: Event);
}

/// Drops every event: the sink of a host that shows none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn emit(&self, _: Event) {}
}
