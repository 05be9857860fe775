//! `_manifest.json`: which files of an output folder are its content.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use url::Url;

use super::run::RunId;
use crate::error::{Context, Error, Result, invalid};
use crate::table::is_hidden;

/// The name of the manifest in an output folder. It begins with `_`, so that nobody takes it for data.
pub const MANIFEST: &str = "_manifest.json";
/// The version of the layout below.
const FORMAT: u32 = 1;
/// How often a listing starts anew because the folder was written again under its hands.
const ATTEMPTS: u32 = 6;
/// How long it waits before it does, times the number of attempts.
const WAIT: Duration = Duration::from_millis(50);

/// What `_manifest.json` says: the files that one run has put into a folder, all of which are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this layout.
    format: u32,
    /// The run that wrote the files.
    pub run: String,
    /// When it put them in place.
    pub created: DateTime<Utc>,
    /// The files, in the order of their names.
    pub files: Vec<ManifestFile>,
}

/// A file of an output folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// What it is called from run to run: `day=1/a.parquet`.
    pub name: String,
    /// Where it lies below the folder: `day=1/a-RUN.parquet`.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// The BLAKE3 hash of its content, in hexadecimal.
    pub hash: String,
}

impl Manifest {
    pub(super) fn new(run: &RunId, mut files: Vec<ManifestFile>) -> Self {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Self { format: FORMAT, run: run.to_string(), created: Utc::now(), files }
    }

    /// The manifest of a folder that no run has written yet: it lists no file. While the first run puts its files in place,
    /// nobody sees a part of them.
    pub(super) fn of_nobody() -> Self {
        Self { format: FORMAT, run: String::new(), created: Utc::now(), files: Vec::new() }
    }

    /// The run that wrote the files, unless nobody has.
    pub(super) fn writer(&self) -> Option<&str> {
        Some(self.run.as_str()).filter(|run| !run.is_empty())
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Where it is none, is of a later version, or names a file outside its folder.
    pub(super) fn parse(bytes: &[u8], place: &str) -> Result<Self> {
        let broken = |error: &dyn std::fmt::Display| {
            Error::Invalid(format!("{place} is not the manifest of an output folder: {error}; write the folder again"))
        };
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| broken(&error))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => invalid!("{place} has format {format}, and this version reads format {FORMAT}"),
            None => return Err(broken(&"it states no format")),
        }
        let manifest: Self = serde_json::from_value(value).map_err(|error| broken(&error))?;
        for file in &manifest.files {
            if !is_below(&file.path) || !is_below(&file.name) {
                return Err(broken(&format!("it names {:?}, which is no file below its folder", file.path)));
            }
        }
        Ok(manifest)
    }

    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(std::io::Error::from)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub(super) fn paths(&self) -> HashSet<&str> {
        self.files.iter().map(|file| file.path.as_str()).collect()
    }
}

/// Whether `name` is the name of a file below a folder, and nothing else: `/` separates its parts, none of which is
/// empty, `.` or `..`.
pub(super) fn is_below(name: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
    name.split('/').all(is_part) && name != MANIFEST
}

/// The objects below `prefix`. Of a folder that has a manifest, those that the manifest lists, all of one run.
///
/// A manifest speaks for the folders below its own. That of a folder above counts where `prefix` is a partition
/// (`key=value/`) of it.
///
/// # Errors
/// Where the store refuses; where a listed file is missing, or has another size, again and again.
pub async fn list(store: &dyn ObjectStore, prefix: &Path) -> Result<Vec<ObjectMeta>> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let objects: Vec<ObjectMeta> = store.list(Some(prefix)).try_collect().await?;
        let manifests = manifests_of(store, prefix, &objects).await?;
        match keep_listed(objects, prefix, &manifests) {
            Ok(kept) => return Ok(kept),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(_) => tokio::time::sleep(WAIT * attempt).await,
        }
    }
}

/// The object that is called `path` from run to run: by the manifest of one of the folders above it, the nearest that names
/// it.
///
/// # Errors
/// Where the store refuses.
pub async fn head(store: &dyn ObjectStore, path: &Path) -> Result<Option<ObjectMeta>> {
    for attempt in 1..=ATTEMPTS {
        let Some(at) = resolve(store, path).await? else { break };
        match store.head(&at).await {
            // It has been replaced since the manifest was read.
            Err(object_store::Error::NotFound { .. }) => tokio::time::sleep(WAIT * attempt).await,
            found => return Ok(Some(found?)),
        }
    }
    Ok(None)
}

