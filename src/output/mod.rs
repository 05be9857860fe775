//! Outputs that appear whole or not at all.
//!
//! A run stages what it writes where nobody looks, and puts it in place at its end ([`Outputs::write`]). What it writes is
//! single objects, each of which replaces the one at its URL, and folders ([`OutputFolder`]), whose `_manifest.json` says
//! which files are their content: for who reads it, a folder is that of the run before or that of this one at every moment.

mod disk;
mod manifest;
mod overlap;
mod parquet;
mod run;
mod staged;
mod store;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use url::Url;

pub(crate) use self::disk::{abandon, sweep};
pub use self::manifest::{MANIFEST, Manifest, ManifestFile, head, list};
pub use self::overlap::refuse_input;
pub use self::parquet::{parquet_bytes, parquet_properties};
pub(crate) use self::run::without_run;
pub use self::staged::Staged;

use self::disk::{DiskFolder, Room, StagedFile, Staging, cannot_write, local_path};
use self::manifest::is_below;
use self::run::RunId;
use self::staged::{Place, Sink};
use self::store::{StoreFolder, Upload};
use crate::error::{Context, Error, Result, invalid};
use crate::storage::{Storage, child};

/// What one run writes: a handle to give to [`Outputs::write`]'s tasks.
#[derive(Debug, Clone)]
pub struct Outputs(Arc<Run>);

#[derive(Debug)]
struct Run {
    id: RunId,
    written: Mutex<Written>,
    /// Held by all that is neither in place nor withdrawn.
    open: mpsc::Sender<()>,
}

#[derive(Debug, Default)]
struct Written {
    /// Single objects whose bytes are all written.
    objects: Vec<Staged>,
    folders: Vec<Folder>,
    /// The staging folders on disks, by the folders that they lie in.
    staging: HashMap<PathBuf, Arc<Staging>>,
}

/// A folder that appears whole or not at all. A clone is the same folder.
///
/// Its files carry the name of the run, but for those that are asked to be [fixed](Self::put_fixed): two runs overwrite
/// nothing of each other, and who has listed the files of the one is not given those of the other. What the run before has
/// written is removed once the manifest is that of this one.
#[derive(Debug, Clone)]
pub struct OutputFolder {
    /// Which of the run's.
    index: usize,
    url: Url,
    begun: Begun,
    run: Arc<Run>,
}

#[derive(Debug)]
struct Folder {
    url: Url,
    begun: Begun,
    /// Those whose bytes are all written.
    files: Vec<Staged>,
}

#[derive(Debug, Clone)]
enum Begun {
    Disk(Arc<DiskFolder>),
    Store(Arc<StoreFolder>),
}

/// Who else may have files in an output folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Nobody: a file that this program has not written would be taken for part of the table that the folder is.
    Refused,
    /// Anybody: they stay.
    Kept,
}

impl Outputs {
    /// Stages objects and folders, and puts them in place: the folders first, each in the order in which they were begun or
    /// added. Returns what `stage` gave, and the URLs of what was written.
    ///
    /// Where `stage` fails, or the future is dropped before it is done, all is withdrawn: the URLs are as they were. After an
    /// error that has happened by the time this returns; after a drop it happens in the background.
    ///
    /// # Errors
    /// That of `stage`, or that of what could not be put in place: then what came before it is in place, and what comes after
    /// it withdrawn.
    pub async fn write<T, F>(stage: impl FnOnce(Self) -> F) -> Result<(T, Vec<Url>)>
    where
        F: Future<Output = Result<T>>,
    {
        let (open, mut all_closed) = mpsc::channel(1);
        let run = Arc::new(Run { id: RunId::new(), written: Mutex::default(), open });
        let result = stage(Self(Arc::clone(&run))).await;
        let result = match result {
            Ok(value) => run.put_in_place().await.map(|urls| (value, urls)),
            Err(error) => {
                drop(std::mem::take(&mut *run.written.lock()));
                Err(error)
            }
        };
        drop(run);
        all_closed.recv().await;
        result
    }

