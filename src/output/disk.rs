//! Outputs on a disk: staged in hidden folders, synced, and put in place by renames.
//!
//! A run stages its files in a folder `.counterweight-RUN/` beside what it is to write. Where that is a folder that holds
//! nothing but what this program wrote, the whole folder is exchanged in one rename; else files are renamed one by one,
//! the manifest last. A staging folder holds a file that is locked while its run lives, and what is to be cleaned up should
//! the run die: the next run that stages there does so.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use url::Url;

pub(super) use crate::storage::{canonical, local_path};

use super::manifest::{MANIFEST, Manifest, ManifestFile, is_below};
use super::run::RunId;
use crate::error::{Context, Error, Result, invalid};

const STAGING: &str = ".counterweight-";
/// In a staging folder: locked by the run.
const LOCK: &str = "lock";
/// In a [`Room`]: what is staged.
const FILES: &str = "files";
/// In a [`Room`]: a [`Switch`].
const SWITCH: &str = "switch.json";
/// How often a staging folder is made anew because another run took it for a dead one's.
const ATTEMPTS: usize = 50;
/// How long it waits before it does.
const WAIT: Duration = Duration::from_millis(20);

/// A staging folder. What is left in it goes when it is dropped.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    rooms: AtomicUsize,
    /// Folders that were made for it, the deepest first.
    made: Vec<PathBuf>,
    _lock: File,
    _open: mpsc::Sender<()>,
}

impl Staging {
    /// Makes the staging folder of `run` in `parent`, and sweeps those of dead runs there.
    pub(super) fn create(parent: &Path, run: &RunId, open: mpsc::Sender<()>) -> io::Result<Self> {
        let made = parent.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
        fs::create_dir_all(parent)?;
        sweep(parent);
        let path = parent.join(format!("{STAGING}{run}"));
        for _ in 0..ATTEMPTS {
            match Self::lock(&path) {
                Ok(Some(lock)) => {
                    LIVE.lock().push(path.clone());
                    return Ok(Self { path, rooms: AtomicUsize::new(0), made, _lock: lock, _open: open });
                }
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            std::thread::sleep(WAIT);
        }
        Err(io::Error::other(format!("{} is removed again and again", path.display())))
    }

    /// Locks the folder; none where another run has just swept it.
    fn lock(path: &Path) -> io::Result<Option<File>> {
        match fs::create_dir(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let lock = File::create(path.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => Ok(path.join(LOCK).exists().then_some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            // A file system without locks: nobody else can take the folder for a dead run's.
            Err(TryLockError::Error(_)) => Ok(Some(lock)),
        }
    }
}

/// A folder of a staging folder's, for what goes to one place.
#[derive(Debug, Clone)]
pub(super) struct Room {
    path: PathBuf,
    _staging: Arc<Staging>,
}

impl Room {
    /// A new one.
    pub(super) fn of(staging: &Arc<Staging>) -> io::Result<Self> {
        let path = staging.path.join(staging.rooms.fetch_add(1, Relaxed).to_string());
        fs::create_dir_all(path.join(FILES))?;
        Ok(Self { path, _staging: Arc::clone(staging) })
    }

    /// The folder of what is staged.
    fn files(&self) -> PathBuf {
        self.path.join(FILES)
    }
}

/// The staging folders of this process.
static LIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what this process has staged on disks and not put in place. To be called before it ends in the middle of work.
pub(crate) fn abandon() {
    if let Some(live) = LIVE.try_lock_for(Duration::from_millis(200)) {
        for staging in live.iter().filter(|staging| !is_switching(staging)) {
            let _ = fs::remove_dir_all(staging);
        }
    }
}

/// Whether files of a staging folder are being put in place one by one: the next run is to finish that.
fn is_switching(staging: &Path) -> bool {
    let rooms = fs::read_dir(staging).into_iter().flatten().flatten();
    rooms.into_iter().any(|room| room.path().join(SWITCH).exists())
}

impl Drop for Staging {
    fn drop(&mut self) {
        LIVE.lock().retain(|path| *path != self.path);
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!("what was staged is left behind in {}: {error}", self.path.display());
        }
        // Only those in which nothing was put.
        let _ = self.made.iter().try_for_each(fs::remove_dir);
    }
}

/// Removes what dead runs have left in staging folders of `parent`, and where they say that they have put it.
pub(crate) fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let run = name.to_str().and_then(|name| RunId::parse(name.strip_prefix(STAGING)?));
        if let Some(run) = run.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            && let Err(error) = sweep_run(&entry.path(), &run)
        {
            tracing::warn!("what a dead run has left stays in {}: {error}", entry.path().display());
        }
    }
}