/// Where the file that is called `path` from run to run lies.
async fn resolve(store: &dyn ObjectStore, path: &Path) -> Result<Option<Path>> {
    let parts: Vec<_> = path.parts().collect();
    for depth in (0..parts.len()).rev() {
        let folder: Path = parts[..depth].iter().cloned().collect();
        let Some(manifest) = read(store, &folder).await? else { continue };
        let name = path.as_ref()[folder.as_ref().len()..].trim_start_matches('/');
        if let Some(file) = manifest.files.iter().find(|file| file.name == name) {
            return Ok(Some(below(&folder, &file.path)?));
        }
    }
    Ok(None)
}

/// Refuses a folder that holds an object which would be read as part of it, and which neither its manifest lists nor
/// `ours` names.
///
/// # Errors
/// The message names the object.
pub(super) async fn refuse_strangers(
    store: &dyn ObjectStore,
    folder: &Path,
    ours: &[String],
    shown: &Url,
) -> Result<()> {
    let manifest = read(store, folder).await?;
    let mut known = manifest.as_ref().map(Manifest::paths).unwrap_or_default();
    known.extend(ours.iter().map(String::as_str));
    let mut objects = store.list(Some(folder));
    while let Some(object) = objects.try_next().await.context(|| format!("cannot list {shown}"))? {
        let path = object.location.as_ref()[folder.as_ref().len()..].trim_start_matches('/');
        if !known.contains(path) && !path.split('/').any(is_hidden) {
            invalid!(
                "{shown} already holds {path}, which no run of this program has written there; empty the folder or name \
                 another"
            );
        }
    }
    Ok(())
}