    /// Starts to stage the object at `url`; it is to be filled and then [added](Self::add).
    ///
    /// # Errors
    /// Where nothing can be written there.
    pub async fn create(&self, storage: &Storage, url: &Url) -> Result<Staged> {
        refuse_web(url)?;
        let (store, path) = storage.resolve(url)?;
        let sink = match local_path(url) {
            Some(path) => {
                let staged = self.0.stage_beside(&path);
                Sink::Disk(staged.map_err(|error| cannot_write(url, error))?)
            }
            None => {
                let upload = Upload::create(&*store, path, self.0.open.clone()).await;
                Sink::Store(upload.context(|| format!("cannot write {url}"))?)
            }
        };
        Ok(Staged::new(Place::Object(url.clone()), sink))
    }

    /// Adds a staged object whose bytes are all written.
    pub async fn add(&self, mut object: Staged) -> Result<()> {
        object.close().await?;
        match object.folder() {
            Some(folder) => self.0.written.lock().folders[folder].files.push(object),
            None => self.0.written.lock().objects.push(object),
        }
        Ok(())
    }

    /// Stages a whole small object.
    pub async fn put(&self, storage: &Storage, url: &Url, bytes: &[u8]) -> Result<()> {
        let mut object = self.create(storage, url).await?;
        object.append(bytes).await?;
        self.add(object).await
    }

    /// Starts to write a folder.
    ///
    /// # Errors
    /// Where it cannot be written, or holds files of others that are refused: the message names one.
    pub async fn folder(&self, storage: &Storage, url: &Url, others: Others) -> Result<OutputFolder> {
        refuse_web(url)?;
        let (store, path) = storage.resolve(url)?;
        let begun = match local_path(url) {
            Some(path) => {
                let run = Arc::clone(&self.0);
                let begin = move || DiskFolder::begin(&path, |parent| run.staging_in(parent));
                let begun = tokio::task::spawn_blocking(begin).await.map_err(std::io::Error::other)?;
                Begun::Disk(Arc::new(begun.map_err(|error| match error {
                    Error::Io(error) => cannot_write(url, error),
                    error => error,
                })?))
            }
            None => {
                let begun = StoreFolder::begin(Arc::clone(&store), path.clone(), &self.0.id, self.0.open.clone()).await;
                Begun::Store(Arc::new(begun.context(|| format!("cannot write {url}"))?))
            }
        };
        if others == Others::Refused {
            let of_others = match &begun {
                Begun::Disk(_) => Vec::new(),
                Begun::Store(store) => store.of_others().await.context(|| format!("cannot write {url}"))?,
            };
            manifest::refuse_strangers(&*store, &path, &of_others, url).await?;
        }
        let folders = &mut self.0.written.lock().folders;
        folders.push(Folder { url: url.clone(), begun: begun.clone(), files: Vec::new() });
        Ok(OutputFolder { index: folders.len() - 1, url: url.clone(), begun, run: Arc::clone(&self.0) })
    }
}

fn refuse_web(url: &Url) -> Result<()> {
    if matches!(url.scheme(), "http" | "https") {
        invalid!(
            "cannot write {url}: nothing is written to a web server; give a path, or an s3://, gs:// or az:// URL"
        );
    }
    Ok(())
}

