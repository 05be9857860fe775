//! What the figures of a check say, in one line.

use serde::Serialize;

/// What a check concludes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Verdict {
    /// One line, for a person.
    pub(super) text: String,
    /// Whether it is a reason to distrust the propensities.
    pub(super) alarm: bool,
}

impl Verdict {
    /// A reason to distrust the propensities.
    pub(super) fn alarm(text: impl Into<String>) -> Self {
        Self { text: text.into(), alarm: true }
    }

    /// No such reason.
    pub(super) fn calm(text: impl Into<String>) -> Self {
        Self { text: text.into(), alarm: false }
    }
}
