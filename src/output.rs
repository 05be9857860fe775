//! Outputs that appear whole or not at all.
//!
//! An object is staged as a multipart upload: readers see nothing until [`Outputs::write`] completes it. On a local
//! file system the staged object is a hidden sibling file that completion renames. Objects are completed in the order
//! they were added, so whatever makes the others count (a manifest) goes last.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use datafusion::arrow::array::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::async_writer::AsyncFileWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use futures::future::BoxFuture;
use object_store::{MultipartUpload, ObjectStoreExt};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use url::Url;

use crate::error::{Context, Result};
use crate::storage::Storage;

/// How Parquet files are written: compressed with zstd.
pub fn parquet_properties() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()))
}

/// A small table as the bytes of a Parquet file.
///
/// # Errors
/// Where Parquet has no form for a column.
pub fn parquet_bytes(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(parquet_properties().build()))?;
    writer.write(batch)?;
    writer.close()?;
    Ok(bytes)
}

/// S3 wants every part but the last to be at least 5 MiB, and at most 10,000 of them.
const PART_BYTES: usize = 16 << 20;
const PARTS_IN_FLIGHT: usize = 4;

/// The objects of one run, staged together: a handle to give to [`Outputs::write`]'s tasks.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// The objects whose bytes are all written.
    staged: Arc<Mutex<Vec<Staged>>>,
    /// Held by every object that is neither visible nor withdrawn.
    open: mpsc::Sender<()>,
}

/// An object being written; nothing is visible at its URL before its [`Outputs::write`] ends.
///
/// One that is dropped before is withdrawn: its URL is as it was.
#[derive(Debug)]
pub struct Staged {
    url: Url,
    /// None once the object is visible or withdrawn.
    upload: Option<Box<dyn MultipartUpload>>,
    buffer: BytesMut,
    parts: JoinSet<object_store::Result<()>>,
    open: mpsc::Sender<()>,
}

impl Outputs {
    /// Stages objects and makes them visible, in the order in which they were added; returns what `stage` gave, and
    /// their URLs.
    ///
    /// Where `stage` fails, or the future is dropped before it is done, every object is withdrawn: the URLs are as
    /// they were. After an error that has happened by the time this returns; after a drop it happens in the background.
    ///
    /// # Errors
    /// That of `stage`, or that of the object that could not be made visible: then those before it are visible, and
    /// those after it withdrawn.
    pub async fn write<T, F>(stage: impl FnOnce(Self) -> F) -> Result<(T, Vec<Url>)>
    where
        F: Future<Output = Result<T>>,
    {
        let (open, mut all_closed) = mpsc::channel(1);
        let staged: Arc<Mutex<Vec<Staged>>> = Arc::default();
        let result = stage(Self { staged: Arc::clone(&staged), open }).await;
        let objects = std::mem::take(&mut *staged.lock());
        let result = match result {
            Ok(value) => complete(objects).await.map(|urls| (value, urls)),
            Err(error) => {
                drop(objects);
                Err(error)
            }
        };
        all_closed.recv().await;
        result
    }

    /// Starts to stage the object at `url`; it is to be filled and then [added](Self::add).
    pub async fn create(&self, storage: &Storage, url: &Url) -> Result<Staged> {
        let (store, path) = storage.resolve(url)?;
        let upload = store.put_multipart(&path).await.context(|| format!("cannot write {url}"))?;
        Ok(Staged {
            url: url.clone(),
            upload: Some(upload),
            buffer: BytesMut::new(),
            parts: JoinSet::new(),
            open: self.open.clone(),
        })
    }

    /// Adds a staged object whose bytes are all written.
    pub async fn add(&self, mut object: Staged) -> Result<()> {
        object.flush().await?;
        self.staged.lock().push(object);
        Ok(())
    }

    /// Stages a whole small object.
    pub async fn put(&self, storage: &Storage, url: &Url, bytes: &[u8]) -> Result<()> {
        let mut object = self.create(storage, url).await?;
        object.append(bytes).await?;
        self.add(object).await
    }
}

async fn complete(objects: Vec<Staged>) -> Result<Vec<Url>> {
    let mut urls = Vec::with_capacity(objects.len());
    for mut object in objects {
        object.upload().complete().await.context(|| format!("cannot write {}", object.url))?;
        object.upload = None;
        urls.push(object.url.clone());
    }
    Ok(urls)
}

