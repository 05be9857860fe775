//! The files of a table, and where each one's scored copy goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::dataframe::DataFrame;
use url::Url;

use counterweight::context::JobContext;
use counterweight::error::{Result, invalid};
use counterweight::session::reconfigured;
use counterweight::storage::parse_url;
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

/// The files of the job's table of that name, each with its place in the folder `output`.
///
/// # Errors
/// Where the output folder and the table overlap, or two files would have one place.
pub(super) async fn input_files(context: &JobContext, table: &str, output: &Url) -> Result<Vec<(InputFile, Url)>> {
    let spec = &context.job.tables[table];
    let table_of_all = Arc::new(Table::open(&context.session.state(), &spec.url, &spec.format()).await?);
    let mut places: BTreeMap<Url, Url> = BTreeMap::new();
    let mut files = Vec::new();
    for file in table_of_all.files() {
        let url = file.url();
        if url.as_str().starts_with(output.as_str()) {
            invalid!("its file {url} lies in score.output = {output}; write the scored table to another folder");
        }
        let to = place(output, &file.stem)?;
        if let Some(other) = places.insert(to.clone(), url.clone()) {
            invalid!("{other} and {url} would both be scored into {to}; rename one");
        }
        files.push((InputFile { table: Arc::clone(&table_of_all), file: file.clone() }, to));
    }
    let folder = parse_url(&format!("{}/", spec.url.trim_end_matches('/')));
    if let Ok(folder) = folder
        && table_of_all.files().iter().any(|file| file.url().as_str().starts_with(folder.as_str()))
        && output.as_str().starts_with(folder.as_str())
    {
        invalid!("score.output = {output} lies in the table's folder {folder}; write the scored table elsewhere");
    }
    Ok(files)
}

/// The place of a scored file in the folder `output`. A name stays one name, whatever characters it has.
fn place(output: &Url, stem: &str) -> Result<Url> {
    let mut place = output.clone();
    let names = stem.split('/');
    if names.clone().any(|name| matches!(name, "" | "." | "..")) {
        invalid!("a file's place {stem:?} leads out of {output}; rename the file");
    }
    match place.path_segments_mut() {
        Ok(mut segments) => drop(segments.pop_if_empty().extend(names)),
        Err(()) => invalid!("{output} is no folder"),
    }
    place.set_path(&format!("{}.parquet", place.path()));
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scored_file_stays_in_its_folder() {
        let output = Url::parse("file:///scored/").unwrap();
        for (stem, path) in [
            ("day=1/a", "/scored/day=1/a.parquet"),
            (r"..\x", "/scored/..%5Cx.parquet"),
            ("p[1]", "/scored/p[1].parquet"),
            ("50% ?#", "/scored/50%25%20%3F%23.parquet"),
        ] {
            assert_eq!(place(&output, stem).unwrap().path(), path);
        }
        assert!(place(&output, "a/../../x").is_err());
    }
}
