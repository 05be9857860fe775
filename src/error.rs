//! The one error type of the crate.

use std::fmt;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;

use crate::redact::redact;

/// The exit code of a process whose training diverged.
pub const DIVERGED: u8 = 3;
/// The exit code of a process that was interrupted, where no signal says more.
const INTERRUPTED: u8 = 130;

/// What every fallible function here returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a job, a query or a file could not be handled. Messages are [redacted](crate::redact).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Input that its author can mend. The message names what is wrong (file, key, column, value) and the cure.
    #[error("{}", redact(.0))]
    Invalid(String),
    /// A query could not be planned or run.
    #[error("{}", redact(&.0.strip_backtrace()))]
    DataFusion(#[source] DataFusionError),
    /// Arrow data could not be converted.
    #[error("{}", redact(&.0.to_string()))]
    Arrow(#[from] ArrowError),
    /// A Parquet file could not be read or written.
    #[error("{}", redact(&.0.to_string()))]
    Parquet(#[from] ParquetError),
    /// An object store refused a request.
    #[error("{}", redact(&.0.to_string()))]
    Storage(#[from] object_store::Error),
    /// A local file or stream failed.
    #[error("{}", redact(&.0.to_string()))]
    Io(#[from] std::io::Error),
    /// The engine that trains and scores failed.
    #[error("libtorch: {0}")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An operator that ran in another process failed.
    #[error("{}", redact(message))]
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
    #[error("{}: {source}", redact(context))]
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
            Error::Interrupted => INTERRUPTED,
            Error::External { exit_code, .. } => *exit_code,
            Error::Context { source, .. } => source.exit_code(),
            _ => 1,
        }
    }

    /// Whether the cause is input that its author can correct, and not a fault of the world that a retry may cure. Of several
    /// causes, all must be. A memory limit is input, too.
    pub fn is_invalid_input(&self) -> bool {
        match self {
            Error::Invalid(_) | Error::ToBeScored { .. } => true,
            Error::External { exit_code, .. } => *exit_code == 2,
            Error::Context { source, .. } => source.is_invalid_input(),
            Error::Several(problems) => problems.iter().all(Error::is_invalid_input),
            Error::DataFusion(error) => is_fault_of_data(error),
            Error::Arrow(error) => is_fault_of_arrow(error),
            Error::Parquet(error) => is_fault_of_parquet(error),
            Error::Storage(error) => is_fault_of_request(error),
            _ => false,
        }
    }
}

/// Whether a query cannot be planned as it is written, or fails because of what it reads.
fn is_fault_of_data(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::Plan(_) | DataFusionError::SQL(..) | DataFusionError::SchemaError(..) => true,
        DataFusionError::NotImplemented(_) | DataFusionError::Configuration(_) => true,
        DataFusionError::Execution(_) | DataFusionError::ResourcesExhausted(_) => true,
        DataFusionError::ArrowError(error, _) => is_fault_of_arrow(error),
        DataFusionError::ParquetError(error) => is_fault_of_parquet(error),
        DataFusionError::ObjectStore(error) => is_fault_of_request(error),
        DataFusionError::Collection(errors) => errors.iter().all(is_fault_of_data),
        DataFusionError::External(error) => is_fault(error.as_ref()),
        _ => false,
    }
}

fn is_fault_of_arrow(error: &ArrowError) -> bool {
    match error {
        ArrowError::ExternalError(error) => is_fault(error.as_ref()),
        ArrowError::IoError(_, error) => is_malformed(error),
        ArrowError::MemoryError(_) | ArrowError::CDataInterface(_) => false,
        _ => true,
    }
}

fn is_fault_of_parquet(error: &ParquetError) -> bool {
    match error {
        ParquetError::External(error) => is_fault(error.as_ref()),
        ParquetError::NeedMoreData(_) | ParquetError::NeedMoreDataRange(_) => false,
        _ => true,
    }
}

/// Whether a store will refuse the same request again. A file that has gone is not: the next run will not list it.
fn is_fault_of_request(error: &object_store::Error) -> bool {
    use object_store::Error as Store;
    matches!(
        error,
        Store::PermissionDenied { .. }
            | Store::Unauthenticated { .. }
            | Store::NotImplemented { .. }
            | Store::NotSupported { .. }
            | Store::InvalidPath { .. }
            | Store::UnknownConfigurationKey { .. }
    )
}

/// Whether the error of another layer, or what it stems from, is one of data.
fn is_fault(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<Error>() {
        return error.is_invalid_input();
    }
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return is_fault_of_data(error);
    }
    if let Some(error) = error.downcast_ref::<ArrowError>() {
        return is_fault_of_arrow(error);
    }
    if let Some(error) = error.downcast_ref::<ParquetError>() {
        return is_fault_of_parquet(error);
    }
    if let Some(error) = error.downcast_ref::<object_store::Error>() {
        return is_fault_of_request(error);
    }
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        return is_malformed(error);
    }
    error.source().is_some_and(is_fault)
}

/// Whether bytes could be read, and are not what they should be.
fn is_malformed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    match error.get_ref() {
        Some(inner) if is_fault(inner) => true,
        _ => matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof),
    }
}

/// Reads a file that a user has named.
///
/// # Errors
/// One of input where it is not there, or not text.
pub(crate) fn read_named_file(what: &str, path: &std::path::Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidData | std::io::ErrorKind::IsADirectory => {
            Error::Invalid(format!("cannot read {what} {}: {error}; check the spelling", path.display()))
        }
        _ => {
            Error::Context { context: format!("cannot read {what} {}", path.display()), source: Box::new(error.into()) }
        }
    })
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
        let of_data = DataFusionError::Execution("a propensity of 2".into());
        assert!(Error::from(of_data).is_invalid_input());
        let divided = DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
        assert!(Error::from(DataFusionError::External(Box::new(divided))).is_invalid_input());
        let full = DataFusionError::ResourcesExhausted("memory".into());
        assert!(Error::from(full.context("a sort")).is_invalid_input());
    }

    #[test]
    fn what_a_retry_may_cure_is_not_of_data() {
        let store = |retried: bool| match retried {
            true => object_store::Error::Generic { store: "S3", source: "503".into() },
            false => object_store::Error::PermissionDenied { path: "x".into(), source: "403".into() },
        };
        for retried in [true, false] {
            let code = if retried { 1 } else { 2 };
            let wrapped = ParquetError::External(Box::new(store(retried)));
            let wrapped = DataFusionError::ParquetError(Box::new(wrapped));
            for error in [
                Error::from(store(retried)),
                wrapped.into(),
                DataFusionError::ObjectStore(Box::new(store(retried))).into(),
            ] {
                assert_eq!(error.exit_code(), code, "{error}");
            }
        }
        let gone = object_store::Error::NotFound { path: "x".into(), source: "404".into() };
        assert_eq!(Error::from(DataFusionError::ObjectStore(Box::new(gone))).exit_code(), 1);
        assert_eq!(Error::Interrupted.exit_code(), 130);
    }
}
