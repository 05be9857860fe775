//! `[tables.NAME]`: what to read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::table::TableFormat;

/// An input table: files at a URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TableSpec {
    /// A file, a folder (partitioned `key=value/` or not) or a glob, in which `**` stands for any number of folders.
    pub url: String,
    /// `parquet`, `csv`, `tsv`, `ndjson` or `arrow`; by default what the file's extension says.
    pub format: Option<String>,
    /// `gzip`, `zstd`, `bzip2` or `xz`, of CSV and NDJSON; by default what the file's extension says.
    pub compression: Option<String>,
    /// Whether a CSV file starts with a line of column names; by default it does.
    pub header: Option<bool>,
    /// What separates the columns of a CSV file; a comma by default.
    pub delimiter: Option<char>,
    /// What a value of a CSV file that holds a delimiter or a line break stands in; `"` by default.
    pub quote: Option<char>,
    /// What stands before a quote within a quoted value of a CSV file; by default the quote itself, doubled.
    pub escape: Option<char>,
    /// Whether values of a CSV file may hold line breaks; by default they may. Without, a scan of a large file is split
    /// between threads.
    pub newlines: Option<bool>,
    /// The text that stands for NULL in a CSV file, such as `"\\N"` or `"NA"`, besides an empty value, which always does.
    pub null: Option<String>,
    /// The columns as SQL declares them, `"user_id BIGINT, rating DOUBLE"`, matched by name where the files have names;
    /// inferred by default.
    pub schema: Option<String>,
    /// The unit in which timestamps of 96 bits in Parquet are read: `us`, by default, or `ns`, `ms`, `s`. In `ns` years
    /// before 1677 and after 2262 have no place.
    pub int96: Option<String>,
    /// Whether the files of a folder's folders are read, too; by default they are. Without, only those of `key=value/` are.
    pub recursive: Option<bool>,
    /// Aggregates over the table, such as `"count(DISTINCT user_id)"`, and the values they must have: checked when the
    /// table is opened.
    #[serde(default)]
    pub expect: BTreeMap<String, f64>,
}

impl TableSpec {
    /// How the files are read.
    pub fn format(&self) -> TableFormat {
        let spec = self.clone();
        TableFormat {
            format: spec.format,
            compression: spec.compression,
            header: spec.header,
            delimiter: spec.delimiter,
            quote: spec.quote,
            escape: spec.escape,
            newlines: spec.newlines,
            null: spec.null,
            schema: spec.schema,
            int96: spec.int96,
            recursive: spec.recursive,
        }
    }
}
