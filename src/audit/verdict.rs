//! What the figures of a check say, in one line.

use serde::Serialize;

/// What a check concludes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Verdict {
    /// One line, for a person.
    pub(super) text: String,
    /// Whether it is a reason to distrust the propensities.
    pub(super) alarm: bool,
    /// Whether what was looked at balances; `None` of a check that does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<Conclusion>,
    /// Whether it goes without saying.
    #[serde(skip)]
    pub(super) is_plain: bool,
}

/// Whether rows balance, as far as is tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Conclusion {
    /// Every effect is within its tolerance.
    Balanced,
    /// One is beyond it.
    Unbalanced,
    /// Neither is shown.
    Undecided,
}

impl Conclusion {
    pub(super) const ALL: [Self; 3] = [Self::Balanced, Self::Unbalanced, Self::Undecided];

    /// What `balance_verdict` calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Unbalanced => "unbalanced",
            Self::Undecided => "undecided",
        }
    }

    /// What is called so.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.name() == name)
    }

    /// What is said of several of which so many are unbalanced, and so many undecided.
    pub(super) fn of_counts(unbalanced: i64, undecided: i64) -> Self {
        match (unbalanced, undecided) {
            (0, 0) => Self::Balanced,
            (0, _) => Self::Undecided,
            _ => Self::Unbalanced,
        }
    }
}

impl Verdict {
    /// A reason to distrust the propensities.
    pub(super) fn alarm(text: impl Into<String>) -> Self {
        Self { alarm: true, ..Self::calm(text) }
    }

    /// No such reason.
    pub(super) fn calm(text: impl Into<String>) -> Self {
        Self { text: text.into(), alarm: false, value: None, is_plain: false }
    }

    /// Whether rows balance: a reason to distrust the propensities where they are shown not to.
    pub(super) fn of(value: Conclusion, text: impl Into<String>) -> Self {
        Self { alarm: value == Conclusion::Unbalanced, value: Some(value), ..Self::calm(text) }
    }

    /// What goes without saying.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self { is_plain: true, ..Self::calm(text) }
    }
}
