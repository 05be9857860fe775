//! What an operator and the process that works for it tell each other: a request, one line of JSON on standard input, and
//! messages, each a line of JSON on standard output.

use serde::{Deserialize, Serialize};

use crate::context::JobContext;
use crate::error::{Error, Result, invalid};
use crate::events::Event;
use crate::job::JobSource;
use crate::operator::{Finding, Report};

/// The version of this crate, which both sides must have.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Refuses another version than this.
///
/// # Errors
/// Where `version` is another: the message names `who` is of it.
pub fn require_version(who: &str, version: &str) -> Result<()> {
    if version != VERSION {
        invalid!("{who} is of version {version:?}, and this is {VERSION:?}; install both from one release");
    }
    Ok(())
}

/// What a process is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// [`Operator::check`](crate::operator::Operator::check).
    Check,
    /// [`Operator::run`](crate::operator::Operator::run).
    Run,
}

/// The first line that a process reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The version of the caller.
    pub version: String,
    /// What is to be done.
    pub work: Work,
    /// The operator's name.
    pub operator: String,
    /// The job.
    pub job: JobSource,
    /// The options of the stores.
    pub storage: Vec<(String, String)>,
}

impl Request {
    pub(super) fn new(work: Work, operator: &str, context: &JobContext) -> Self {
        Self {
            version: VERSION.to_owned(),
            work,
            operator: operator.to_owned(),
            job: context.job.source().clone(),
            storage: context.storage.options().to_vec(),
        }
    }
}

/// A line that a process writes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// Something happened.
    Event(Event),
    /// Something was validated.
    Finding(FindingRecord),
    /// The work is done.
    Report(Report),
    /// The work failed.
    Failure(Problem),
}

/// A [`Finding`] that can be sent.
#[derive(Debug, Serialize, Deserialize)]
pub struct FindingRecord {
    /// See [`Finding::what`].
    pub what: String,
    /// See [`Finding::problem`].
    pub problem: Option<Problem>,
}

/// An [`Error`] that can be sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// See [`Error::ToBeScored`].
    ToBeScored {
        /// The job's key of the query.
        key: String,
        /// The table.
        table: String,
    },
    /// See [`Error::Diverged`].
    Diverged(String),
    /// See [`Error::Interrupted`].
    Interrupted,
    /// Any other.
    Other {
        /// Its message.
        message: String,
        /// Its exit code.
        exit_code: u8,
    },
}

impl From<Finding> for FindingRecord {
    fn from(Finding { what, problem }: Finding) -> Self {
        Self { what, problem: problem.map(Into::into) }
    }
}

impl From<FindingRecord> for Finding {
    fn from(FindingRecord { what, problem }: FindingRecord) -> Self {
        Self { what, problem: problem.map(Into::into) }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::ToBeScored { key, table } => Self::ToBeScored { key, table },
            Error::Interrupted => Self::Interrupted,
            error if error.exit_code() == crate::error::DIVERGED => Self::Diverged(error.to_string()),
            error => Self::Other { message: error.to_string(), exit_code: error.exit_code() },
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::ToBeScored { key, table } => Self::ToBeScored { key, table },
            Problem::Interrupted => Self::Interrupted,
            Problem::Diverged(message) => Self::Diverged(message),
            Problem::Other { message, exit_code } => Self::External { message, exit_code },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_their_message_and_exit_code() {
        let errors = [
            Error::Invalid("no such column".into()),
            Error::Diverged("at epoch 1".into()),
            Error::Interrupted,
            Error::ToBeScored { key: "audit.after.query".into(), table: "scored".into() },
            std::io::Error::other("disk full").into(),
        ];
        for error in errors {
            let (text, code) = (error.to_string(), error.exit_code());
            let line = serde_json::to_string(&Message::Failure(error.into())).unwrap();
            assert!(!line.contains('\n'), "{line}");
            let Message::Failure(problem) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
            let error = Error::from(problem);
            assert_eq!((error.to_string(), error.exit_code()), (text, code));
        }
    }
}
