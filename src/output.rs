//! Outputs that appear whole or not at all.
//!
//! An object is staged as a multipart upload: readers see nothing until [`Outputs::commit`] completes it. On a local
//! file system the staged object is a hidden sibling file that the commit renames. Objects are completed in the order
//! they were added, so whatever makes the others count (a manifest) goes last.

use bytes::{Bytes, BytesMut};
use datafusion::parquet::arrow::async_writer::AsyncFileWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use futures::future::BoxFuture;
use object_store::{MultipartUpload, ObjectStoreExt};
use tokio::task::JoinSet;
use url::Url;

use crate::error::{Context, Result};
use crate::storage::Storage;

/// How Parquet files are written: compressed with zstd.
pub fn parquet_properties() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()))
}

/// S3 wants every part but the last to be at least 5 MiB, and at most 10,000 of them.
const PART_BYTES: usize = 16 << 20;
const PARTS_IN_FLIGHT: usize = 4;

/// An object being written; nothing is visible at its URL before [`Outputs::commit`].
#[derive(Debug)]
pub struct Staged {
    url: Url,
    upload: Box<dyn MultipartUpload>,
    buffer: BytesMut,
    parts: JoinSet<object_store::Result<()>>,
}

impl Staged {
    /// Starts to stage the object at `url`.
    pub async fn create(storage: &Storage, url: &Url) -> Result<Self> {
        let (store, path) = storage.resolve(url)?;
        let upload = store.put_multipart(&path).await.context(|| format!("cannot write {url}"))?;
        Ok(Self { url: url.clone(), upload, buffer: BytesMut::new(), parts: JoinSet::new() })
    }

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

    /// Withdraws the object: its URL is as it was before.
    pub async fn abort(mut self) {
        self.parts.shutdown().await;
        if let Err(error) = self.upload.abort().await {
            tracing::warn!("an unfinished upload of {} was left behind: {error}", self.url);
        }
    }

    async fn put(&mut self, part: Bytes) -> Result<()> {
        self.wait(PARTS_IN_FLIGHT - 1).await?;
        self.parts.spawn(self.upload.put_part(part.into()));
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

impl AsyncFileWriter for &mut Staged {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, ParquetResult<()>> {
        Box::pin(async move { self.append(&bytes).await.map_err(|error| ParquetError::External(Box::new(error))) })
    }

    fn complete(&mut self) -> BoxFuture<'_, ParquetResult<()>> {
        Box::pin(async move { self.flush().await.map_err(|error| ParquetError::External(Box::new(error))) })
    }
}

/// The objects of one run, staged together.
#[derive(Debug, Default)]
pub struct Outputs {
    staged: Vec<Staged>,
}

impl Outputs {
    /// Adds a staged object whose bytes are all written. It is withdrawn with the others even where this fails.
    pub async fn add(&mut self, mut object: Staged) -> Result<()> {
        let flushed = object.flush().await;
        self.staged.push(object);
        flushed
    }

    /// Stages a whole small object.
    pub async fn put(&mut self, storage: &Storage, url: &Url, bytes: &[u8]) -> Result<()> {
        let mut object = Staged::create(storage, url).await?;
        object.append(bytes).await?;
        self.add(object).await
    }

    /// Makes every object visible, in the order added, and returns their URLs.
    ///
    /// Should one fail, those after it are withdrawn; the error names it.
    pub async fn commit(mut self) -> Result<Vec<Url>> {
        let mut urls = Vec::with_capacity(self.staged.len());
        for index in 0..self.staged.len() {
            let object = &mut self.staged[index];
            if let Err(error) = object.upload.complete().await {
                let url = object.url.clone();
                self.staged.drain(..index);
                self.abort().await;
                return Err(error).context(|| format!("cannot write {url}"));
            }
            urls.push(object.url.clone());
        }
        Ok(urls)
    }

    /// Withdraws every object: their URLs are as they were before.
    pub async fn abort(self) {
        for object in self.staged {
            object.abort().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::parse_url;

    #[tokio::test]
    async fn nothing_is_visible_before_commit_or_after_abort() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::new([]);
        let url = parse_url(folder.path().join("sub/x.bin").to_str().unwrap()).unwrap();
        let large = vec![7_u8; 2 * PART_BYTES + 3];

        for commit in [false, true] {
            let mut outputs = Outputs::default();
            outputs.put(&storage, &url, &large).await.unwrap();
            assert!(storage.read(&url).await.is_err());
            if commit {
                assert_eq!(outputs.commit().await.unwrap(), std::slice::from_ref(&url));
                assert_eq!(storage.read(&url).await.unwrap(), large);
            } else {
                outputs.abort().await;
                assert!(storage.read(&url).await.is_err());
            }
        }
        let names: Vec<_> =
            std::fs::read_dir(folder.path().join("sub")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["x.bin"], "no staging file is left");
    }

    #[tokio::test]
    async fn an_empty_object_is_an_object() {
        let storage = Storage::new([]);
        let url = parse_url("memory:///empty").unwrap();
        let mut outputs = Outputs::default();
        outputs.put(&storage, &url, b"").await.unwrap();
        outputs.commit().await.unwrap();
        assert!(storage.read(&url).await.unwrap().is_empty());
    }
}
