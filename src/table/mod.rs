//! Files as tables: one listing and one opening for every reader.
//!
//! A table is made of the files that its location had when it was opened, matched by the names of their columns. A run reads
//! that list of files, each as it was listed; a file that was replaced or removed ends the run.

mod csv;
mod fault;
mod format;
mod frozen;
mod glob;
mod json;
mod lake;
mod listing;
mod location;
mod open;
mod parquet;
mod partition;
mod scan;
mod source;
mod widen;

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::context::SessionState;

pub(crate) use csv::is_marker;
pub use format::TableFormat;
pub use listing::TableFile;
pub(crate) use listing::is_hidden;
pub(crate) use location::{Location, Shape};
pub use open::Table;

use crate::error::{Context, Result};

/// Opens the table whose files lie at `location`, as [`Table::open`] does.
///
/// # Errors
/// As [`Table::open`].
pub async fn open_table(state: &SessionState, location: &str, format: &TableFormat) -> Result<Arc<dyn TableProvider>> {
    Table::open(state, location, format).await?.provider()
}

/// The files of the table at `location`, in the order of their paths, without opening any.
///
/// # Errors
/// Where there is none, or they are not of one format.
pub async fn list(state: &SessionState, location: &str, format: &TableFormat) -> Result<Vec<TableFile>> {
    let files = async {
        let at = location::Location::parse(location)?;
        let found = listing::find(state, &at, format.recursive.unwrap_or(true)).await?;
        format::kind_of(&at, &found.files, format)?;
        Ok::<_, crate::error::Error>(found.files.iter().map(|file| found.table_file(&at, file)).collect())
    };
    files.await.context(|| format!("cannot open the table at {location}"))
}

/// Refuses a location, as [`open_table`] takes it, that holds no file.
///
/// # Errors
/// Where there is none that is not hidden or empty.
pub async fn require_file(state: &SessionState, location: &str) -> Result<()> {
    let found = async { listing::find(state, &location::Location::parse(location)?, true).await };
    found.await.map(drop).context(|| format!("cannot open the table at {location}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::session::{SessionOptions, session};
    use crate::storage::Storage;

    #[tokio::test]
    async fn a_table_is_what_its_files_and_its_format_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("ratings.txt"), "1,2,5\n3,4,1\n").unwrap();
        std::fs::create_dir_all(path("log/day=2026-01-01")).unwrap();
        std::fs::write(path("log/day=2026-01-01/a.tsv"), "x\ty\n1\t2\n").unwrap();
        std::fs::write(path("log/_SUCCESS"), "").unwrap();
        std::fs::write(path("notes.docx"), "?").unwrap();
        let context = session(&SessionOptions::default(), Arc::new(Storage::new([]))).unwrap();
        let state = context.state();

        let format = TableFormat {
            header: Some(false),
            schema: Some("user_id BIGINT, item_id BIGINT, rating DOUBLE".into()),
            ..Default::default()
        };
        let ratings = open_table(&state, &path("ratings.txt"), &format).await.unwrap();
        context.register_table("ratings", ratings).unwrap();
        let rows = context.sql("SELECT sum(user_id * rating) AS s FROM ratings").await.unwrap();
        assert!(format!("{:?}", rows.collect().await.unwrap()).contains("8.0"));

        let url = format!("file://{}", path("log/**/*.tsv"));
        let rows = context.sql(&format!("SELECT x, y FROM '{url}'")).await.unwrap().count().await.unwrap();
        assert_eq!(rows, 1);
        let log = path("log/day=2026-01-01/");
        let rows = context.sql(&format!("SELECT x + y FROM '{log}'")).await.unwrap().count().await.unwrap();
        assert_eq!(rows, 1);

        let cases = [
            ("none.parquet", TableFormat::default(), "there is no file there"),
            ("notes.docx", TableFormat::default(), "is no format that is read here"),
            ("ratings.txt", TableFormat { format: Some("cvs".into()), ..Default::default() }, "did you mean \"csv\"?"),
            (
                "ratings.txt",
                TableFormat { format: Some("json".into()), header: Some(true), ..Default::default() },
                "belong to csv",
            ),
            ("ratings.txt", TableFormat { schema: Some("a WHAT".into()), ..Default::default() }, "schema = \"a WHAT\""),
        ];
        for (name, format, expected) in cases {
            let error = open_table(&state, &path(name), &format).await.unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(name), "{error}");
        }
    }
    #[tokio::test]
    async fn a_run_reads_the_files_that_it_found_at_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let context = session(&SessionOptions::default(), Arc::new(Storage::new([]))).unwrap();
        let state = context.state();
        let sum = async |table: &Table| -> crate::error::Result<String> {
            let rows = context.read_table(table.provider()?)?;
            Ok(format!("{:?}", rows.collect().await?))
        };
        for extension in ["csv", "ndjson", "parquet"] {
            let file = path(&format!("{extension}/a.{extension}"));
            std::fs::create_dir_all(path(extension)).unwrap();
            let write = async |value: i64, to: &str| {
                let rows = format!("COPY (SELECT value + {value} AS x FROM range(1000)) TO '{to}'");
                context.sql(&rows).await.unwrap().collect().await.unwrap();
            };
            match extension {
                "ndjson" => std::fs::write(&file, "{\"x\":1}\n").unwrap(),
                _ => write(1, &file).await,
            }
            let table = Table::open(&state, &path(extension), &TableFormat::default()).await.unwrap();
            assert!(sum(&table).await.is_ok());

            // Another file is not seen, and one that was replaced or removed is told of.
            std::fs::copy(&file, path(&format!("{extension}/b.{extension}"))).unwrap();
            assert_eq!(table.files().len(), 1);
            assert!(sum(&table).await.is_ok());
            match extension {
                "ndjson" => std::fs::write(&file, "{\"x\":1}\n{\"x\":2}\n").unwrap(),
                _ => write(100_000, &file).await,
            }
            let error = sum(&table).await.unwrap_err();
            assert!(error.to_string().contains("was replaced while it was read"), "{error}");
            assert!(error.exit_code() == 1 && error.to_string().contains(&file), "{error}");
            std::fs::remove_file(&file).unwrap();
            let error = sum(&table).await.unwrap_err();
            assert!(error.exit_code() == 1 && error.to_string().contains("was removed"), "{error}");
        }
    }
}
