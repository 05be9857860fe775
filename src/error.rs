//! The one error type of the crate.

use std::fmt;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;

/// The exit code of a process whose training diverged.
pub const DIVERGED: u8 = 3;

/// What every fallible function here returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a job, a query or a file could not be handled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Input that its author can mend. The message names what is wrong (file, key, column, value) and the cure.
    #[error("{0}")]
    Invalid(String),
    /// A query could not be planned or run.
    #[error("{}", .0.strip_backtrace())]
    DataFusion(#[source] DataFusionError),
    /// Arrow data could not be converted.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// A Parquet file could not be read or written.
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    /// An object store refused a request.
    #[error(transparent)]
    Storage(#[from] object_store::Error),
    /// A local file or stream failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The engine that trains and scores failed.
    #[error("libtorch: {0}")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An operator that ran in another process failed.
    #[error("{message}")]
    External {
        /// What it said.
        message: String,
        /// The exit code that the failure stands for.
        exit_code: u8,
    },
    /// Training met a loss or a gradient that is not a finite number.
    #[error("{0}")]
    Diverged(String),
    /// One of the above, with what was being done.
    #[error("{context}: {source}")]
    Context {
        /// What was being done, and to what.
        context: String,
        /// Why it failed.
        source: Box<Error>,
    },
    /// A query reads a table that the same job is yet to write.
    #[error("{key} reads [tables.{table}], which `counterweight score` is yet to write; run that first")]
    ToBeScored {
        /// The job's key of the query.
        key: String,
        /// The table.
        table: String,
    },
    /// Several problems, found together.
    #[error("{}", .0.iter().map(Error::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<Error>),
    /// Of several runs some failed or were not begun; the others are kept.
    #[error("{0}")]
    Unfinished(String),
    /// The run was interrupted before it had anything worth keeping.
    #[error("interrupted; nothing was written")]
    Interrupted,
}

/// An error of ours that a query carried is itself again, so that its message and its kind survive.
impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(source) => match source.downcast::<Error>() {
                Ok(error) => *error,
                Err(source) => Self::DataFusion(DataFusionError::External(source)),
            },
            error => Self::DataFusion(error),
        }
    }
}

/// Adds what was being done to an error.
pub trait Context<T> {
    /// Wraps the error, if any, with `context`.
    fn context<C: fmt::Display>(self, context: impl FnOnce() -> C) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context<C: fmt::Display>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|error| Error::Context { context: context().to_string(), source: Box::new(error.into()) })
    }
}

impl Error {
    /// One error that tells of all of `problems`.
    pub fn several(mut problems: Vec<Error>) -> Self {
        match problems.pop() {
            Some(only) if problems.is_empty() => only,
            last => {
                problems.extend(last);
                Error::Several(problems)
            }
        }
    }

    /// Fails with all of `problems`, if any.
    pub fn all(problems: Vec<Error>) -> Result<()> {
        if problems.is_empty() { Ok(()) } else { Err(Self::several(problems)) }
    }

    /// The exit code of a process that fails with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            _ if self.is_invalid_input() => 2,
            Error::Diverged(_) => DIVERGED,
            Error::External { exit_code, .. } => *exit_code,
            Error::Context { source, .. } => source.exit_code(),
            _ => 1,
        }
    }

    /// Whether the cause is input that its author can correct, and not any other failure. Of several causes, all must be.
    pub fn is_invalid_input(&self) -> bool {
        match self {
            Error::Invalid(_) | Error::ToBeScored { .. } => true,
            Error::External { exit_code, .. } => *exit_code == 2,
            Error::Context { source, .. } => source.is_invalid_input(),
            Error::Several(problems) => problems.iter().all(Error::is_invalid_input),
            Error::DataFusion(error) => is_invalid_query(error),
            Error::Arrow(error) => is_invalid_arrow(error),
            Error::Parquet(error) => is_invalid_parquet(error),
            _ => false,
        }
    }
}

/// Whether a query, or the data that it reads, are to be corrected. A memory limit that does not suffice is, too: a retry
/// meets it again.
fn is_invalid_query(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::Plan(_) | DataFusionError::SQL(..) | DataFusionError::SchemaError(..) => true,
        DataFusionError::NotImplemented(_) | DataFusionError::Configuration(_) => true,
        DataFusionError::Execution(_) | DataFusionError::ResourcesExhausted(_) => true,
        DataFusionError::ArrowError(error, _) => is_invalid_arrow(error),
        DataFusionError::ParquetError(error) => is_invalid_parquet(error),
        DataFusionError::Collection(errors) => errors.iter().all(is_invalid_query),
        DataFusionError::External(error) => is_invalid_source(&**error),
        _ => false,
    }
}