fn sweep_run(staging: &Path, run: &RunId) -> io::Result<()> {
    let lock = match File::options().write(true).open(staging.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // It is about to be locked, or its run died before that, or while it removed it: nothing is staged before the lock.
            let holds_some = fs::read_dir(staging).is_ok_and(|mut entries| entries.next().is_some());
            let removed = match holds_some && !staging.join(LOCK).exists() {
                true => fs::remove_dir_all(staging),
                false => fs::remove_dir(staging),
            };
            return removed.or(Ok(()));
        }
        Err(error) => return Err(error),
    };
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error),
        Ok(()) => {}
    }
    for room in fs::read_dir(staging)?.flatten() {
        let room = room.path();
        match fs::read(room.join(SWITCH)).map(|bytes| serde_json::from_slice::<Switch>(&bytes)) {
            Ok(Ok(switch)) if switch.is_sound() => {
                let _lock = switch_lock(&switch.folder)?;
                switch.end(&room, run)?;
            }
            _ => {}
        }
    }
    match fs::remove_dir_all(staging) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => {
            tracing::info!("removed what a dead run had left in {}", staging.display());
            Ok(())
        }
    }
}

/// Keeps other switches of `folder` waiting for as long as it is open. None where the file system has no locks.
fn switch_lock(folder: &Path) -> io::Result<Option<File>> {
    let parent = File::open(folder.parent().unwrap_or(folder))?;
    match parent.lock() {
        Ok(()) => Ok(Some(parent)),
        Err(error) => {
            tracing::warn!("{} cannot be locked; let no other run write to it: {error}", folder.display());
            Ok(None)
        }
    }
}

/// What a run puts in place file by file. Once this is written, all of it is staged and synced: whoever finds it can finish
/// what a killed run has begun.
#[derive(Debug, Serialize, Deserialize)]
struct Switch {
    folder: PathBuf,
    /// The run whose files are replaced.
    base: Option<String>,
    /// What is put in place, in this order, the manifest after it.
    files: Vec<String>,
    /// What is removed then.
    before: Vec<String>,
}

impl Switch {
    fn is_sound(&self) -> bool {
        self.folder.is_absolute() && self.files.iter().chain(&self.before).all(|path| is_below(path))
    }

    /// Puts the files that are still staged in place, and then the manifest.
    fn go_on(&self, room: &Path) -> io::Result<()> {
        let staged = room.join(FILES);
        fs::create_dir_all(&self.folder)?;
        if !self.folder.join(MANIFEST).exists() {
            let nobody = room.join("nobody");
            fs::write(&nobody, Manifest::of_nobody().bytes().map_err(io::Error::other)?)?;
            fs::rename(nobody, self.folder.join(MANIFEST))?;
        }
        let mut folders = HashSet::new();
        for path in &self.files {
            let (from, to) = (staged.join(path), self.folder.join(path));
            let folder = to.parent().unwrap_or(&self.folder);
            fs::create_dir_all(folder)?;
            if !folder.canonicalize()?.starts_with(&self.folder) {
                return Err(io::Error::other(format!("{} is a link that leads out of the folder", folder.display())));
            }
            if from.exists() {
                fs::rename(from, &to)?;
            }
            folders.insert(folder.to_owned());
        }
        for folder in &folders {
            sync_folder(folder)?;
        }
        fs::rename(staged.join(MANIFEST), self.folder.join(MANIFEST))?;
        sync_folder(&self.folder)?;
        for path in &self.before {
            remove_below(&self.folder, path)?;
        }
        Ok(())
    }

