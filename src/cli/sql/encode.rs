use std::ops::ControlFlow;
use std::sync::Arc;

use clap::ValueEnum;
use counterweight::error::{Error, Result, suggestion};
use counterweight::output::parquet_properties;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use datafusion::arrow::csv::WriterBuilder;
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, SchemaRef};
use datafusion::arrow::json::writer::{JsonArray, LineDelimited, Writer as JsonWriter, WriterBuilder as JsonBuilder};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;
use datafusion::parquet::arrow::ArrowWriter;
use url::Url;

/// How results are shown.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) format: Format,
    /// Whether CSV and TSV begin with the names of the columns.
    pub(super) header: bool,
    /// Rows of a table, at most.
    pub(super) max_rows: Option<usize>,
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A table for people, with floats of six digits; other formats are exact
    Table,
    /// Comma-separated values; NULL is an empty field
    Csv,
    /// Tab-separated values; NULL is an empty field
    Tsv,
    /// One JSON array of objects
    Json,
    /// One JSON object a line
    Ndjson,
    /// Parquet, compressed with zstd
    Parquet,
}

const EXTENSIONS: [(&str, Format); 7] = [
    ("parquet", Format::Parquet),
    ("csv", Format::Csv),
    ("tsv", Format::Tsv),
    ("json", Format::Json),
    ("ndjson", Format::Ndjson),
    ("jsonl", Format::Ndjson),
    ("txt", Format::Table),
];

impl Format {
    /// The format that the extension of `url` says.
    pub(super) fn of_extension(url: &Url) -> Result<Self> {
        let name = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        match EXTENSIONS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(extension)) {
            Some((_, format)) => Ok(format),
            None => Err(Error::Invalid(format!(
                "the extension of {name:?} is no format that is written here{}; or give --format",
                suggestion(extension, EXTENSIONS.map(|(known, _)| known))
            ))),
        }
    }
}

/// Turns the batches of a result into bytes, which it holds no longer than until they are taken.
pub(super) struct Encoder {
    schema: SchemaRef,
    encoding: Encoding,
    /// Rows written so far.
    pub(super) rows: usize,
}

enum Encoding {
    Table { shown: Vec<RecordBatch>, max_rows: Option<usize>, text: Vec<u8> },
    Separated { delimiter: u8, header: bool, text: Vec<u8> },
    Json(JsonWriter<Vec<u8>, JsonArray>),
    Ndjson(JsonWriter<Vec<u8>, LineDelimited>),
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

impl Encoder {
    pub(super) fn new(output: &Output, schema: SchemaRef) -> Result<Self> {
        let separated = |delimiter| Encoding::Separated { delimiter, header: output.header, text: Vec::new() };
        let json = JsonBuilder::new().with_explicit_nulls(true);
        let encoding = match output.format {
            Format::Table => Encoding::Table { shown: Vec::new(), max_rows: output.max_rows, text: Vec::new() },
            Format::Csv => separated(b','),
            Format::Tsv => separated(b'\t'),
            Format::Json => Encoding::Json(json.build(Vec::new())),
            Format::Ndjson => Encoding::Ndjson(json.build(Vec::new())),
            Format::Parquet => {
                let properties = Some(parquet_properties().build());
                Encoding::Parquet(Box::new(ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), properties)?))
            }
        };
        Ok(Self { schema, encoding, rows: 0 })
    }

    /// Takes in a batch; breaks where no more rows are wanted.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<ControlFlow<()>> {
        let mut rows = batch.num_rows();
        match &mut self.encoding {
            Encoding::Table { shown, max_rows, .. } => {
                let room = max_rows.map_or(usize::MAX, |most| most - self.rows);
                let more = rows > room;
                rows = rows.min(room);
                shown.push(batch.slice(0, rows));
                if more {
                    self.rows += rows;
                    return Ok(ControlFlow::Break(()));
                }
            }
            Encoding::Separated { delimiter, header, text } => {
                let writer = WriterBuilder::new().with_delimiter(*delimiter).with_header(std::mem::take(header));
                writer.build(text).write(&flat(batch)?)?;
            }
            Encoding::Json(writer) => writer.write(batch)?,
            Encoding::Ndjson(writer) => writer.write(batch)?,
            Encoding::Parquet(writer) => writer.write(batch)?,
        }
        self.rows += rows;
        Ok(ControlFlow::Continue(()))
    }

    /// Ends the result.
    pub(super) fn finish(&mut self) -> Result<()> {
        match &mut self.encoding {
            Encoding::Table { shown, text, .. } => {
                shown.push(RecordBatch::new_empty(Arc::clone(&self.schema)));
                let shown = shown.drain(..).map(|batch| readable(&batch)).collect::<Result<Vec<_>>>()?;
                let options = FormatOptions::new().with_null("NULL");
                text.extend(format!("{}\n", pretty_format_batches_with_options(&shown, &options)?).bytes());
            }
            // The line of names, where no batch came.
            Encoding::Separated { header: true, .. } => {
                let _ = self.write(&RecordBatch::new_empty(Arc::clone(&self.schema)))?;
            }
            Encoding::Separated { .. } => {}
            Encoding::Json(writer) => {
                writer.finish()?;
                writer.get_mut().push(b'\n');
            }
            Encoding::Ndjson(writer) => writer.finish()?,
            Encoding::Parquet(writer) => {
                writer.finish()?;
            }
        }
        Ok(())
    }

    /// The bytes made since they were last taken.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(match &mut self.encoding {
            Encoding::Table { text, .. } | Encoding::Separated { text, .. } => text,
            Encoding::Json(writer) => writer.get_mut(),
            Encoding::Ndjson(writer) => writer.get_mut(),
            Encoding::Parquet(writer) => writer.inner_mut(),
        })
    }
}