/// The manifest of a folder, if it has one.
pub(super) async fn read(store: &dyn ObjectStore, folder: &Path) -> Result<Option<Manifest>> {
    let path = below(folder, MANIFEST)?;
    match store.get(&path).await {
        Ok(object) => Ok(Some(Manifest::parse(&object.bytes().await?, path.as_ref())?)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The path `name` below `folder`, as it is spelled.
pub(super) fn below(folder: &Path, name: &str) -> Result<Path> {
    let path = if folder.as_ref().is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    Path::parse(path).map_err(|error| Error::Invalid(format!("{name:?} cannot be the name of a file: {error}")))
}

/// The manifests that speak for objects below `prefix`, by their folders.
async fn manifests_of(
    store: &dyn ObjectStore,
    prefix: &Path,
    objects: &[ObjectMeta],
) -> Result<BTreeMap<String, Manifest>> {
    let mut folders: BTreeSet<String> = objects.iter().filter_map(|o| folder_of_manifest(&o.location)).collect();
    // A disk's listing may lack a file that is replaced at that moment.
    folders.insert(prefix.to_string());
    let mut above = prefix.as_ref();
    while let Some((folder, _)) = above.rsplit_once('/').filter(|(_, name)| name.contains('=')) {
        folders.insert(folder.to_owned());
        above = folder;
    }
    let mut manifests = BTreeMap::new();
    for folder in folders {
        if let Some(manifest) = read(store, &Path::parse(&folder).map_err(object_store::Error::from)?).await? {
            manifests.insert(folder, manifest);
        }
    }
    Ok(manifests)
}

fn folder_of_manifest(path: &Path) -> Option<String> {
    match path.as_ref() {
        MANIFEST => Some(String::new()),
        path => Some(path.strip_suffix(MANIFEST)?.strip_suffix('/')?.to_owned()),
    }
}

/// Those of `objects` that the manifest of the nearest folder lists, and those that no manifest speaks for.
fn keep_listed(
    objects: Vec<ObjectMeta>,
    prefix: &Path,
    manifests: &BTreeMap<String, Manifest>,
) -> Result<Vec<ObjectMeta>> {
    if manifests.is_empty() {
        return Ok(objects);
    }
    let join = |folder: &str, path: &str| if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") };
    let mut missing: HashMap<String, u64> = HashMap::new();
    for (folder, manifest) in manifests {
        missing.extend(manifest.files.iter().map(|file| (join(folder, &file.path), file.size)));
    }
    missing.retain(|path, _| is_in(path, prefix.as_ref()));
    let is_listed = missing.keys().cloned().collect::<HashSet<String>>();
    let speaks_for = |path: &str| manifests.keys().any(|folder| is_in(path, folder));
    let mut kept = Vec::with_capacity(objects.len());
    for object in objects {
        let path = object.location.as_ref();
        if missing.get(path) == Some(&object.size) {
            missing.remove(path);
        }
        if is_listed.contains(path) || !speaks_for(path) {
            kept.push(object);
        }
    }
    if let Some(path) = missing.keys().min() {
        invalid!(
            "the manifest {MANIFEST} above {path} lists that file, which is missing or has another size: somebody else has \
             changed the folder; write it again, or remove the manifest to read whatever lies there"
        );
    }
    Ok(kept)
}

/// Whether `path` is `folder` or lies in it.
fn is_in(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn manifest(run: &str, files: &[(&str, &str, u64)]) -> Vec<u8> {
        let file = |(name, path, size): &(&str, &str, u64)| ManifestFile {
            name: (*name).to_owned(),
            path: (*path).to_owned(),
            size: *size,
            hash: String::new(),
        };
        let files = files.iter().map(file).collect();
        Manifest { format: FORMAT, run: run.to_owned(), created: Utc::now(), files }.bytes().unwrap()
    }

    async fn store(objects: &[(&str, &[u8])]) -> InMemory {
        let store = InMemory::new();
        for (path, bytes) in objects {
            store.put(&Path::from(*path), bytes.to_vec().into()).await.unwrap();
        }
        store
    }

    async fn names(store: &InMemory, prefix: &str) -> Result<Vec<String>> {
        let objects = list(store, &Path::from(prefix)).await?;
        let mut names: Vec<String> = objects.into_iter().map(|object| object.location.to_string()).collect();
        names.sort();
        Ok(names)
    }

    #[tokio::test]
    async fn a_folder_is_what_its_manifest_lists() {
        let of_out = manifest("r", &[("day=1/a.csv", "day=1/a-r.csv", 1), ("b.csv", "b-r.csv", 2)]);
        let store = store(&[
            ("top/out/_manifest.json", &of_out),
            ("top/out/day=1/a-r.csv", b"1"),
            ("top/out/day=1/a-old.csv", b"1"),
            ("top/out/b-r.csv", b"22"),
            ("top/out/c.csv", b"3"),
            ("top/other.csv", b"4"),
            ("top/output/x.csv", b"5"),
        ])
        .await;
        let listed = ["top/out/b-r.csv", "top/out/day=1/a-r.csv"];
        assert_eq!(names(&store, "top/out").await.unwrap(), listed);
        assert_eq!(names(&store, "top/out/day=1").await.unwrap(), listed[1..]);
        let all: Vec<_> = ["top/other.csv"].into_iter().chain(listed).chain(["top/output/x.csv"]).collect();
        assert_eq!(names(&store, "top").await.unwrap(), all);

        let of = async |path: &str| resolve(&store, &Path::from(path)).await.unwrap().map(|path| path.to_string());
        assert_eq!(of("top/out/b.csv").await.as_deref(), Some("top/out/b-r.csv"));
        assert_eq!(of("top/out/day=1/a.csv").await.as_deref(), Some("top/out/day=1/a-r.csv"));
        assert_eq!(of("top/out/c.csv").await, None);
        assert_eq!(of("other.csv").await, None);
    }

    #[tokio::test]
    async fn a_file_that_is_missing_or_has_another_size_is_told() {
        for bytes in [b"".as_slice(), b"22"] {
            let of_out = manifest("r", &[("a.csv", "a-r.csv", 1)]);
            let mut objects: Vec<(&str, &[u8])> = vec![("out/_manifest.json", &of_out)];
            if !bytes.is_empty() {
                objects.push(("out/a-r.csv", bytes));
            }
            let error = names(&store(&objects).await, "out").await.unwrap_err();
            assert!(error.is_invalid_input() && error.to_string().contains("out/a-r.csv"), "{error}");
        }
    }

    #[test]
    fn a_manifest_names_files_below_its_folder_alone() {
        for path in ["../victim", "/etc/passwd", "a//b", "a/../../b", "", "a/", "_manifest.json", "a\n"] {
            let error =
                Manifest::parse(&manifest("r", &[("a", path, 1)]), "out/_manifest.json").unwrap_err().to_string();
            assert!(error.contains("no file below its folder"), "{path}: {error}");
        }
        for (text, expected) in [("{}", "states no format"), ("[", "not the manifest"), ("{\"format\": 9}", "format 9")]
        {
            let error = Manifest::parse(text.as_bytes(), "out/_manifest.json").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