    /// Ends the switch of a run that has died.
    fn end(&self, room: &Path, run: &RunId) -> io::Result<()> {
        let current = read_manifest(&self.folder).ok().flatten();
        let listed = current.as_ref().map(Manifest::paths).unwrap_or_default();
        let last = current.as_ref().and_then(Manifest::writer).map(str::to_owned);
        if last.as_deref() != Some(&run.to_string()) && last == self.base {
            return self.go_on(room);
        }
        let staged = room.join(FILES);
        let over = match last {
            Some(last) if last == run.to_string() => self.before.iter().collect::<Vec<_>>(),
            // Somebody else has written the folder since. What is staged no more has been put there by the run.
            _ => self.files.iter().filter(|path| !staged.join(path).exists()).collect(),
        };
        over.into_iter().filter(|path| !listed.contains(path.as_str())).try_for_each(|p| remove_below(&self.folder, p))
    }
}

/// Removes a file below `folder`, and the folders that it was the last in. A link that leads out of `folder` is not followed.
fn remove_below(folder: &Path, path: &str) -> io::Result<()> {
    if !is_below(path) {
        return Ok(());
    }
    let file = folder.join(path);
    let inside = file.parent().map(Path::canonicalize);
    if !inside.and_then(Result::ok).is_some_and(|parent| parent.starts_with(folder)) {
        return Ok(());
    }
    match fs::remove_file(&file) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for parent in file.ancestors().skip(1).take_while(|parent| *parent != folder) {
        if fs::remove_dir(parent).is_err() {
            break;
        }
    }
    Ok(())
}

fn read_manifest(folder: &Path) -> Result<Option<Manifest>> {
    let path = folder.join(MANIFEST);
    match fs::read(&path) {
        Ok(bytes) => Manifest::parse(&bytes, &path.display().to_string()).map(Some),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error).context(|| format!("cannot read {}", path.display())),
    }
}

