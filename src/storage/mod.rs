//! URLs to object stores: one registry that queries, training and outputs share.

mod allowed;
mod credentials;
mod location;
mod open;
mod options;
mod patience;
mod profile;
mod web;

use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use url::{Position, Url};

use self::allowed::{Allowed, Confined, prefix_url};
pub use self::location::{as_folder, child, parse_folder, parse_url};
pub(crate) use self::location::{canonical, local_path};
use self::options::{ALLOW_LOCATION, Options, TIMEOUT};
pub use self::patience::DEFAULT_TIMEOUT;
pub(crate) use self::web::store_url;
use crate::error::{Context, Error, Result};
use crate::redact::Shown;

/// The object stores of a process, made on first use of a URL and kept.
///
/// Understands `file`, `s3`, `gs`, `az`/`abfss`, `http(s)` and, for tests, `memory` URLs. DataFusion asks it for
/// the store of every table, so that a query can name any URL without a registration step.
#[derive(Debug)]
pub struct Storage {
    options: Options,
    /// What may be read and written; everything where there is none.
    allowed: Option<Allowed>,
    stores: RwLock<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl Storage {
    /// A registry whose stores are configured by `options`: those of another, as [`options`](Self::options) gives them, or in
    /// the vocabulary of [`parse_url_opts`](object_store::parse_url_opts), `AWS_PROFILE`, `AWS_CONFIG_FILE` and
    /// `AWS_SHARED_CREDENTIALS_FILE` beside it.
    pub fn new(options: impl IntoIterator<Item = (String, String)>) -> Self {
        Self::of(Options::new(options))
    }

    /// A registry configured by the environment and the files of the cloud vendors' own tools.
    pub fn from_env() -> Self {
        Self::of(Options::from_env())
    }

    fn of(options: Options) -> Self {
        let allowed = Allowed::parse(options.all(ALLOW_LOCATION));
        Self { options, allowed, stores: RwLock::default() }
    }

    /// The same with stores that may take so long, in whole seconds, for each answer and each next part of one, retries
    /// included; [`DEFAULT_TIMEOUT`] where nobody says otherwise.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.options.push(TIMEOUT, &timeout.as_secs().max(1).to_string());
        Self::of(self.options)
    }

    /// The same with nothing to read or write but what lies under one of the `prefixes`, each a path or a URL; everything
    /// where there are none.
    ///
    /// A prefix is one of whole parts: `s3://bucket/log` holds `s3://bucket/log/x`, and not `s3://bucket/log2`. On a disk
    /// symbolic links are followed first.
    ///
    /// # Errors
    /// Where a prefix is neither path nor URL.
    pub fn with_allowed(mut self, prefixes: &[String]) -> Result<Self> {
        for prefix in prefixes {
            self.options.push(ALLOW_LOCATION, prefix_url(prefix)?.as_str());
        }
        Ok(Self::of(self.options))
    }

    /// The options that its stores are configured by.
    pub fn options(&self) -> &[(String, String)] {
        self.options.as_slice()
    }

    /// The store that holds `url`, and where in it. Of a web server, the query of `url` is part of the store.
    ///
    /// # Errors
    /// Where there is no such kind of store, it has no credentials, or `url` lies outside of what is
    /// [allowed](Self::with_allowed).
    pub fn resolve(&self, url: &Url) -> Result<(Arc<dyn ObjectStore>, Path)> {
        let url = store_url(url);
        let (_, path) = open::place(&url)?;
        self.require_allowed(&url)?;
        Ok((self.store(&url)?, path))
    }

    /// Refuses what lies outside of what is [allowed](Self::with_allowed).
    pub(crate) fn require_allowed(&self, url: &Url) -> Result<()> {
        self.allowed.as_ref().map_or(Ok(()), |allowed| allowed.admit(url))
    }

    /// The whole object at `url`.
    pub async fn read(&self, url: &Url) -> Result<Vec<u8>> {
        let (store, path) = self.resolve(url)?;
        let read = async { store.get(&path).await?.bytes().await };
        Ok(read.await.context(|| format!("cannot read {}", Shown(url)))?.to_vec())
    }

