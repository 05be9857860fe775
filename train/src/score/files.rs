//! The files of a table, and where each one's scored copy goes.

use std::collections::BTreeMap;

use datafusion::dataframe::DataFrame;
use url::Url;

use counterweight::context::JobContext;
use counterweight::error::{Result, invalid};
use counterweight::session::{TableFormat, open_table, reconfigured, table_files};
use counterweight::storage::child;

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

/// The files of the job's table of that name, each with its place in the folder `output`.
///
/// # Errors
/// Where the output folder and the table overlap, or two files would have one place.
pub(super) async fn input_files(context: &JobContext, table: &str, output: &Url) -> Result<Vec<(InputFile, Url)>> {
    let spec = &context.job.tables[table];
    let mut places: BTreeMap<Url, Url> = BTreeMap::new();
    let mut files = Vec::new();
    for file in table_files(&context.session.state(), &spec.url).await? {
        if file.url.as_str().starts_with(output.as_str()) {
            invalid!("its file {} lies in score.output = {output}; write the scored table to another folder", file.url);
        }
        let to = child(output, &encoded(&file.stem))?;
        if let Some(other) = places.insert(to.clone(), file.url.clone()) {
            invalid!("{other} and {} would both be scored into {to}; rename one", file.url);
        }
        files.push((InputFile { url: file.url, format: spec.format() }, to));
    }
    if let Some(folder) = spec_folder(context, table)
        && output.as_str().starts_with(folder.as_str())
    {
        invalid!("score.output = {output} lies in the table's folder {folder}; write the scored table elsewhere");
    }
    Ok(files)
}

/// The folder that makes up a table, where it is one.
fn spec_folder(context: &JobContext, table: &str) -> Option<Url> {
    let text = &context.job.tables[table].url;
    counterweight::storage::parse_url(text).ok().filter(|url| url.path().ends_with('/'))
}

/// A path below a folder as a relative URL; `=`, which partitions use, and `/` stay.
fn encoded(stem: &str) -> String {
    format!("./{}.parquet", stem.replace('%', "%25").replace('?', "%3F").replace('#', "%23"))
}
