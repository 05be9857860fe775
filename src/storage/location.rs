//! URLs and paths: how they are read, and what lies in a folder.

use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use url::Url;

use crate::error::{Error, Result, invalid};
use crate::redact::{Shown, redact};

/// Reads a URL, or a path as a `file` URL: relative to the working directory, with a leading `~` expanded.
///
/// A trailing `/` is kept: it says that the URL is a folder.
pub fn parse_url(text: &str) -> Result<Url> {
    if text.is_empty() {
        invalid!("an empty URL; give a path or a URL such as s3://bucket/path");
    }
    if text.contains("://") {
        return Url::parse(text).map_err(|error| Error::Invalid(format!("{:?} is not a URL: {error}", redact(text))));
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
    let child = as_folder(url).join(name);
    child.map_err(|error| Error::Invalid(format!("cannot place {name:?} in {}: {error}", Shown(url))))
}

/// The path of a `file` URL.
pub(crate) fn local_path(url: &Url) -> Option<PathBuf> {
    if url.scheme() == "file" { url.to_file_path().ok() } else { None }
}

/// The path with every symbolic link followed, as far as it exists.
pub(crate) fn canonical(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => match (path.parent(), path.components().next_back()) {
            (Some(parent), Some(Component::Normal(name))) => Ok(canonical(parent)?.join(name)),
            (Some(parent), Some(Component::ParentDir)) => {
                let mut folder = canonical(parent)?;
                folder.pop();
                Ok(folder)
            }
            _ => Err(error),
        },
        path => path,
    }
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
}