    /// The whole object at `url`; none where there is no such object.
    pub async fn read_if_present(&self, url: &Url) -> Result<Option<Vec<u8>>> {
        match self.read(url).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes every object in a folder; on a disk the folder itself, too.
    pub async fn remove_folder(&self, folder: &Url) -> Result<()> {
        let (store, path) = self.resolve(folder)?;
        if let Some(path) = local_path(folder) {
            return match tokio::fs::remove_dir_all(path).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            };
        }
        let found = store.list(Some(&path)).map_ok(|object| object.location).boxed();
        Ok(store.delete_stream(found).try_for_each(|_| ready(Ok(()))).await?)
    }

    /// Removes those files of a folder, but not of the folders in it, whose names `is_ours` accepts; on a disk the folder
    /// itself, too, once it is empty.
    pub async fn remove_files(&self, folder: &Url, is_ours: impl Fn(&str) -> bool) -> Result<()> {
        let (store, path) = self.resolve(folder)?;
        for object in store.list_with_delimiter(Some(&path)).await?.objects {
            if object.location.filename().is_some_and(&is_ours) {
                store.delete(&object.location).await?;
            }
        }
        if let Some(path) = local_path(folder) {
            crate::output::sweep(&path);
            // It may hold what is not ours, or not be there.
            let _ = tokio::fs::remove_dir(path).await;
        }
        Ok(())
    }

    fn store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let key = url[..Position::BeforePath].to_string();
        if let Some(store) = self.stores.read().expect("no panic holds this lock").get(&key) {
            return Ok(Arc::clone(store));
        }
        let store = self.confined(open::open(url, &self.options)?, url);
        let mut stores = self.stores.write().expect("no panic holds this lock");
        Ok(Arc::clone(stores.entry(key).or_insert(store)))
    }

    fn confined(&self, store: Arc<dyn ObjectStore>, url: &Url) -> Arc<dyn ObjectStore> {
        match &self.allowed {
            Some(allowed) => Arc::new(Confined::new(store, allowed.clone(), url)),
            None => store,
        }
    }
}

/// Whether an error says that there is no such object.
pub fn is_not_found(error: &Error) -> bool {
    match error {
        Error::Storage(object_store::Error::NotFound { .. }) => true,
        Error::Context { source, .. } => is_not_found(source),
        _ => false,
    }
}

impl ObjectStoreRegistry for Storage {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        let key = url[..Position::BeforePath].to_string();
        let store = self.confined(store, url);
        self.stores.write().expect("no panic holds this lock").insert(key, store)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>, DataFusionError> {
        self.store(url).map_err(|error| DataFusionError::External(Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn objects_are_read_if_present_and_removed_with_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::new([]);
        let url = |name: &str| parse_url(folder.path().join(name).to_str().unwrap()).unwrap();
        assert_eq!(storage.read_if_present(&url("a/x")).await.unwrap(), None);
        for name in ["a/x", "a/b/y", "c/z"] {
            let (store, path) = storage.resolve(&url(name)).unwrap();
            store.put(&path, "here".into()).await.unwrap();
        }
        assert_eq!(storage.read_if_present(&url("a/x")).await.unwrap(), Some(b"here".to_vec()));
        storage.remove_folder(&url("a/")).await.unwrap();
        for (name, stays) in [("a/x", false), ("a/b/y", false), ("c/z", true)] {
            assert_eq!(storage.read_if_present(&url(name)).await.unwrap().is_some(), stays, "{name}");
        }
        assert!(!folder.path().join("a").exists());
        storage.remove_folder(&url("a/")).await.unwrap();
        assert!(storage.read_if_present(&parse_url("ftp://host/x").unwrap()).await.is_err());
    }

    #[test]
    fn stores_are_made_once_and_strange_schemes_refused() {
        let storage = Storage::new([]);
        let url = parse_url("memory:///x").unwrap();
        let (first, path) = storage.resolve(&url).unwrap();
        let (second, _) = storage.resolve(&url).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(path.as_ref(), "x");
        let error = storage.resolve(&parse_url("ftp://host/x").unwrap()).unwrap_err().to_string();
        assert!(error.contains("ftp://host/x") && error.contains("s3://"), "{error}");
    }
}
