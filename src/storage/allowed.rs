//! Locations outside which nothing is read or written.

use std::fmt;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result as StoreResult,
};
use url::{Position, Url};

use super::location::{canonical, local_path, parse_url};
use super::web::store_url;
use crate::error::{Error, Result};
use crate::redact::{Shown, redact};

/// The command line's name for it.
const FLAG: &str = "--allow-location";

/// Prefixes of locations, compared part by part: on a disk with every symbolic link followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Allowed(Vec<Prefix>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Prefix {
    Disk(PathBuf),
    Store {
        authority: String,
        parts: Vec<String>,
    },
    /// One that could not be read: nothing lies in it.
    Nothing,
}

impl Allowed {
    /// The prefixes that `texts` name; none where there are no texts: then everything is allowed.
    pub(super) fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let prefixes: Vec<Prefix> = texts.into_iter().map(|text| prefix(text).unwrap_or(Prefix::Nothing)).collect();
        if prefixes.is_empty() { None } else { Some(Self(prefixes)) }
    }

    /// Refuses a location outside of all prefixes.
    pub(super) fn admit(&self, url: &Url) -> Result<()> {
        let admitted = match local_path(url) {
            Some(path) => self.has_file(&path),
            None => self.has_object(&authority(url), &parts(url.path())),
        };
        if admitted { Ok(()) } else { Err(Error::Invalid(refusal(&Shown(url).to_string()))) }
    }

    fn has_file(&self, path: &FilePath) -> bool {
        let Ok(path) = canonical(path) else { return false };
        self.0.iter().any(|prefix| matches!(prefix, Prefix::Disk(prefix) if path.starts_with(prefix)))
    }

    fn has_object(&self, of: &str, path: &[String]) -> bool {
        self.0.iter().any(|prefix| match prefix {
            Prefix::Store { authority, parts } => authority == of && path.starts_with(parts),
            Prefix::Disk(_) | Prefix::Nothing => false,
        })
    }
}

/// Reads a prefix.
///
/// # Errors
/// Where it is no URL and no path.
pub(super) fn prefix_url(text: &str) -> Result<Url> {
    let url = parse_url(text).map_err(|error| Error::Invalid(format!("{FLAG}: {error}")))?;
    match prefix(url.as_str()) {
        Some(_) => Ok(url),
        None => Err(Error::Invalid(format!("{FLAG} {:?} is no location; give a path or a URL", redact(text)))),
    }
}

fn prefix(text: &str) -> Option<Prefix> {
    let url = parse_url(text).ok()?;
    match url.scheme() {
        "file" => canonical(&local_path(&url)?).ok().map(Prefix::Disk),
        _ => Some(Prefix::Store { authority: authority(&url), parts: parts(url.path()) }),
    }
}

/// Scheme and authority without a password, under one name for the schemes that mean the same.
fn authority(url: &Url) -> String {
    let mut url = store_url(url);
    if matches!(url.scheme(), "http" | "https") {
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        debug_assert!(cleared.is_ok(), "a web URL has a host");
    }
    let authority = &url[Position::AfterScheme..Position::BeforePath];
    let scheme = match url.scheme() {
        "s3a" => "s3",
        "adl" | "azure" | "abfs" | "abfss" => "az",
        scheme => scheme,
    };
    format!("{scheme}{authority}")
}

fn parts(path: &str) -> Vec<String> {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    decoded.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn refusal(location: &str) -> String {
    format!("{location} lies outside of what {FLAG} allows; run it with {FLAG} for that location, too")
}

/// A store of which only what is allowed is read, listed or written.
#[derive(Debug, Clone)]
pub(super) struct Confined {
    inner: Arc<dyn ObjectStore>,
    allowed: Allowed,
    /// The URL of the store.
    store: Url,
}

impl Confined {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, allowed: Allowed, store: &Url) -> Self {
        let mut store = store.clone();
        store.set_path("");
        Self { inner, allowed, store }
    }

    fn admit(&self, path: &Path) -> StoreResult<()> {
        let is_disk = self.store.scheme() == "file";
        let admitted = match is_disk {
            true => self.allowed.has_file(FilePath::new(&format!("/{path}"))),
            false => self.allowed.has_object(&authority(&self.store), &parts_of(path)),
        };
        if admitted {
            return Ok(());
        }
        let store = if is_disk { String::new() } else { Shown(&self.store).to_string() };
        let location = format!("{}/{path}", store.trim_end_matches('/'));
        Err(object_store::Error::PermissionDenied { path: path.to_string(), source: refusal(&location).into() })
    }

    fn admit_listed(&self, prefix: Option<&Path>) -> StoreResult<()> {
        self.admit(prefix.unwrap_or(&Path::default()))
    }

    /// What was listed, each looked at: a folder on a disk may hold links that lead out of it.
    fn listed(
        &self,
        prefix: Option<&Path>,
        listed: BoxStream<'static, StoreResult<ObjectMeta>>,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        if let Err(error) = self.admit_listed(prefix) {
            return futures::stream::once(async { Err(error) }).boxed();
        }
        let of = self.clone();
        listed.and_then(move |object| std::future::ready(of.admit(&object.location).map(|()| object))).boxed()
    }
}

fn parts_of(path: &Path) -> Vec<String> {
    path.as_ref().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

impl fmt::Display for Confined {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(formatter)
    }
}

