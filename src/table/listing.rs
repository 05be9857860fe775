//! What lies at a location: the one listing of objects, and the files of a table in it.

use std::sync::Arc;

use datafusion::execution::context::SessionState;
use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use url::Url;

use super::format::Name;
use super::lake;
use super::location::{Location, Shape, show};
use crate::error::{Context, Result, invalid};
use crate::output;

/// A file of a table: the object that the listing found, whatever its name looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFile {
    /// The object: its path in the store, its size and its version.
    pub meta: ObjectMeta,
    /// The store, as sessions know it.
    pub store: ObjectStoreUrl,
    /// Its path below the table's folder, without the extensions of format and compression, and without the run that a file
    /// of ours carries.
    pub stem: String,
}

impl TableFile {
    /// The file's URL, in which a name's special characters are encoded.
    pub fn url(&self) -> Url {
        let mut url = AsRef::<Url>::as_ref(&self.store).clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(self.meta.location.as_ref().split('/'));
        }
        url
    }
}

impl std::fmt::Display for TableFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&show(&self.store, &self.meta.location))
    }
}

/// Whether a file or folder of that name is no part of a table: markers and what is yet to be put in place begin with `_`
/// or `.`. A folder `_key=value` is a partition.
pub(crate) fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || (name.starts_with('_') && !name.contains('='))
}

/// Every object under `prefix`, in the order of their paths; of a folder that a run of ours has written, those of that run.
/// All listings of folders go through here.
async fn objects(store: &dyn ObjectStore, prefix: &Path) -> Result<Vec<ObjectMeta>> {
    let mut objects = output::list(store, prefix).await?;
    objects.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(objects)
}

/// The files at a location.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The folder that their partitions and their places in an output are counted from.
    pub(super) folder: Path,
    /// At least one, in the order of their paths.
    pub(super) files: Vec<ObjectMeta>,
}

impl Found {
    pub(super) fn table_file(&self, location: &Location, meta: &ObjectMeta) -> TableFile {
        let below = below(&self.folder, &meta.location);
        let (folders, name) = below.split_at(below.len() - 1);
        let name = name.first().copied().unwrap_or_default();
        let stem = output::without_run(Name::of(name).stem);
        let stem: Vec<&str> = folders.iter().copied().chain([stem]).collect();
        TableFile { meta: meta.clone(), store: location.store.clone(), stem: stem.join("/") }
    }
}

/// The segments of `path` below `folder`.
pub(super) fn below<'a>(folder: &Path, path: &'a Path) -> Vec<&'a str> {
    let depth = folder.parts().count();
    path.as_ref().split('/').skip(depth).collect()
}

/// The files at `location`: those of a folder, or those that a pattern stands for, without hidden and empty ones.
///
/// # Errors
/// Where there is none; where they belong to a table of a format that says elsewhere which of its files count.
pub(super) async fn find(state: &SessionState, location: &Location, recursive: bool) -> Result<Found> {
    let store = state.runtime_env().object_store(&location.store)?;
    if location.shape == Shape::Object {
        let file = match store.head(&location.path).await {
            Err(object_store::Error::NotFound { .. }) => output::head(&*store, &location.path).await?,
            found => Some(found?),
        };
        match file {
            Some(file) if file.size == 0 => invalid!("the file there is empty"),
            Some(file) => return Ok(Found { folder: location.path.parent().unwrap_or_default(), files: vec![file] }),
            None if location.store.as_str().starts_with("http") => {
                invalid!("there is no file there; check the spelling")
            }
            None => {}
        }
    }
    let folder = location.path.clone();
    let all =
        objects(store.as_ref(), &folder).await.context(|| format!("cannot list {}", show(&location.store, &folder)))?;
    let chosen = |chosen: &dyn Fn(&[&str]) -> bool| -> Vec<ObjectMeta> {
        all.iter().filter(|object| chosen(&below(&folder, &object.location))).cloned().collect()
    };
    let found = match &location.shape {
        Shape::Object | Shape::Folder => chosen(&|path| {
            let Some((_, folders)) = path.split_last() else { return false };
            path.iter().all(|name| !is_hidden(name)) && (recursive || folders.iter().all(|name| name.contains('=')))
        }),
        Shape::Glob { glob, literal } => {
            let mut found = chosen(&|path| glob.matches(path));
            if found.is_empty() {
                found = all.iter().filter(|object| object.location == *literal).cloned().collect();
            }
            if found.is_empty() {
                found = chosen(&|path| glob.holds(path));
            }
            found
        }
    };
    let files: Vec<ObjectMeta> = found.iter().filter(|file| file.size > 0).cloned().collect();
    lake::refuse(store.as_ref(), &folder, &all, &files).await?;
    match (files.is_empty(), found.is_empty(), all.is_empty()) {
        (false, ..) => Ok(Found { folder, files }),
        (true, false, _) => invalid!("every file there is empty"),
        (true, true, false) if !matches!(location.shape, Shape::Glob { .. }) => invalid!(
            "there is no file there but hidden ones, whose name or folder begins with an underscore or a dot{}",
            if recursive { "" } else { ", and those in folders, which recursive = false leaves out" }
        ),
        _ => invalid!("there is no file there; check the spelling"),
    }
}

/// Whether an object lies under `prefix`.
pub(super) async fn any_below(store: &dyn ObjectStore, prefix: &Path) -> Result<bool> {
    Ok(!objects(store, prefix).await?.is_empty())
}

/// The store of a location.
pub(super) fn store_of(state: &SessionState, url: &ObjectStoreUrl) -> Result<Arc<dyn ObjectStore>> {
    Ok(state.runtime_env().object_store(url)?)
}
