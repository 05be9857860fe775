//! Outputs in an object store: uploads of several parts, which are not visible before they are completed.
//!
//! A folder in the writing has a marker, `_counterweight-RUN.json`, which its run renews. What a run leaves behind that
//! dies while it completes its uploads is named there, and removed by a later run once the marker has grown old. Uploads
//! that a dead run has not completed are known to the store alone: a life-cycle rule of the bucket removes them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::manifest::{self, MANIFEST, Manifest, ManifestFile, below, is_below};
use super::run::RunId;
use crate::error::{Error, Result};

const MARKER: &str = "_counterweight-";
/// How often a run renews its marker.
const RENEWAL: Duration = Duration::from_secs(30);
/// The age at which a marker is a dead run's.
const DEAD_AFTER: Duration = Duration::from_secs(180);
/// S3 wants every part but the last to be at least 5 MiB, and at most 10,000 of them.
pub(super) const PART_BYTES: usize = 16 << 20;
const PARTS_IN_FLIGHT: usize = 4;
/// Requests at a time that complete uploads.
const COMPLETIONS_IN_FLIGHT: usize = 16;
/// How often a manifest is written anew because another run has replaced the one before.
const ATTEMPTS: usize = 10;

/// An upload; withdrawn where it is dropped before it is completed.
#[derive(Debug)]
pub(super) struct Upload {
    path: Path,
    /// None once it is completed or withdrawn.
    upload: Option<Box<dyn MultipartUpload>>,
    parts: JoinSet<object_store::Result<()>>,
    open: mpsc::Sender<()>,
}

impl Upload {
    pub(super) async fn create(store: &dyn ObjectStore, path: Path, open: mpsc::Sender<()>) -> Result<Self> {
        let upload = Some(store.put_multipart(&path).await?);
        Ok(Self { path, upload, parts: JoinSet::new(), open })
    }

    /// Uploads a part: of [`PART_BYTES`], unless it is the last.
    pub(super) async fn put(&mut self, part: bytes::Bytes) -> Result<()> {
        self.wait(PARTS_IN_FLIGHT - 1).await?;
        let Some(upload) = &mut self.upload else {
            return Err(std::io::Error::other("an upload that has ended").into());
        };
        self.parts.spawn(upload.put_part(part.into()));
        Ok(())
    }

    /// Waits until no more than so many parts are on their way.
    pub(super) async fn wait(&mut self, in_flight: usize) -> Result<()> {
        while self.parts.len() > in_flight {
            if let Some(part) = self.parts.join_next().await {
                part.map_err(std::io::Error::other)??;
            }
        }
        Ok(())
    }

    /// Makes the object visible.
    pub(super) async fn complete(mut self) -> Result<()> {
        if let Some(upload) = &mut self.upload {
            upload.complete().await?;
        }
        self.upload = None;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(mut upload), Ok(runtime)) = (self.upload.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (path, mut parts, open) = (self.path.clone(), std::mem::take(&mut self.parts), self.open.clone());
        runtime.spawn(async move {
            parts.shutdown().await;
            if let Err(error) = upload.abort().await {
                tracing::warn!("an unfinished upload of {path} was left behind: {error}");
            }
            drop(open);
        });
    }
}

/// What a run is about to leave in a folder.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Marker {
    /// Files that it completes.
    after: Vec<String>,
    /// Files that it removes then.
    before: Vec<String>,
}

/// A folder that one run writes.
#[derive(Debug)]
pub(super) struct StoreFolder {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    marker: MarkerObject,
}

/// The object of a [`Marker`], renewed until it is dropped, and removed then.
#[derive(Debug)]
struct MarkerObject {
    store: Arc<dyn ObjectStore>,
    path: Path,
    marker: Arc<Mutex<Marker>>,
    renewal: AbortHandle,
    open: mpsc::Sender<()>,
}

impl MarkerObject {
    async fn create(store: &Arc<dyn ObjectStore>, path: Path, open: mpsc::Sender<()>) -> Result<Self> {
        let marker: Arc<Mutex<Marker>> = Arc::default();
        put(store, &path, &marker).await?;
        let renewal = tokio::spawn({
            let (store, path, marker) = (Arc::clone(store), path.clone(), Arc::clone(&marker));
            async move {
                loop {
                    tokio::time::sleep(RENEWAL).await;
                    if let Err(error) = put(&store, &path, &marker).await {
                        tracing::warn!("cannot renew {path}: {error}");
                    }
                }
            }
        });
        Ok(Self { store: Arc::clone(store), path, marker, renewal: renewal.abort_handle(), open })
    }

    async fn set(&self, marker: Marker) -> Result<()> {
        *self.marker.lock() = marker;
        put(&self.store, &self.path, &self.marker).await
    }
}

async fn put(store: &Arc<dyn ObjectStore>, path: &Path, marker: &Mutex<Marker>) -> Result<()> {
    let bytes = serde_json::to_vec(&*marker.lock()).map_err(std::io::Error::from)?;
    store.put(path, bytes.into()).await?;
    Ok(())
}

impl Drop for MarkerObject {
    fn drop(&mut self) {
        self.renewal.abort();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (store, path, open) = (Arc::clone(&self.store), self.path.clone(), self.open.clone());
        runtime.spawn(async move {
            if let Err(error) = store.delete(&path).await {
                tracing::warn!("{path} was left behind: {error}");
            }
            drop(open);
        });
    }
}

