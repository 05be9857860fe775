//! Where a table lies: a file, a folder or a pattern, in a store.

use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::ObjectMeta;
use object_store::path::Path;
use url::{Position, Url};

use super::glob::Glob;
use crate::error::{Result, invalid};
use crate::redact::redact;
use crate::storage::{parse_url, store_url};

/// A location as it is written in a job or in SQL.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    /// The store, as sessions know it.
    pub(crate) store: ObjectStoreUrl,
    /// The file or folder; of a pattern the folder before its first part.
    pub(crate) path: Path,
    pub(crate) shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A file, or a folder written without its slash.
    Object,
    Folder,
    Glob {
        glob: Glob,
        /// The object that has the pattern for a name.
        literal: Path,
    },
}

impl Location {
    /// Reads a path or a URL. Patterns work in every scheme but HTTP, which cannot list.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let has_query = text.starts_with("http://") || text.starts_with("https://");
        let Some(glob) = Glob::starts_in(text).filter(|_| !has_query) else {
            let url = parse_url(text)?;
            let shape = if url.path().ends_with('/') { Shape::Folder } else { Shape::Object };
            return Self::of(&url, shape);
        };
        let (folder, pattern) = match text[..glob].rfind('/') {
            Some(slash) if text[..slash].ends_with(":/") => invalid!("{text:?} has a pattern in the name of its store"),
            Some(slash) => text.split_at(slash + 1),
            None => ("./", text),
        };
        let mut location = Self::of(&parse_url(folder)?, Shape::Folder)?;
        let literal = Path::parse(format!("{}/{pattern}", location.path)).unwrap_or_default();
        location.shape = Shape::Glob { glob: Glob::parse(pattern)?, literal };
        Ok(location)
    }

    /// What lies at `url`, which is no pattern.
    pub(crate) fn of(url: &Url, shape: Shape) -> Result<Self> {
        let url = store_url(url);
        let store = ObjectStoreUrl::parse(&url[Position::BeforeScheme..Position::BeforePath])?;
        let path = Path::from_url_path(url.path()).map_err(object_store::Error::from)?;
        Ok(Self { store, path, shape })
    }

    /// An object as a person names it: a path on a disk, else a URL.
    pub(super) fn show(&self, object: &ObjectMeta) -> String {
        show(&self.store, &object.location)
    }
}

/// An object as a person names it.
pub(super) fn show(store: &ObjectStoreUrl, path: &Path) -> String {
    match store.as_str() {
        "file:///" => format!("/{path}"),
        store => redact(&format!("{}/{path}", store.trim_end_matches('/'))).into_owned(),
    }
}
