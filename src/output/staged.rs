//! A file or an object that is being written.

use std::io;

use bytes::{Bytes, BytesMut};
use datafusion::parquet::arrow::async_writer::AsyncFileWriter;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use futures::future::BoxFuture;
use url::Url;

use super::disk::{StagedFile, cannot_write, local_path};
use super::manifest::ManifestFile;
use super::run::RunId;
use super::store::{PART_BYTES, Upload};
use crate::error::{Context, Result, invalid};

/// A file or an object in the writing: nothing is visible in its place before [`Outputs::write`](super::Outputs::write) ends.
///
/// One that is dropped before is withdrawn.
#[derive(Debug)]
pub struct Staged {
    place: Place,
    sink: Sink,
    buffer: BytesMut,
    size: u64,
    hasher: Box<blake3::Hasher>,
}

/// Where it goes.
#[derive(Debug)]
pub(super) enum Place {
    Object(Url),
    File {
        /// Which of the run's folders.
        folder: usize,
        /// Where that is.
        url: Url,
        name: String,
        path: String,
    },
}

#[derive(Debug)]
pub(super) enum Sink {
    Disk(StagedFile),
    Store(Upload),
}

impl Staged {
    pub(super) fn new(place: Place, sink: Sink) -> Self {
        Self { place, sink, buffer: BytesMut::new(), size: 0, hasher: Box::default() }
    }

    /// Appends `bytes`, writing each part as it fills.
    pub async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        self.hasher.update(bytes);
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() >= PART_BYTES {
            let part = self.buffer.split_to(PART_BYTES).freeze();
            self.put(part).await?;
        }
        Ok(())
    }

    /// Writes what is buffered and closes the file, so that it holds neither memory nor a file handle while others are
    /// written.
    pub(super) async fn close(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            let part = std::mem::take(&mut self.buffer).freeze();
            self.put(part).await?;
        }
        match &mut self.sink {
            Sink::Disk(file) => match file.close().await {
                Ok(()) => Ok(()),
                Err(error) => Err(cannot_write(&self.url(), error)),
            },
            Sink::Store(upload) => upload.wait(0).await.context(|| format!("cannot write {}", self.url())),
        }
    }

    async fn put(&mut self, part: Bytes) -> Result<()> {
        match &mut self.sink {
            Sink::Disk(file) => match file.write(part).await {
                Ok(()) => Ok(()),
                Err(error) => Err(cannot_write(&self.url(), error)),
            },
            Sink::Store(upload) => upload.put(part).await.context(|| format!("cannot write {}", self.url())),
        }
    }

    fn url(&self) -> Url {
        match &self.place {
            Place::Object(url) | Place::File { url, .. } => url.clone(),
        }
    }

    /// Which of the run's folders it is a file of, if it is.
    pub(super) fn folder(&self) -> Option<usize> {
        match &self.place {
            Place::Object(_) => None,
            Place::File { folder, .. } => Some(*folder),
        }
    }

    /// Whether its name carries `run`.
    pub(super) fn carries(&self, run: &RunId) -> bool {
        matches!(&self.place, Place::File { path, .. } if run.is_carried_by(path))
    }

    /// Where it will be, if it is a file of a folder.
    pub(super) fn file_url(&self) -> Result<Option<Url>> {
        let Place::File { url, path, .. } = &self.place else { return Ok(None) };
        let mut file = url.clone();
        let Ok(mut segments) = file.path_segments_mut() else { invalid!("{url} has no path") };
        segments.pop_if_empty().extend(path.split('/'));
        drop(segments);
        Ok(Some(file))
    }

    /// What the manifest of its folder says of it, with where its bytes are.
    pub(super) fn into_file(self) -> Option<(ManifestFile, Sink)> {
        let Place::File { name, path, .. } = self.place else { return None };
        let hash = self.hasher.finalize().to_hex().to_string();
        Some((ManifestFile { name, path, size: self.size, hash }, self.sink))
    }

    /// Replaces the object at its URL, which it gives.
    pub(super) async fn put_in_place(self) -> Result<Option<Url>> {
        let Place::Object(url) = self.place else { return Ok(None) };
        let placed = match (self.sink, local_path(&url)) {
            (Sink::Disk(file), Some(path)) => file.put_in_place(path).await.map_err(|error| cannot_write(&url, error)),
            (Sink::Store(upload), _) => upload.complete().await.context(|| format!("cannot write {url}")),
            (Sink::Disk(_), None) => Err(io::Error::other(format!("{url} is not on a disk")).into()),
        };
        placed.map(|()| Some(url))
    }
}

impl AsyncFileWriter for Staged {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, ParquetResult<()>> {
        Box::pin(async move { self.append(&bytes).await.map_err(|error| ParquetError::External(Box::new(error))) })
    }

    fn complete(&mut self) -> BoxFuture<'_, ParquetResult<()>> {
        Box::pin(async move { self.close().await.map_err(|error| ParquetError::External(Box::new(error))) })
    }
}
