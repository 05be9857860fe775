//! The files of a table, and what each one's scored copy is called.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::dataframe::DataFrame;

use counterweight::context::JobContext;
use counterweight::error::{Result, invalid};
use counterweight::session::reconfigured;
use counterweight::table::{Table, TableFile};

/// One file of the table that is scored.
#[derive(Debug, Clone)]
pub(super) struct InputFile {
    table: Arc<Table>,
    pub(super) file: TableFile,
}

impl InputFile {
    /// The file's rows, in order, with the columns that they have in the whole table.
    pub(super) fn open(&self, context: &JobContext) -> Result<DataFrame> {
        let in_order = reconfigured(context.session.state(), |config| config.with_target_partitions(1));
        Ok(in_order.read_table(self.table.file(&self.file)?)?)
    }

    /// Whether a column comes of the folders that the file lies in, which its scored copy lies in, too.
    pub(super) fn is_partition(&self, column: &str) -> bool {
        self.table.is_partition(column)
    }
}

/// The files of the job's table of that name, each with the name of its scored copy.
///
/// # Errors
/// Where two files would have one name.
pub(super) async fn input_files(context: &JobContext, table: &str) -> Result<Vec<(InputFile, String)>> {
    let spec = &context.job.tables[table];
    let table = Arc::new(Table::open(&context.session.state(), &spec.url, &spec.format()).await?);
    let mut names: BTreeMap<String, &TableFile> = BTreeMap::new();
    let mut files = Vec::new();
    for file in table.files() {
        let name = format!("{}.parquet", file.stem);
        if let Some(other) = names.insert(name.clone(), file) {
            invalid!("{other} and {file} would both be scored into {name}; rename one");
        }
        files.push((InputFile { table: Arc::clone(&table), file: file.clone() }, name));
    }
    Ok(files)
}