/// The batch with nested columns as text, which CSV has no other way to hold.
fn flat(batch: &RecordBatch) -> Result<RecordBatch> {
    map_columns(batch, |array| {
        if !array.data_type().is_nested() {
            return Ok(None);
        }
        let options = FormatOptions::new().with_null("NULL");
        let formatter = ArrayFormatter::try_new(array, &options)?;
        let text = (0..array.len()).map(|row| array.is_valid(row).then(|| formatter.value(row).to_string()));
        Ok(Some(Arc::new(text.collect::<StringArray>())))
    })
}

/// The batch with floats rounded to what people read.
fn readable(batch: &RecordBatch) -> Result<RecordBatch> {
    map_columns(batch, |array| {
        let text: StringArray = match array.data_type() {
            DataType::Float64 => {
                array.as_primitive::<Float64Type>().iter().map(|value| value.map(six_digits)).collect()
            }
            DataType::Float32 => array
                .as_primitive::<Float32Type>()
                .iter()
                .map(|value| value.map(|value| six_digits(value.into())))
                .collect(),
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(text)))
    })
}

fn map_columns(batch: &RecordBatch, text: impl Fn(&dyn Array) -> Result<Option<ArrayRef>>) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        match text(array)? {
            Some(text) => {
                fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
                columns.push(text);
            }
            None => {
                fields.push(Arc::clone(field));
                columns.push(Arc::clone(array));
            }
        }
    }
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

/// Six significant digits, and never fewer than the integer part has; an exponent only for the very large and small.
fn six_digits(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() || value == 0.0 {
        return value.to_string();
    }
    if !(1e-4..1e15).contains(&magnitude) {
        return format!("{value:.5e}");
    }
    let decimals = (5 - magnitude.log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_readable() {
        for (value, text) in [
            (0.1 + 0.2, "0.3"),
            (0.0, "0"),
            (1.0, "1"),
            (-12.5, "-12.5"),
            (123_456_789.25, "123456789"),
            (1.0 / 3.0, "0.333333"),
            (0.000_123_456_78, "0.000123457"),
            (0.000_01, "1.00000e-5"),
            (1e300, "1.00000e300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(six_digits(value), text);
        }
    }

    #[test]
    fn an_extension_names_a_format() {
        let of = |url: &str| Format::of_extension(&Url::parse(url).unwrap());
        assert_eq!(of("s3://bucket/a.b/x.PARQUET").unwrap(), Format::Parquet);
        assert_eq!(of("file:///x.jsonl").unwrap(), Format::Ndjson);
        assert!(of("file:///x.parqet").unwrap_err().to_string().contains("did you mean \"parquet\"?"));
        assert!(of("file:///x").unwrap_err().to_string().contains("--format"));
    }
}