/// Finds out whether a folder, or where `url` does not end in `/` an object, can be written, and leaves nothing there.
///
/// # Errors
/// Where it cannot; where the folder holds files of others that are refused.
pub async fn probe(storage: &Storage, url: &Url, others: Others) -> Result<()> {
    let probed = Outputs::write(async |outputs| {
        match url.path().ends_with('/') {
            true => drop(outputs.folder(storage, url, others).await?),
            false => drop(outputs.create(storage, url).await?),
        }
        Err::<(), _>(Error::Interrupted)
    });
    match probed.await {
        Err(Error::Interrupted) | Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

impl OutputFolder {
    /// The name of the run, which files carry.
    pub fn run(&self) -> String {
        self.run.id.to_string()
    }

    /// Where the file that is called `name` from run to run lies below the folder.
    pub fn path_of(&self, name: &str) -> String {
        self.run.id.carried_by(name)
    }

    /// Starts to stage the file that is called `name` from run to run; it is to be filled and then
    /// [added](Outputs::add).
    ///
    /// # Errors
    /// Where `name` is no name of a file below the folder, or is begun twice.
    pub async fn create(&self, name: &str) -> Result<Staged> {
        self.stage(name, self.path_of(name)).await
    }

    /// Stages a whole small file.
    pub async fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.fill(self.create(name).await?, bytes).await
    }

    /// Stages a whole small file that lies under its own name: for who looks for it without the manifest. It comes into its
    /// place after those that carry the run, and in one step; it is not one with the others for who reads several.
    pub async fn put_fixed(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.fill(self.stage(name, name.to_owned()).await?, bytes).await
    }

    async fn fill(&self, mut file: Staged, bytes: &[u8]) -> Result<()> {
        file.append(bytes).await?;
        Outputs(Arc::clone(&self.run)).add(file).await
    }

    async fn stage(&self, name: &str, path: String) -> Result<Staged> {
        if !is_below(name) {
            invalid!("{name:?} cannot be the name of a file below {}", self.url);
        }
        let sink = match &self.begun {
            Begun::Disk(disk) => {
                let staged = StagedFile::create(&disk.room, &path);
                Sink::Disk(staged.map_err(|error| cannot_write(&self.url, error))?)
            }
            Begun::Store(store) => {
                let upload = store.create(&path).await;
                Sink::Store(upload.context(|| format!("cannot write {name} to {}", self.url))?)
            }
        };
        let place = Place::File { folder: self.index, url: self.url.clone(), name: name.to_owned(), path };
        Ok(Staged::new(place, sink))
    }
}

impl Run {
    /// Starts to stage a file that goes to `path`.
    fn stage_beside(&self, path: &std::path::Path) -> std::io::Result<StagedFile> {
        let path = disk::canonical(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Err(std::io::Error::other("it has no name"));
        };
        if path.is_dir() {
            return Err(std::io::Error::other("there is a folder of that name"));
        }
        StagedFile::create(&Room::of(&self.staging_in(parent)?)?, name)
    }

    /// The run's staging folder in `parent`.
    fn staging_in(&self, parent: &std::path::Path) -> std::io::Result<Arc<Staging>> {
        let mut written = self.written.lock();
        if let Some(staging) = written.staging.get(parent) {
            return Ok(Arc::clone(staging));
        }
        let staging = Arc::new(Staging::create(parent, &self.id, self.open.clone())?);
        written.staging.insert(parent.to_owned(), Arc::clone(&staging));
        Ok(staging)
    }

    async fn put_in_place(&self) -> Result<Vec<Url>> {
        let Written { objects, folders, staging } = std::mem::take(&mut *self.written.lock());
        let mut urls = Vec::new();
        for folder in folders {
            let Folder { url, begun, mut files } = folder;
            for file in &files {
                urls.extend(file.file_url()?);
            }
            // A file that is called the same in each run is one that readers look for: what it names is there by then.
            files.sort_by_key(|file| !file.carries(&self.id));
            let switched = match begun {
                Begun::Disk(disk) => self.switch_on_disk(disk, files).await,
                Begun::Store(store) => self.switch_in_store(store, files).await,
            };
            switched.context(|| format!("cannot write {url}"))?;
            urls.push(child(&url, MANIFEST)?);
        }
        for object in objects {
            urls.extend(object.put_in_place().await?);
        }
        drop(staging);
        Ok(urls)
    }

    async fn switch_on_disk(&self, disk: Arc<DiskFolder>, files: Vec<Staged>) -> Result<()> {
        // Those that hold the staged files open are done: what is left in the staging folder goes with the last of them.
        let files = files.into_iter().filter_map(Staged::into_file).map(|(file, _)| file).collect();
        let id = self.id.clone();
        tokio::task::spawn_blocking(move || disk.switch(&id, files)).await.map_err(std::io::Error::other)?
    }

    async fn switch_in_store(&self, store: Arc<StoreFolder>, files: Vec<Staged>) -> Result<()> {
        let files = files.into_iter().filter_map(Staged::into_file);
        let uploads = files.filter_map(|(file, sink)| match sink {
            Sink::Store(upload) => Some((file, upload)),
            Sink::Disk(_) => None,
        });
        store.switch(&self.id, uploads.collect()).await
    }
}

#[cfg(test)]
mod tests;