impl StoreFolder {
    /// Starts to write `folder`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) async fn begin(
        store: Arc<dyn ObjectStore>,
        folder: Path,
        run: &RunId,
        open: mpsc::Sender<()>,
    ) -> Result<Self> {
        let marker = MarkerObject::create(&store, below(&folder, &format!("{MARKER}{run}.json"))?, open).await?;
        Ok(Self { store, folder, marker })
    }

    /// Files that other runs are about to leave here, or have left: runs that live, and dead ones.
    pub(super) async fn of_others(&self) -> Result<Vec<String>> {
        let markers = self.markers().await?.into_iter();
        Ok(markers.flat_map(|(_, marker)| marker.after.into_iter().chain(marker.before)).collect())
    }

    /// The markers of other runs, with their objects.
    async fn markers(&self) -> Result<Vec<(object_store::ObjectMeta, Marker)>> {
        let listed = self.store.list_with_delimiter(Some(&self.folder)).await?;
        let is_marker = |path: &Path| {
            let name = path.filename().and_then(|name| name.strip_prefix(MARKER)?.strip_suffix(".json"));
            *path != self.marker.path && name.and_then(RunId::parse).is_some()
        };
        let mut markers = Vec::new();
        for object in listed.objects.into_iter().filter(|object| is_marker(&object.location)) {
            let marker = match self.store.get(&object.location).await {
                Ok(content) => serde_json::from_slice::<Marker>(&content.bytes().await?).unwrap_or_default(),
                Err(object_store::Error::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            markers.push((object, marker));
        }
        Ok(markers)
    }

    pub(super) async fn create(&self, path: &str) -> Result<Upload> {
        Upload::create(&*self.store, below(&self.folder, path)?, self.marker.open.clone()).await
    }

    /// Completes the uploads of `files`, in place of what the run before has left: first of those that carry `run`, which
    /// come first, then of the others in their order.
    pub(super) async fn switch(&self, run: &RunId, files: Vec<(ManifestFile, Upload)>) -> Result<()> {
        let after: Vec<String> = files.iter().map(|(file, _)| file.path.clone()).collect();
        let found = manifest::read(&*self.store, &self.folder).await?;
        if found.is_none() {
            self.put_manifest(&Manifest::of_nobody()).await?;
        }
        let mut before: Vec<String> = found.into_iter().flat_map(|found| found.files).map(|file| file.path).collect();
        before.retain(|path| !after.contains(path));
        self.marker.set(Marker { after: after.clone(), before: before.clone() }).await?;

        let carrying = files.partition_point(|(file, _)| run.is_carried_by(&file.path));
        let (listed, mut uploads): (Vec<ManifestFile>, Vec<Upload>) = files.into_iter().unzip();
        let fixed = uploads.split_off(carrying);
        let carrying = uploads.into_iter().map(Upload::complete);
        stream::iter(carrying).buffer_unordered(COMPLETIONS_IN_FLIGHT).try_for_each(|()| async { Ok(()) }).await?;
        for upload in fixed {
            upload.complete().await?;
        }
        let mut over = self.put_manifest(&Manifest::new(run, listed)).await?;
        over.extend(before);
        over.extend(self.sweep().await?);
        for path in &after {
            over.remove(path);
        }
        let over = over.iter().filter(|path| is_below(path)).map(|path| below(&self.folder, path));
        let over = over.collect::<Result<Vec<_>>>()?;
        let removed = self.store.delete_stream(stream::iter(over.into_iter().map(Ok)).boxed());
        removed.try_for_each(|_| async { Ok(()) }).await.or_else(|error| match error {
            object_store::Error::NotFound { .. } => Ok(()),
            error => Err(Error::from(error)),
        })
    }

    /// Puts `manifest` in the place of the last one, whose files it gives.
    async fn put_manifest(&self, manifest: &Manifest) -> Result<HashSet<String>> {
        let path = below(&self.folder, MANIFEST)?;
        let bytes = bytes::Bytes::from(manifest.bytes()?);
        for attempt in 1..=ATTEMPTS {
            let (found, version) = match self.store.get(&path).await {
                Ok(object) => {
                    let version =
                        UpdateVersion { e_tag: object.meta.e_tag.clone(), version: object.meta.version.clone() };
                    (Manifest::parse(&object.bytes().await?, path.as_ref()).ok(), Some(version))
                }
                Err(object_store::Error::NotFound { .. }) => (None, None),
                Err(error) => return Err(error.into()),
            };
            let files = found.iter().flat_map(|found| &found.files).map(|file| file.path.clone()).collect();
            // An attempt that seemed to fail, or another run that has come first.
            if found.is_some_and(|found| found.run == manifest.run || manifest.writer().is_none()) {
                return Ok(HashSet::new());
            }
            let mode = version.map_or(PutMode::Create, PutMode::Update);
            match self.store.put_opts(&path, bytes.clone().into(), mode.into()).await {
                Ok(_) => return Ok(files),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })
                    if attempt < ATTEMPTS => {}
                // A store without conditional writes: the last of two runs wins.
                Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
                    self.store.put(&path, bytes.into()).await?;
                    return Ok(files);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Unfinished(format!("other runs write {} again and again; try later", self.folder)))
    }

    /// What dead runs have left, whose markers it removes. Only to be called once the folder's manifest is ours: nothing
    /// that readers look for names their files any more.
    async fn sweep(&self) -> Result<Vec<String>> {
        // The store's own clock.
        let now = self.store.head(&self.marker.path).await?.last_modified;
        let mut over = Vec::new();
        for (object, marker) in self.markers().await? {
            if (now - object.last_modified).to_std().is_ok_and(|age| age > DEAD_AFTER) {
                over.extend(marker.after.into_iter().chain(marker.before));
                self.store.delete(&object.location).await?;
                tracing::info!("removed what a dead run had left: {}", object.location);
            }
        }
        Ok(over)
    }
}