#[async_trait]
impl ObjectStore for Confined {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.admit(location)?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.admit(location)?;
        self.inner.get_ranges(location, ranges).await
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.admit(location)?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.admit(location)?;
        self.inner.put_multipart_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        let of = self.clone();
        let admitted = locations.and_then(move |path| std::future::ready(of.admit(&path).map(|()| path)));
        self.inner.delete_stream(admitted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.listed(prefix, self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.listed(prefix, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.admit_listed(prefix)?;
        let listed = self.inner.list_with_delimiter(prefix).await?;
        listed.objects.iter().try_for_each(|object| self.admit(&object.location))?;
        listed.common_prefixes.iter().try_for_each(|folder| self.admit(folder))?;
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.admit(from)?;
        self.admit(to)?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> StoreResult<()> {
        self.admit(from)?;
        self.admit(to)?;
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(prefix: &str, location: &str) -> bool {
        Allowed::parse([prefix]).unwrap().admit(&parse_url(location).unwrap()).is_ok()
    }

    #[test]
    fn a_prefix_is_of_whole_parts_and_of_one_store() {
        for (prefix, location) in [
            ("s3://b", "s3://b/x"),
            ("s3://b/log", "s3://b/log/x.csv"),
            ("s3://b/log/", "s3://b/log"),
            ("s3://b/log/", "s3a://b/log/x"),
            ("s3://b/a b", "s3://b/a%20b/x"),
            ("https://h/a/", "https://me:pw@h/a/x.csv?sig=1"),
            ("abfss://c@a.dfs.core.windows.net/x", "abfs://c@a.dfs.core.windows.net/x/y"),
        ] {
            assert!(admits(prefix, location), "{prefix} {location}");
        }
        for (prefix, location) in [
            ("s3://b/log", "s3://b/log2/x.csv"),
            ("s3://b/log", "s3://b/log/../x.csv"),
            ("s3://b/log", "s3://b/log/%2e%2e/x.csv"),
            ("s3://b/log", "s3://bb/log/x"),
            ("s3://b", "gs://b/x"),
            ("https://h/a/", "https://h.evil/a/x"),
            ("https://h/a/", "https://h@evil/a/x"),
            ("https://h/a/", "http://h/a/x"),
            ("s3://b/x", "/b/x"),
            ("/b/x", "s3://b/x"),
        ] {
            assert!(!admits(prefix, location), "{prefix} {location}");
        }
        assert!(Allowed::parse([]).is_none());
    }

    #[test]
    fn on_a_disk_links_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        for name in ["in/sub", "out"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::os::unix::fs::symlink(path("out"), path("in/link")).unwrap();
        std::os::unix::fs::symlink(path("in"), path("alias")).unwrap();
        for name in ["in", "in/", "in/new/file", "in/sub/../x", "alias/x"] {
            assert!(admits(&path("in"), &path(name)), "{name}");
        }
        for name in ["out/x", "inner", "in/../out/x", "in/link/x", "in/link/../x", "in/sub/../../out/x"] {
            assert!(!admits(&path("in/"), &path(name)), "{name}");
        }
    }

    #[tokio::test]
    async fn a_store_gives_nothing_outside() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        for name in ["in", "out"] {
            std::fs::create_dir_all(path(name)).unwrap();
            std::fs::write(path(&format!("{name}/x.csv")), "x").unwrap();
        }
        let allowed = Allowed::parse([path("in").as_str()]).unwrap();
        let disk = Arc::new(object_store::local::LocalFileSystem::new());
        let store = Confined::new(disk, allowed, &Url::parse("file:///").unwrap());
        use object_store::ObjectStoreExt;
        let at = |name: &str| Path::from_absolute_path(path(name)).unwrap();
        assert_eq!(store.get(&at("in/x.csv")).await.unwrap().bytes().await.unwrap(), "x");
        let listed = async |name: &str| store.list(Some(&at(name))).try_collect::<Vec<_>>().await;
        assert_eq!(listed("in").await.unwrap().len(), 1);

        let mut refused = vec![store.get(&at("out/x.csv")).await.unwrap_err(), listed("out").await.unwrap_err()];
        refused.push(store.put(&at("out/y"), "y".into()).await.unwrap_err());
        refused.push(store.put_multipart(&at("out/y")).await.err().unwrap());
        refused.push(store.delete(&at("out/x.csv")).await.unwrap_err());
        refused.push(store.copy(&at("in/x.csv"), &at("out/y")).await.unwrap_err());
        refused.push(store.copy(&at("out/x.csv"), &at("in/y")).await.unwrap_err());
        refused.push(store.get_ranges(&at("out/x.csv"), &[0..1, 1..2]).await.unwrap_err());
        refused.push(listed("").await.unwrap_err());
        std::os::unix::fs::symlink(path("out/x.csv"), path("in/link.csv")).unwrap();
        refused.push(store.get(&at("in/link.csv")).await.unwrap_err());
        refused.push(listed("in").await.unwrap_err());
        for error in refused {
            let error = Error::from(error);
            assert!(error.is_invalid_input() && error.to_string().contains(FLAG), "{error}");
        }
        assert_eq!(std::fs::read_dir(path("out")).unwrap().count(), 1);
    }
}
