//! The files of a table, and what each one's scored copy is called.

use std::collections::BTreeMap;

use datafusion::dataframe::DataFrame;
use url::Url;

use counterweight::context::JobContext;
use counterweight::error::{Result, invalid};
use counterweight::session::{TableFormat, open_table, reconfigured, table_files};

/// One file of the table that is scored.
#[derive(Debug, Clone)]
pub(super) struct InputFile {
    pub(super) url: Url,
    format: TableFormat,
}

impl InputFile {
    /// The file's rows, in order.
    pub(super) async fn open(&self, context: &JobContext) -> Result<DataFrame> {
        let state = context.session.state();
        let table = open_table(&state, self.url.as_str(), &self.format).await?;
        let in_order = reconfigured(state, |config| config.with_target_partitions(1));
        Ok(in_order.read_table(table)?)
    }
}

/// The files of the job's table of that name, each with the name of its scored copy.
///
/// # Errors
/// Where two files would have one name.
pub(super) async fn input_files(context: &JobContext, table: &str) -> Result<Vec<(InputFile, String)>> {
    let spec = &context.job.tables[table];
    let mut names: BTreeMap<String, Url> = BTreeMap::new();
    let mut files = Vec::new();
    for file in table_files(&context.session.state(), &spec.url).await? {
        let name = format!("{}.parquet", file.stem);
        if let Some(other) = names.insert(name.clone(), file.url.clone()) {
            invalid!("{other} and {} would both be scored into {name}; rename one", file.url);
        }
        files.push((InputFile { url: file.url, format: spec.format() }, name));
    }
    Ok(files)
}
