//! Separated values: what their headers and first values say, and how they become columns.

mod cast;
mod guess;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::config::CsvOptions;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::functions::core::expr_fn::nullif;
use datafusion::logical_expr::{Expr, lit};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use self::cast::{misfit, read_as};
use self::guess::Guess;
pub(crate) use self::guess::is_marker;
use super::fault::fault;
use super::format::{Kind, TableFormat};
use super::open::undeclared;
use crate::error::{Result, invalid};

/// How much of a table is looked at for the types of its columns, and of each of its files at least.
const SAMPLE: u64 = 4 << 20;
const SAMPLE_OF_A_FILE: u64 = 64 << 10;

/// How values are separated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dialect {
    delimiter: u8,
    quote: u8,
    escape: Option<u8>,
    header: bool,
    newlines: bool,
    pub(super) null: Option<String>,
}

impl Dialect {
    pub(super) fn new(kind: Kind, format: &TableFormat) -> Result<Self> {
        let byte = |key: &str, given: Option<char>| match given.map(u8::try_from) {
            None => Ok(None),
            Some(Ok(byte)) if byte.is_ascii() => Ok(Some(byte)),
            _ => invalid!("{key} = {:?} is not one ASCII character", given.unwrap_or_default()),
        };
        let delimiter = byte("delimiter", format.delimiter)?;
        Ok(Self {
            delimiter: delimiter.unwrap_or(if kind == Kind::Tsv { b'\t' } else { b',' }),
            quote: byte("quote", format.quote)?.unwrap_or(b'"'),
            escape: byte("escape", format.escape)?,
            header: format.header.unwrap_or(true),
            newlines: format.newlines.unwrap_or(true),
            null: format.null.clone().filter(|null| !null.is_empty()),
        })
    }

    /// The format that reads every value as text.
    ///
    /// Values that hold line breaks are read right where a scan is not split, whatever the size of a file, and a scan that
    /// may be split gives rows that are none: <https://github.com/apache/datafusion/issues/11472>.
    pub(super) fn format(&self, compression: FileCompressionType) -> Arc<dyn FileFormat> {
        let options = CsvOptions {
            has_header: Some(self.header),
            delimiter: self.delimiter,
            quote: self.quote,
            escape: self.escape,
            newlines_in_values: Some(self.newlines),
            compression: compression.get_variant().to_owned(),
            ..CsvOptions::default()
        };
        Arc::new(CsvFormat::default().with_options(options))
    }

    fn reader<'a>(&self, bytes: &'a [u8]) -> csv::Reader<&'a [u8]> {
        csv::ReaderBuilder::new()
            .delimiter(self.delimiter)
            .quote(self.quote)
            .escape(self.escape)
            .has_headers(false)
            .flexible(true)
            .from_reader(bytes)
    }
}

/// The beginning of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Head {
    /// The names of its columns, in its order.
    pub(super) names: Vec<String>,
    guesses: Vec<Guess>,
    /// A text in each column that looks like a way to write NULL.
    markers: Vec<Option<String>>,
}

/// Reads the beginning of a file; none where it has no line.
///
/// DataFusion's inference cuts its sample at line breaks, those in quoted values too
/// (<https://github.com/apache/datafusion/issues/11472>), gives each file types of its own and matches no headers.
pub(super) async fn head(
    store: &dyn ObjectStore,
    file: &ObjectMeta,
    name: &str,
    compression: FileCompressionType,
    dialect: &Dialect,
    files: usize,
) -> Result<Option<Head>> {
    let mut wanted = (SAMPLE / files as u64).max(SAMPLE_OF_A_FILE) as usize;
    let opened = async { Ok(store.get(&file.location).await?.into_stream().map_err(Into::into).boxed()) };
    let opened = opened.await.and_then(|bytes| compression.convert_stream(bytes));
    let mut bytes = opened.map_err(|error| fault(name, error))?;
    let mut sample = Vec::new();
    loop {
        let mut is_whole = false;
        while sample.len() < wanted && !is_whole {
            match bytes.try_next().await.map_err(|error| fault(name, error))? {
                Some(more) => sample.extend_from_slice(&more),
                None => is_whole = true,
            }
        }
        if sample.starts_with(&[0xff, 0xfe]) || sample.starts_with(&[0xfe, 0xff]) {
            invalid!("{name} is UTF-16; text is read as UTF-8: convert the file");
        }
        if let Some(head) = examine(&sample, is_whole, name, dialect)? {
            return Ok(Some(head));
        }
        if is_whole {
            return Ok(None);
        }
        wanted *= 4;
    }
}

