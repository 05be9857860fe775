//! `[tables.NAME]`: what to read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::session::TableFormat;

/// An input table: files at a URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TableSpec {
    /// A file, a folder (ending in `/`, partitioned `key=value/` or not) or a glob.
    pub url: String,
    /// `parquet`, `csv`, `tsv`, `ndjson` or `arrow`; by default what the file's extension says.
    pub format: Option<String>,
    /// `gzip`, `zstd`, `bzip2` or `xz`, of CSV and NDJSON; by default what the file's extension says.
    pub compression: Option<String>,
    /// Whether a CSV file starts with a line of column names; by default it does.
    pub header: Option<bool>,
    /// What separates the columns of a CSV file; a comma by default.
    pub delimiter: Option<char>,
    /// The columns as SQL declares them, `"user_id BIGINT, rating DOUBLE"`; inferred by default.
    pub schema: Option<String>,
    /// Aggregates over the table, such as `"count(DISTINCT user_id)"`, and the values they must have: checked when the
    /// table is opened.
    #[serde(default)]
    pub expect: BTreeMap<String, f64>,
}

impl TableSpec {
    /// How the files are read.
    pub fn format(&self) -> TableFormat {
        let Self { url: _, expect: _, format, compression, header, delimiter, schema } = self.clone();
        TableFormat { format, compression, header, delimiter, schema }
    }
}
