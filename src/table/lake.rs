//! Tables whose folder holds more files than count: Delta Lake, Hudi, Iceberg.

use std::collections::HashSet;

use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::listing::{any_below, below};
use crate::error::{Result, invalid};

/// The formats by the folder that marks them.
const MARKS: [(&str, &str, &str); 2] = [
    ("_delta_log", "a Delta Lake table", "DuckDB's delta_scan, delta-rs or Spark"),
    (".hoodie", "a Hudi table", "Spark or Trino with Hudi"),
];

/// Refuses `files` of such a table, where `objects` is all that lies in `folder`: which of them count is said in the
/// table's log, and a listing would bring deleted rows back.
pub(super) async fn refuse(
    store: &dyn ObjectStore,
    folder: &Path,
    objects: &[ObjectMeta],
    files: &[ObjectMeta],
) -> Result<()> {
    let is_within = |table: &[&str]| files.iter().any(|file| below(folder, &file.location).starts_with(table));
    let mut seen = HashSet::new();
    let mut is_marked = |mark: &dyn Fn(&[&str]) -> Option<usize>| {
        objects.iter().any(|object| {
            let path = below(folder, &object.location);
            let table = mark(&path).map(|depth| path[..depth].to_vec());
            table.is_some_and(|table| seen.insert(table.clone()) && is_within(&table))
        })
    };
    for (mark, what, reader) in MARKS {
        let marked = is_marked(&|path| path.iter().position(|name| *name == mark));
        if marked || is_partition_of(store, folder, mark).await? {
            return refused(what, reader);
        }
    }
    let iceberg = |path: &[&str]| match path {
        [table @ .., "metadata", file] if file.ends_with(".metadata.json") => Some(table.len()),
        _ => None,
    };
    match is_marked(&iceberg) {
        true => refused("an Iceberg table", "DuckDB's iceberg_scan, PyIceberg or Spark"),
        false => Ok(()),
    }
}

fn refused(what: &str, reader: &str) -> Result<()> {
    invalid!(
        "this is {what}, whose log says which of its files count; it is not read here. Export what is wanted to plain \
         Parquet with {reader}, and name that"
    )
}

/// Whether `folder` is a partition `key=value` of a table that has `mark`.
async fn is_partition_of(store: &dyn ObjectStore, folder: &Path, mark: &str) -> Result<bool> {
    let mut table = folder.as_ref();
    while let Some((above, _)) = table.rsplit_once('/').filter(|(_, last)| last.contains('=')) {
        table = above;
    }
    if table.len() == folder.as_ref().len() {
        return Ok(false);
    }
    any_below(store, &Path::parse(format!("{table}/{mark}")).map_err(object_store::Error::from)?).await
}
