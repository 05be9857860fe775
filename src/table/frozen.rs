//! A store that gives the files of a table as they were when it was opened, or nothing.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
    coalesce_ranges,
};

/// Reads of known objects fail where the object has been replaced since it was listed: another ETag, or where a store gives
/// none, another size or a later date.
#[derive(Debug, Clone)]
pub(super) struct Frozen {
    inner: Arc<dyn ObjectStore>,
    files: Arc<HashMap<Path, ObjectMeta>>,
    /// Whether the store is a disk, where a look at a file costs nothing and a file can change while it is read.
    is_disk: bool,
}

impl Frozen {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, files: Arc<HashMap<Path, ObjectMeta>>, is_disk: bool) -> Self {
        Self { inner, files, is_disk }
    }

    /// Fails where the file is no longer what it was.
    pub(super) async fn verify(&self, location: &Path) -> Result<()> {
        if self.is_disk {
            let options = GetOptions { head: true, ..GetOptions::default() };
            self.get_opts(location, options).await?;
        }
        Ok(())
    }
}

impl fmt::Display for Frozen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(formatter)
    }
}

#[async_trait]
impl ObjectStore for Frozen {
    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        let Some(known) = self.files.get(location) else { return self.inner.get_opts(location, options).await };
        match &known.e_tag {
            // A weak tag says that an object means the same, and no store compares it.
            Some(tag) if !tag.starts_with("W/") => options.if_match = Some(tag.clone()),
            _ => options.if_unmodified_since = Some(known.last_modified),
        }
        let found = self.inner.get_opts(location, options).await?;
        if found.meta.size != known.size {
            let source = format!("its size was {} and is {}", known.size, found.meta.size).into();
            return Err(object_store::Error::Precondition { path: location.to_string(), source });
        }
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if !self.is_disk {
            let get = |range| self.get_range(location, range);
            return coalesce_ranges(ranges, get, OBJECT_STORE_COALESCE_DEFAULT).await;
        }
        let bytes = self.inner.get_ranges(location, ranges).await;
        self.verify(location).await?;
        bytes
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::local::LocalFileSystem;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn an_object_that_was_replaced_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
        for (store, is_disk) in [(disk, true), (Arc::new(InMemory::new()) as Arc<dyn ObjectStore>, false)] {
            let path = Path::from("a.csv");
            store.put(&path, "abc".into()).await.unwrap();
            let known = HashMap::from([(path.clone(), store.head(&path).await.unwrap())]);
            let frozen = Frozen::new(Arc::clone(&store), Arc::new(known), is_disk);
            assert_eq!(frozen.get_ranges(&path, &[0..1, 2..3]).await.unwrap(), ["a", "c"]);
            store.put(&path, "xyz".into()).await.unwrap();
            let replaced = |error| matches!(error, object_store::Error::Precondition { .. });
            assert!(replaced(frozen.get(&path).await.unwrap_err()));
            assert!(replaced(frozen.get_ranges(&path, &[0..1, 2..3]).await.unwrap_err()));
            store.delete(&path).await.unwrap();
            assert!(matches!(frozen.get(&path).await.unwrap_err(), object_store::Error::NotFound { .. }));
        }
    }
}
