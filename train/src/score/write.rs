//! Writes scored rows as Parquet files.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::partition;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::dataframe::DataFrame;
use datafusion::parquet::arrow::AsyncArrowWriter;
use futures::TryStreamExt;

use super::scorer::{Counts, Scorer};
use counterweight::context::JobContext;
use counterweight::error::{Error, Result, invalid};
use counterweight::output::{OutputFolder, Outputs, Staged, parquet_properties};

/// Rows of a file of a query's.
const ROWS_PER_FILE: usize = 1 << 22;
/// The folder of a partition whose value is NULL, as Hive calls it.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// Scores `rows`, in their order, into one file of the columns of `schema`.
pub(super) async fn write_file(
    context: &JobContext,
    rows: DataFrame,
    schema: SchemaRef,
    scorer: &Scorer,
    to: Staged,
) -> Result<(Staged, Counts)> {
    let mut file = FileWriter::new(to, schema)?;
    let mut batches = rows.execute_stream().await?;
    let mut counts = Counts::default();
    while let Some(batch) = batches.try_next().await? {
        if context.interrupt.is_cancelled() {
            return Err(Error::Interrupted);
        }
        file.write(&scorer.score(&batch, &file.schema, &mut counts)?).await?;
    }
    Ok((file.close().await?, counts))
}

/// Scores `rows`, in their order, into files of [`ROWS_PER_FILE`] rows; into one folder for each value of the columns
/// `by`, which are the first thing that the rows are sorted by.
pub(super) async fn write_query(
    context: &JobContext,
    rows: DataFrame,
    by: &[String],
    scorer: &Scorer,
    outputs: &Outputs,
    folder: &OutputFolder,
) -> Result<(Counts, usize)> {
    let schema = scorer.output_schema(rows.schema().inner(), &|name| by.iter().any(|by| by == name))?;
    let mut batches = rows.execute_stream().await?;
    let (mut counts, mut files) = (Counts::default(), 0);
    let mut open: Option<(String, FileWriter)> = None;
    while let Some(batch) = batches.try_next().await? {
        if context.interrupt.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let columns = by.iter().map(|name| named(&batch, name)).collect::<Result<Vec<_>>>()?;
        let scored = scorer.score(&batch, &schema, &mut counts)?;
        let ranges = if columns.is_empty() {
            std::iter::once(0..batch.num_rows()).filter(|rows| !rows.is_empty()).collect()
        } else {
            partition(&columns)?.ranges()
        };
        for range in ranges {
            let place = place(by, &columns, range.start)?;
            let is_other = |(at, file): &mut (String, FileWriter)| *at != place || file.rows >= ROWS_PER_FILE;
            if let Some((_, full)) = open.take_if(is_other) {
                outputs.add(full.close().await?).await?;
            }
            let (_, file) = match &mut open {
                Some(open) => open,
                None => {
                    let to = folder.create(&format!("{place}part-{files:05}.parquet")).await?;
                    files += 1;
                    open.insert((place, FileWriter::new(to, Arc::clone(&schema))?))
                }
            };
            file.write(&scored.slice(range.start, range.len())).await?;
        }
    }
    match open {
        Some((_, last)) => outputs.add(last.close().await?).await?,
        // A table without rows has columns all the same.
        None if by.is_empty() => {
            let empty = FileWriter::new(folder.create("part-00000.parquet").await?, schema)?;
            outputs.add(empty.close().await?).await?;
            files += 1;
        }
        None => {}
    }
    Ok((counts, files))
}

fn named(batch: &RecordBatch, name: &str) -> Result<ArrayRef> {
    match batch.column_by_name(name) {
        Some(column) => Ok(Arc::clone(column)),
        None => invalid!("score.partition_by: score.query has no column {name:?}"),
    }
}

/// The folder of the row at `row`: `day=2026-11-24/`.
fn place(by: &[String], columns: &[ArrayRef], row: usize) -> Result<String> {
    let mut place = String::new();
    for (name, column) in by.iter().zip(columns) {
        let value = if column.is_null(row) { NULL_PARTITION.to_owned() } else { array_value_to_string(column, row)? };
        if value.is_empty() || value.contains(['/', '%', '=']) || value.chars().any(char::is_control) {
            invalid!(
                "score.partition_by: the value {value:?} of {name:?} cannot be the name of a folder; leave {name:?} out"
            );
        }
        place.push_str(&format!("{name}={value}/"));
    }
    Ok(place)
}

/// A Parquet file in the writing.
struct FileWriter {
    writer: AsyncArrowWriter<Staged>,
    schema: SchemaRef,
    rows: usize,
}

impl FileWriter {
    fn new(to: Staged, schema: SchemaRef) -> Result<Self> {
        let properties = parquet_properties().build();
        Ok(Self { writer: AsyncArrowWriter::try_new(to, Arc::clone(&schema), Some(properties))?, schema, rows: 0 })
    }

    async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows();
        Ok(self.writer.write(batch).await?)
    }

    async fn close(mut self) -> Result<Staged> {
        self.writer.finish().await?;
        Ok(self.writer.into_inner())
    }
}
