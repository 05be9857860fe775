//! URLs to object stores: one registry that queries, training and outputs share.

use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, RwLock};

use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, ObjectStoreScheme, parse_url_opts};
use url::{Position, Url};

use crate::error::{Context, Error, Result, invalid};

/// Environment variables that configure a store, by prefix: the names are those of the
/// cloud vendors' own tools (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`,
/// `AZURE_STORAGE_ACCOUNT_NAME`, …).
const OPTION_PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// The object stores of a process, made on first use of a URL and kept.
///
/// Understands `file`, `s3`, `gs`, `az`/`abfss`, `http(s)` and, for tests, `memory` URLs. DataFusion asks it for
/// the store of every table, so that a query can name any URL without a registration step.
#[derive(Debug)]
pub struct Storage {
    options: Vec<(String, String)>,
    stores: RwLock<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl Storage {
    /// A registry whose stores are configured by `options`, in the vocabulary of [`parse_url_opts`].
    pub fn new(options: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { options: options.into_iter().collect(), stores: RwLock::default() }
    }

    /// A registry configured by the environment, as the cloud vendors' own tools are.
    pub fn from_env() -> Self {
        let is_option = |key: &str| OPTION_PREFIXES.iter().any(|prefix| key.to_ascii_uppercase().starts_with(prefix));
        let vars =
            std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        Self::new(vars.filter(|(key, _)| is_option(key)))
    }

    /// The options that its stores are configured by.
    pub fn options(&self) -> &[(String, String)] {
        &self.options
    }

    /// The store that holds `url`, and where in it.
    pub fn resolve(&self, url: &Url) -> Result<(Arc<dyn ObjectStore>, Path)> {
        let (_, path) = ObjectStoreScheme::parse(url).map_err(|error| unsupported(url, &error))?;
        Ok((self.store(url)?, path))
    }

    /// The whole object at `url`.
    pub async fn read(&self, url: &Url) -> Result<Vec<u8>> {
        let (store, path) = self.resolve(url)?;
        let read = async { store.get(&path).await?.bytes().await };
        Ok(read.await.context(|| format!("cannot read {url}"))?.to_vec())
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
        if folder.scheme() == "file"
            && let Ok(path) = folder.to_file_path()
        {
            return match tokio::fs::remove_dir_all(path).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            };
        }
        let (store, path) = self.resolve(folder)?;
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
        if folder.scheme() == "file"
            && let Ok(path) = folder.to_file_path()
        {
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
        let (store, _) = parse_url_opts(url, self.options.iter().map(|(key, value)| (key, value)))
            .map_err(|error| unsupported(url, &error))?;
        let mut stores = self.stores.write().expect("no panic holds this lock");
        Ok(Arc::clone(stores.entry(key).or_insert(store.into())))
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

fn unsupported(url: &Url, error: &dyn std::fmt::Display) -> Error {
    Error::Invalid(format!(
        "cannot open {url}: {error}; a URL starts with file://, s3://, gs://, az://, http:// or https://, \
         and a cloud store takes its credentials from the environment (AWS_…, GOOGLE_…, AZURE_…)"
    ))
}

impl ObjectStoreRegistry for Storage {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        let key = url[..Position::BeforePath].to_string();
        self.stores.write().expect("no panic holds this lock").insert(key, store)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>, DataFusionError> {
        self.store(url).map_err(|error| DataFusionError::External(Box::new(error)))
    }
}

/// Reads a URL, or a path as a `file` URL: relative to the working directory, with a leading `~` expanded.
///
/// A trailing `/` is kept: it says that the URL is a folder.
pub fn parse_url(text: &str) -> Result<Url> {
    if text.is_empty() {
        invalid!("an empty URL; give a path or a URL such as s3://bucket/path");
    }
    if text.contains("://") {
        return Url::parse(text).map_err(|error| Error::Invalid(format!("{text:?} is not a URL: {error}")));
    }
    let path = match text.strip_prefix("~/") {
        Some(rest) => std::env::home_dir().unwrap_or_default().join(rest),
        None => std::path::absolute(text)?,
    };
    let url = if text.ends_with('/') { Url::from_directory_path(&path) } else { Url::from_file_path(&path) };
    url.map_err(|()| Error::Invalid(format!("{text:?} is not a path")))
}

/// Reads the URL or path of a folder, as [`parse_url`] does, whether or not it ends in `/`.
pub fn parse_folder(text: &str) -> Result<Url> {
    parse_url(&format!("{}/", text.trim_end_matches('/')))
}

/// The same URL with a `/` at its end: that of a folder.
pub fn as_folder(url: &Url) -> Url {
    let mut folder = url.clone();
    if !folder.path().ends_with('/') {
        folder.set_path(&format!("{}/", folder.path()));
    }
    folder
}

/// `name` inside the folder `url`, whether or not that ends in `/`.
pub fn child(url: &Url, name: &str) -> Result<Url> {
    as_folder(url).join(name).map_err(|error| Error::Invalid(format!("cannot place {name:?} in {url}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_urls() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(parse_url("a/b.parquet").unwrap(), Url::from_file_path(here.join("a/b.parquet")).unwrap());
        assert!(parse_url("a/").unwrap().path().ends_with("/a/"));
        assert_eq!(parse_url("s3://bucket/x*.parquet").unwrap().as_str(), "s3://bucket/x*.parquet");
        assert!(parse_url("").unwrap_err().to_string().contains("empty URL"));
        assert_eq!(child(&parse_url("s3://b/model").unwrap(), "x.json").unwrap().as_str(), "s3://b/model/x.json");
        assert_eq!(child(&parse_url("s3://b/model/").unwrap(), "x.json").unwrap().as_str(), "s3://b/model/x.json");
    }

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