/// Whether Arrow met data that it cannot read or convert.
fn is_invalid_arrow(error: &ArrowError) -> bool {
    match error {
        ArrowError::IoError(_, source) => is_malformed(source),
        ArrowError::ExternalError(source) => is_invalid_source(&**source),
        ArrowError::MemoryError(_) | ArrowError::CDataInterface(_) => false,
        _ => true,
    }
}

/// Whether a Parquet file is not what it should be.
fn is_invalid_parquet(error: &ParquetError) -> bool {
    match error {
        ParquetError::External(source) => is_invalid_source(&**source),
        _ => true,
    }
}

/// Whether what another error carried is a fault of the data: a store's and a disk's faults are not.
fn is_invalid_source(source: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = source.downcast_ref::<Error>() {
        return error.is_invalid_input();
    }
    if let Some(error) = source.downcast_ref::<DataFusionError>() {
        return is_invalid_query(error);
    }
    if let Some(error) = source.downcast_ref::<ArrowError>() {
        return is_invalid_arrow(error);
    }
    if let Some(error) = source.downcast_ref::<ParquetError>() {
        return is_invalid_parquet(error);
    }
    source.downcast_ref::<std::io::Error>().is_some_and(is_malformed)
}

/// Whether bytes were read and are not what they should be, such as those of a cut or broken compressed file.
fn is_malformed(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}

/// Returns early with [`Error::Invalid`], whose message is formatted as by [`format!`].
#[macro_export]
macro_rules! invalid {
    ($($message:tt)*) => { return Err($crate::error::Error::Invalid(format!($($message)*))) };
}
pub use invalid;

/// The candidate nearest to `word`, if one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 3) && *distance < word.chars().count())
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "x"?` for the nearest candidate, or else the list of them.
pub fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(word, candidates.clone()) {
        Some(candidate) => format!("; did you mean {candidate:?}?"),
        None => {
            let known: Vec<_> = candidates.into_iter().collect();
            format!("; it is one of: {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_shares_something_with_the_word() {
        assert_eq!(nearest("clikced", ["clicks", "clicked", "p"]), Some("clicked"));
        assert_eq!(nearest("x", ["p", "clicked"]), None);
        assert_eq!(nearest("P", ["p", "clicked"]), Some("p"));
    }

    #[test]
    fn several_problems_are_told_together() {
        let invalid = |text: &str| Error::Invalid(text.to_owned());
        assert!(Error::all(vec![]).is_ok());
        assert_eq!(Error::all(vec![invalid("a")]).unwrap_err().to_string(), "a");
        let both = Error::several(vec![invalid("a"), invalid("b")]);
        assert_eq!(both.to_string(), "a\nb");
        assert!(both.is_invalid_input());
        let mixed = Error::several(vec![invalid("a"), Error::Interrupted]);
        assert!(!mixed.is_invalid_input());
    }

    #[test]
    fn exit_codes_tell_who_is_to_mend_it() {
        let within = |error: Error| Err::<(), _>(error).context(|| "a run").unwrap_err().exit_code();
        assert_eq!(within(Error::Invalid("no such column".into())), 2);
        assert_eq!(within(Error::Diverged("at epoch 1".into())), 3);
        assert_eq!(within(std::io::Error::other("disk full").into()), 1);
    }

    #[test]
    fn a_query_that_does_not_plan_is_its_authors_to_mend() {
        let plan = DataFusionError::Plan("no such column".into()).context("somewhere");
        assert!(Error::from(plan).is_invalid_input());
        let ours = DataFusionError::External(Box::new(Error::Invalid("no such format".into())));
        assert!(Error::from(ours).is_invalid_input());
    }

    #[test]
    fn a_fault_of_the_data_is_told_from_one_that_a_retry_may_cure() {
        let disk = || std::io::Error::other("disk full");
        let arrow = |error| Error::from(DataFusionError::ArrowError(Box::new(error), None));
        for invalid in [
            arrow(ArrowError::DivideByZero),
            arrow(ArrowError::CastError("x".into())),
            arrow(ArrowError::CsvError("x".into())),
            arrow(ArrowError::ExternalError(Box::new(Error::Invalid("x".into())))),
            DataFusionError::Execution("a propensity of 2".into()).into(),
            DataFusionError::ResourcesExhausted("memory".into()).into(),
            DataFusionError::ParquetError(Box::new(ParquetError::EOF("cut".into()))).into(),
            ParquetError::General("no footer".into()).into(),
        ] {
            assert_eq!(invalid.exit_code(), 2, "{invalid}");
        }
        for world in [
            arrow(ArrowError::IoError("write".into(), disk())),
            ParquetError::External(Box::new(disk())).into(),
            DataFusionError::IoError(disk()).into(),
        ] {
            assert_eq!(world.exit_code(), 1, "{world}");
        }
    }
}