impl Staged {
    /// Appends `bytes`, uploading each part as it fills.
    pub async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() >= PART_BYTES {
            let part = self.buffer.split_to(PART_BYTES).freeze();
            self.put(part).await?;
        }
        Ok(())
    }

    /// Uploads what is buffered, so that a finished object holds no memory while others are written.
    pub async fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            let part = std::mem::take(&mut self.buffer).freeze();
            self.put(part).await?;
        }
        self.wait(0).await
    }

    fn upload(&mut self) -> &mut dyn MultipartUpload {
        self.upload.as_deref_mut().expect("an object that is visible is written no more")
    }

    async fn put(&mut self, part: Bytes) -> Result<()> {
        self.wait(PARTS_IN_FLIGHT - 1).await?;
        let uploaded = self.upload().put_part(part.into());
        self.parts.spawn(uploaded);
        Ok(())
    }

    async fn wait(&mut self, in_flight: usize) -> Result<()> {
        while self.parts.len() > in_flight {
            if let Some(part) = self.parts.join_next().await {
                part.map_err(std::io::Error::other)?.context(|| format!("cannot write {}", self.url))?;
            }
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let (Some(mut upload), Ok(runtime)) = (self.upload.take(), Handle::try_current()) else { return };
        let (url, mut parts, open) = (self.url.clone(), std::mem::take(&mut self.parts), self.open.clone());
        runtime.spawn(async move {
            parts.shutdown().await;
            if let Err(error) = upload.abort().await {
                tracing::warn!("an unfinished upload of {url} was left behind: {error}");
            }
            drop(open);
        });
    }
}

impl AsyncFileWriter for &mut Staged {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, ParquetResult<()>> {
        Box::pin(async move { self.append(&bytes).await.map_err(|error| ParquetError::External(Box::new(error))) })
    }

    fn complete(&mut self) -> BoxFuture<'_, ParquetResult<()>> {
        Box::pin(async move { self.flush().await.map_err(|error| ParquetError::External(Box::new(error))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::storage::parse_url;

    fn names(folder: &std::path::Path) -> Vec<std::ffi::OsString> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[tokio::test]
    async fn nothing_is_visible_before_all_is_staged_or_after_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::new([]);
        let url = parse_url(folder.path().join("sub/x.bin").to_str().unwrap()).unwrap();
        let large = vec![7_u8; 2 * PART_BYTES + 3];

        for fails in [true, false] {
            let written = Outputs::write(async |outputs: Outputs| {
                outputs.put(&storage, &url, &large).await?;
                // One that is begun and not added.
                let mut other = outputs.create(&storage, &parse_url("memory:///other").unwrap()).await?;
                other.append(b"x").await?;
                assert!(storage.read(&url).await.is_err());
                if fails { Err(Error::Interrupted) } else { Ok(5) }
            });
            match written.await {
                Ok(written) => {
                    assert_eq!((fails, written), (false, (5, vec![url.clone()])));
                    assert_eq!(storage.read(&url).await.unwrap(), large);
                }
                Err(error) => {
                    assert!(fails && matches!(error, Error::Interrupted), "{error}");
                    assert_eq!(names(&folder.path().join("sub")).len(), 0, "no staging file is left");
                }
            }
        }
        assert_eq!(names(&folder.path().join("sub")), ["x.bin"], "no staging file is left");
    }

    #[tokio::test]
    async fn what_is_dropped_while_it_is_staged_is_withdrawn() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::new([]);
        let url = parse_url(folder.path().join("x.bin").to_str().unwrap()).unwrap();
        let write = Outputs::write(async |outputs: Outputs| {
            outputs.put(&storage, &url, b"added").await?;
            let mut object = outputs.create(&storage, &parse_url(&format!("{url}2")).unwrap()).await?;
            object.append(&vec![0; PART_BYTES + 1]).await?;
            std::future::pending::<Result<()>>().await
        });
        let cancelled = tokio::time::timeout(std::time::Duration::from_millis(300), write).await;
        assert!(cancelled.is_err());
        for _ in 0..200 {
            if names(folder.path()).is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{:?}", names(folder.path()));
    }

    #[tokio::test]
    async fn an_empty_object_is_an_object() {
        let storage = Storage::new([]);
        let url = parse_url("memory:///empty").unwrap();
        Outputs::write(async |outputs: Outputs| outputs.put(&storage, &url, b"").await).await.unwrap();
        assert!(storage.read(&url).await.unwrap().is_empty());
    }
}
