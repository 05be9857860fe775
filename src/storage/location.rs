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
    let path = without_parents(path).map_err(|error| Error::Invalid(format!("cannot follow {text:?}: {error}")))?;
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

/// The path without `..`, each taken as the system takes it: from where the links before it lead.
fn without_parents(path: PathBuf) -> io::Result<PathBuf> {
    let parts: Vec<Component> = path.components().collect();
    match parts.iter().rposition(|part| *part == Component::ParentDir) {
        None => Ok(path),
        Some(last) => {
            let (before, after) = parts.split_at(last + 1);
            Ok(canonical(&before.iter().collect::<PathBuf>())?.join(after.iter().collect::<PathBuf>()))
        }
    }
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
    fn parents_are_followed_as_the_system_follows_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir(root.join("c")).unwrap();
        std::os::unix::fs::symlink(root.join("a/b"), root.join("link")).unwrap();
        for (text, path) in [
            ("a/../c/x.csv", "c/x.csv"),
            ("a/b/../../x.csv", "x.csv"),
            ("link/../x.csv", "a/x.csv"),
            ("none/../x.csv", "x.csv"),
            ("a/b/..", "a"),
            ("a/../c/", "c/"),
            ("c/./x.csv", "c/x.csv"),
            ("a/b/../link/x.csv", "a/link/x.csv"),
        ] {
            let url = parse_url(&format!("{}/{text}", root.display())).unwrap();
            assert_eq!(url.to_file_path().unwrap(), root.join(path), "{text}");
            assert_eq!(url.path().ends_with('/'), path.ends_with('/'), "{text}");
        }
        assert_eq!(parse_url("s3://b/a/../x").unwrap().as_str(), "s3://b/x");
        assert_eq!(parse_url("file:///a/../x").unwrap().as_str(), "file:///x");
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(parse_url("../x").unwrap().to_file_path().unwrap(), here.parent().unwrap().join("x"));
    }

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