/// Every file below `folder`, and every empty folder, which is somebody's, too, by its path from there.
fn all_below(folder: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        let below = next.strip_prefix(folder).unwrap_or(&next).to_string_lossy().into_owned();
        let entries = match fs::read_dir(&next) {
            // Removed since its parent was read.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries?.collect::<io::Result<Vec<_>>>()?,
        };
        if !below.is_empty() && entries.is_empty() {
            files.push(below);
        }
        for entry in entries {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(path);
            } else {
                let below = path.strip_prefix(folder).unwrap_or(&path);
                files.push(below.to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A file that is being staged.
#[derive(Debug)]
pub(super) struct StagedFile {
    room: Room,
    path: PathBuf,
    file: Option<File>,
}

impl StagedFile {
    /// Starts to stage a file that is called `name` in `room`.
    pub(super) fn create(room: &Room, name: &str) -> io::Result<Self> {
        let path = room.files().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = Some(File::options().write(true).create_new(true).open(&path)?);
        Ok(Self { room: room.clone(), path, file })
    }

    /// Appends bytes.
    pub(super) async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        let Some(mut file) = self.file.take() else {
            return Err(io::Error::other("a file that is closed is written no more"));
        };
        let written = spawn_blocking(move || file.write_all(&bytes).map(|()| file)).await;
        self.file = Some(written.map_err(io::Error::other)??);
        Ok(())
    }

    /// Syncs and closes the file.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        match self.file.take() {
            Some(file) => spawn_blocking(move || file.sync_all()).await.map_err(io::Error::other)?,
            None => Ok(()),
        }
    }

    /// Replaces the file at `to`.
    pub(super) async fn put_in_place(self, to: PathBuf) -> io::Result<()> {
        let Self { room, path, .. } = self;
        let rename = move || {
            let to = canonical(&to)?;
            fs::rename(&path, &to)?;
            drop(room);
            sync_folder(to.parent().unwrap_or(&to))
        };
        spawn_blocking(rename).await.map_err(io::Error::other)?
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A folder that one run writes.
#[derive(Debug)]
pub(super) struct DiskFolder {
    /// Where it is, or is to be.
    folder: PathBuf,
    pub(super) room: Room,
}

impl DiskFolder {
    /// Starts to write `folder`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn begin(folder: &Path, stage_in: impl Fn(&Path) -> io::Result<Arc<Staging>>) -> Result<Self> {
        let folder = canonical(folder)?;
        let Some(parent) = folder.parent() else { invalid!("/ is no output folder: name one below it") };
        let exists = folder.is_dir();
        if folder.exists() && !exists {
            invalid!("{} is a file; name a folder", folder.display());
        }
        if exists {
            sweep(&folder);
        }
        let staging = if exists && !may_be_exchanged(&folder, parent)? {
            stage_in(&folder)?
        } else {
            match stage_in(parent) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied && exists => stage_in(&folder)?,
                staging => staging?,
            }
        };
        Ok(Self { folder, room: Room::of(&staging)? })
    }

    /// Puts `files`, which are staged under their paths, in place of what the run before has left, in their order.
    pub(super) fn switch(&self, run: &RunId, files: Vec<ManifestFile>) -> Result<()> {
        let staged = self.room.files();
        let paths = files.iter().map(|file| file.path.clone()).collect();
        let manifest = Manifest::new(run, files);
        let mut file = File::create(staged.join(MANIFEST))?;
        file.write_all(&manifest.bytes()?)?;
        file.sync_all()?;
        drop(file);
        sync_below(&staged)?;
        let _lock = switch_lock(&self.folder)?;
        if !self.folder.exists() || is_ours(&self.folder)? {
            match self.exchange(&staged) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => return Err(error).context(|| format!("cannot write {}", self.folder.display())),
            }
        }
        self.one_by_one(paths).context(|| format!("cannot write {}", self.folder.display()))
    }

    /// Exchanges the whole folder in one rename; says whether that is possible here.
    fn exchange(&self, staged: &Path) -> io::Result<bool> {
        let parent = self.folder.parent().unwrap_or(&self.folder);
        let done = if self.folder.exists() {
            let (old, new) = (self.folder.metadata()?, staged.metadata()?);
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) || old.dev() != new.dev() {
                return Ok(false);
            }
            fs::set_permissions(staged, old.permissions())?;
            renameat_with(CWD, staged, CWD, &self.folder, RenameFlags::EXCHANGE).map_err(io::Error::from)
        } else {
            fs::rename(staged, &self.folder)
        };
        match done {
            Ok(()) => {
                sync_folder(parent)?;
                Ok(true)
            }
            // Not on this file system, or not across two.
            Err(error) => match rustix::io::Errno::from_io_error(&error) {
                Some(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::XDEV) => Ok(false),
                Some(rustix::io::Errno::BUSY | rustix::io::Errno::OPNOTSUPP) => Ok(false),
                _ => Err(error),
            },
        }
    }

    fn one_by_one(&self, files: Vec<String>) -> Result<()> {
        let before = read_manifest(&self.folder)?;
        let base = before.as_ref().and_then(Manifest::writer).map(str::to_owned);
        let mut before: Vec<String> = before.into_iter().flat_map(|manifest| manifest.files).map(|f| f.path).collect();
        before.retain(|path| !files.contains(path));
        let switch = Switch { folder: self.folder.clone(), base, files, before };
        let mut file = File::create(self.room.path.join(SWITCH))?;
        file.write_all(&serde_json::to_vec(&switch).map_err(io::Error::from)?)?;
        file.sync_all()?;
        sync_folder(&self.room.path)?;
        Ok(switch.go_on(&self.room.path)?)
    }
}

/// Whether `folder` can be exchanged for another beside it: it holds nothing but what this program wrote, and is neither
/// the root of a file system nor somebody else's.
fn may_be_exchanged(folder: &Path, parent: &Path) -> Result<bool> {
    let (folder_is, parent_is) = (folder.metadata()?, parent.metadata()?);
    Ok(folder_is.dev() == parent_is.dev() && is_ours(folder)?)
}

/// Whether a folder holds nothing but what its manifest lists.
fn is_ours(folder: &Path) -> Result<bool> {
    let manifest = read_manifest(folder)?;
    let ours = manifest.as_ref().map(Manifest::paths).unwrap_or_default();
    Ok(all_below(folder)?.iter().all(|file| file == MANIFEST || ours.contains(file.as_str())))
}

fn sync_below(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_below(&entry.path())?;
        }
    }
    sync_folder(folder)
}

/// The error of a file or folder that cannot be written.
pub(super) fn cannot_write(url: &Url, error: io::Error) -> Error {
    let cure = match error.kind() {
        ErrorKind::NotADirectory => "a part of its path is a file",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotFound => {
            "name a place that this user may write to"
        }
        _ => return Error::Context { context: format!("cannot write {url}"), source: Box::new(error.into()) },
    };
    Error::Invalid(format!("cannot write {url}: {error}: {cure}"))
}