/// What the sample says; none where it ends before its first record does, or has none.
fn examine(sample: &[u8], is_whole: bool, name: &str, dialect: &Dialect) -> Result<Option<Head>> {
    let text = sample.strip_prefix(b"\xef\xbb\xbf").unwrap_or(sample);
    let mut reader = dialect.reader(text);
    let mut records = Vec::new();
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).unwrap_or(false) {
        records.push(record.clone());
    }
    if !is_whole {
        // The last one may be cut.
        records.pop();
    }
    let Some(first) = records.first() else { return Ok(None) };
    if !is_whole && records.len() < 2 {
        return Ok(None);
    }
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let names: Vec<String> = match dialect.header {
        true => first.iter().map(lossy).collect(),
        false => (1..=first.len()).map(|column| format!("column_{column}")).collect(),
    };
    for (column, column_name) in names.iter().enumerate() {
        if names[..column].contains(column_name) {
            invalid!("{name} has two columns {column_name:?} in its header; rename one");
        }
    }
    if names.len() == 1 && has_blank_line(text) {
        invalid!("{name} has one column and a blank line, which may be NULL or no row; write NULL as \"\"");
    }
    let mut guesses = vec![Guess::Null; names.len()];
    let mut markers = vec![None; names.len()];
    for record in records.iter().skip(usize::from(dialect.header)) {
        for (value, (guess, marker)) in record.iter().zip(guesses.iter_mut().zip(&mut markers)) {
            let Ok(value) = std::str::from_utf8(value) else {
                *guess = Guess::Text;
                continue;
            };
            if !dialect.newlines && value.contains(['\n', '\r']) {
                invalid!("{name} has a value that holds a line break, and newlines = false says that none does");
            }
            match value {
                value if dialect.null.as_deref() == Some(value) => {}
                value if is_marker(value) => drop(marker.get_or_insert_with(|| value.to_owned())),
                value => *guess = guess.or(Guess::of(value)),
            }
        }
    }
    Ok(Some(Head { names, guesses, markers }))
}

fn has_blank_line(text: &[u8]) -> bool {
    let text = text.trim_ascii_end();
    text.windows(2).any(|pair| pair == b"\n\n") || text.windows(4).any(|four| four == b"\r\n\r\n")
}

/// The columns of all of the files, by name: as they are declared, or else of the types that hold the values of each.
pub(super) fn schema(heads: &[(String, Head)], declared: Option<&SchemaRef>, dialect: &Dialect) -> Result<SchemaRef> {
    if let Some(declared) = declared {
        let known = heads.iter().flat_map(|(_, head)| &head.names).map(String::as_str);
        if let Some((column, suggestion)) = undeclared(declared, known).filter(|_| dialect.header) {
            invalid!(
                "schema declares column {column:?}, and no header has it{suggestion}; without a header line, set \
                 header = false"
            );
        }
        return Ok(Arc::clone(declared));
    }
    let mut order: Vec<&str> = Vec::new();
    let mut guesses: HashMap<&str, Guess> = HashMap::new();
    for (name, guess) in heads.iter().flat_map(|(_, head)| head.names.iter().zip(&head.guesses)) {
        if !guesses.contains_key(name.as_str()) {
            order.push(name);
        }
        let known = guesses.entry(name).or_default();
        *known = known.or(*guess);
    }
    for (file, head) in heads {
        for (name, marker) in head.names.iter().zip(&head.markers) {
            let guess = guesses[name.as_str()];
            if let Some(marker) = marker.as_ref().filter(|_| !matches!(guess, Guess::Null | Guess::Text)) {
                return Err(misfit(file, name, marker, &guess.data_type()));
            }
        }
    }
    let field = |name: &&str| Field::new(*name, guesses[name].data_type(), true);
    Ok(Arc::new(Schema::new(order.iter().map(field).collect::<Vec<_>>())))
}

/// The names under which the values of a file are read; without a header, those of the declared columns.
pub(super) fn names(file: &str, head: &Head, declared: Option<&SchemaRef>, dialect: &Dialect) -> Result<Vec<String>> {
    let Some(declared) = declared.filter(|_| !dialect.header) else { return Ok(head.names.clone()) };
    if declared.fields().len() != head.names.len() {
        invalid!(
            "{file} has {} columns, and schema declares {}; without a header line they must be as many",
            head.names.len(),
            declared.fields().len()
        );
    }
    Ok(declared.fields().iter().map(|field| field.name().clone()).collect())
}

/// The value of a column, read from its text.
pub(super) fn value(text: Expr, field: &Field, guessed: bool, dialect: &Dialect, file: Expr) -> Expr {
    // The reader takes a pattern for NULLs in inference alone: https://github.com/apache/datafusion/issues/25213
    let text = match &dialect.null {
        Some(null) => nullif(text, lit(null.clone())),
        None => text,
    };
    match field.data_type() {
        DataType::Utf8 => text,
        data_type => read_as(text, data_type, field.name(), guessed, file),
    }
}
