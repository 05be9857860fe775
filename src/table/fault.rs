//! What a failed read is told as: the file, and whose fault it is.

use std::io::ErrorKind;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;

use crate::error::Error;

/// The error of ours for one that reading `file` gave: a fault of the data, unless the store or the machine failed.
pub(super) fn fault(file: &str, error: DataFusionError) -> Error {
    if let Some(ours) = ours(&error) {
        return ours;
    }
    match cause(&error) {
        Cause::Replaced => world(format!("{file} was replaced while it was read; run again")),
        Cause::Removed => world(format!("{file} was removed while it was read; run again")),
        Cause::World => Error::Context { context: format!("cannot read {file}"), source: Box::new(Error::from(error)) },
        Cause::Data => Error::Invalid(format!("cannot read {file}: {}{}", text(&error), cure(&error))),
    }
}

fn world(message: String) -> Error {
    Error::Io(std::io::Error::other(message))
}

/// An error that we made, and that a reader has carried.
fn ours(error: &DataFusionError) -> Option<Error> {
    match error.find_root() {
        DataFusionError::External(source) => match source.downcast_ref::<Error>() {
            Some(Error::Invalid(message)) => Some(Error::Invalid(message.clone())),
            _ => None,
        },
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Data,
    Replaced,
    Removed,
    World,
}

fn cause(error: &(dyn std::error::Error + 'static)) -> Cause {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(store) = error.downcast_ref::<object_store::Error>() {
            return match store {
                object_store::Error::Precondition { .. } => Cause::Replaced,
                object_store::Error::NotFound { .. } => Cause::Removed,
                _ => Cause::World,
            };
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            match io.kind() {
                // What decompression says of bytes that are not its own.
                ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => return Cause::Data,
                ErrorKind::NotFound => return Cause::Removed,
                ErrorKind::Other => {}
                _ => return Cause::World,
            }
        }
        if matches!(error.downcast_ref::<DataFusionError>(), Some(DataFusionError::ResourcesExhausted(_))) {
            return Cause::World;
        }
        next = match (error.downcast_ref::<ArrowError>(), error.downcast_ref::<ParquetError>()) {
            (Some(ArrowError::ExternalError(source)), _) => Some(source.as_ref()),
            (Some(ArrowError::IoError(_, source)), _) => Some(source),
            (_, Some(ParquetError::External(source))) => Some(source.as_ref()),
            _ => match error.downcast_ref::<std::io::Error>() {
                Some(io) => io.get_ref().map(|source| source as _),
                None => error.source(),
            },
        };
    }
    Cause::Data
}

fn text(error: &DataFusionError) -> String {
    let root = error.find_root().strip_backtrace();
    let root = root.strip_prefix("External error: ").unwrap_or(&root);
    root.trim_end_matches('.').to_owned()
}

/// What mends it, where the reader's own words do not say so.
fn cure(error: &DataFusionError) -> &'static str {
    let text = error.to_string();
    if text.contains("incorrect number of fields") {
        "; a row has as many values as the header has names: see `quote`, `escape` and `delimiter` of the table, and with \
         `newlines = false` whether a value holds a line break"
    } else if text.contains("UTF-8") {
        "; text is read as UTF-8: convert the file"
    } else if text.contains("Json error") {
        "; write the column as one type in every line, or state it in `schema`"
    } else {
        "; the file is damaged or not of its format: write it anew, or leave it out"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_data_are_told_from_those_of_the_world() {
        let code = |error: DataFusionError| fault("a.csv", error).exit_code();
        let external = |error: std::io::Error| ArrowError::from(error).into();
        assert_eq!(code(ParquetError::EOF("eof".into()).into()), 2);
        assert_eq!(code(ArrowError::CsvError("bad".into()).into()), 2);
        assert_eq!(code(external(std::io::Error::new(ErrorKind::UnexpectedEof, "cut"))), 2);
        assert_eq!(code(external(std::io::Error::new(ErrorKind::PermissionDenied, "no"))), 1);
        let store = |source: object_store::Error| ParquetError::External(Box::new(source)).into();
        let path = || "a".to_owned();
        assert_eq!(code(DataFusionError::ResourcesExhausted("memory".into())), 2);
        assert_eq!(code(store(object_store::Error::PermissionDenied { path: path(), source: "x".into() })), 2);
        assert_eq!(code(store(object_store::Error::Generic { store: "S3", source: "x".into() })), 1);
        let gone = fault("a.csv", store(object_store::Error::NotFound { path: path(), source: "x".into() }));
        assert_eq!((gone.exit_code(), gone.to_string().contains("removed")), (1, true), "{gone}");
        let other = fault("a.csv", store(object_store::Error::Precondition { path: path(), source: "x".into() }));
        assert_eq!((other.exit_code(), other.to_string().contains("replaced")), (1, true), "{other}");
    }
}
