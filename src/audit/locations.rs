//! Where the results and metrics of audits go, and whether they can.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use object_store::ObjectStoreExt;
use url::Url;

use super::checks::CHECKS;
use crate::context::JobContext;
use crate::error::{Context, Error, Result, invalid};
use crate::job::{AuditSpec, Job};
use crate::metrics::parse_text;
use crate::storage::{Storage, child, parse_url};

/// Where an audit's results and metrics go.
pub(super) fn locations(spec: &AuditSpec, name: &str) -> Result<(Option<Url>, Option<Url>)> {
    let parse = |key: &str, text: &Option<String>| {
        let url = text.as_deref().map(parse_url).transpose();
        url.map_err(|error| Error::Invalid(format!("audit.{name}.{key}: {error}")))
    };
    Ok((parse("output", &spec.output)?, parse("metrics", &spec.metrics)?))
}

/// Whether no two audits write to one folder, and no metrics file is in the place of results.
pub(super) fn outputs_differ(job: &Job, names: &[&str]) -> Result<()> {
    let mut folders: BTreeMap<String, &str> = BTreeMap::new();
    for name in names {
        let Some(output) = &job.audit[*name].output else { continue };
        let folder = parse_url(output)?.to_string();
        if let Some(other) = folders.insert(folder.trim_end_matches('/').to_owned(), name) {
            invalid!("audit.{other}.output and audit.{name}.output are the same folder: give each its own");
        }
    }
    for name in names {
        let Some(metrics) = locations(&job.audit[*name], name)?.1 else { continue };
        for (folder, other) in &folders {
            let files =
                CHECKS.iter().flat_map(|check| ["parquet", "json"].map(|kind| format!("{}.{kind}", check.name)));
            let is_result = |file: String| child(&Url::parse(folder).ok()?, &file).ok().filter(|url| *url == metrics);
            if let Some(file) = files.chain(["audit.json".to_owned()]).find_map(is_result) {
                invalid!(
                    "audit.{name}.metrics names {file}, which audit.{other} writes its results to: give it a file of its own"
                );
            }
        }
    }
    Ok(())
}

/// Tries to write where an audit will, and leaves nothing there.
///
/// # Errors
/// Names the key, and why nothing can be written.
pub(super) async fn try_locations(context: &JobContext, name: &str) -> Result<()> {
    let (output, metrics) = locations(&context.job.audit[name], name)?;
    if let Some(folder) = &output {
        let file = child(folder, "audit.json")?;
        try_to_write(&context.storage, &file).await.context(|| format!("audit.{name}.output = {folder}"))?;
    }
    if let Some(url) = &metrics {
        if url.path().ends_with('/') {
            invalid!("audit.{name}.metrics is a folder: give the URL of one file, such as …/audit.prom");
        }
        let tried = async {
            try_to_write(&context.storage, url).await?;
            existing_metrics(&context.storage, url).await
        };
        tried.await.context(|| format!("audit.{name}.metrics = {url}"))?;
    }
    Ok(())
}

/// The text of the metrics file that is there.
///
/// # Errors
/// Where it holds something else.
pub(super) async fn existing_metrics(storage: &Storage, url: &Url) -> Result<Option<String>> {
    let Some(bytes) = storage.read_if_present(url).await? else { return Ok(None) };
    match String::from_utf8(bytes).ok().filter(|text| parse_text(text).is_some()) {
        Some(text) => Ok(Some(text)),
        None => invalid!("there is a file that holds no metrics, and it is left as it is; give the URL of another"),
    }
}

async fn try_to_write(storage: &Storage, url: &Url) -> Result<()> {
    let (store, path) = storage.resolve(url)?;
    match url.scheme() {
        "http" | "https" => {
            invalid!("nothing is written to a web server; give a path, or an s3://, gs:// or az:// URL")
        }
        "file" => {
            let path = url.to_file_path().map_err(|()| Error::Invalid(format!("{url} is no path")))?;
            tokio::task::spawn_blocking(move || try_path(&path)).await.map_err(std::io::Error::other)?
        }
        _ => {
            let mut upload = store.put_multipart(&path).await?;
            Ok(upload.abort().await?)
        }
    }
}

/// Makes a file beside where `path` is to be, or in the nearest folder above that is there, and removes it again.
fn try_path(path: &Path) -> Result<()> {
    if path.is_dir() {
        invalid!("{} is a folder", path.display());
    }
    let above = path.ancestors().skip(1).find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    if !above.is_dir() {
        invalid!("{} is a file, not a folder; give another path", above.display());
    }
    let trial = above.join(format!(".counterweight-{}-{:?}", std::process::id(), std::thread::current().id()));
    let tried = std::fs::File::create_new(&trial).and_then(|_| std::fs::remove_file(&trial));
    match tried {
        Ok(()) => Ok(()),
        Err(error) if [ErrorKind::StorageFull, ErrorKind::QuotaExceeded].contains(&error.kind()) => Err(error.into()),
        Err(error) => invalid!("nothing can be written in {}: {error}; give another path", above.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::new([]);
        let url = |name: &str| parse_url(folder.path().join(name).to_str().unwrap()).unwrap();
        std::fs::write(folder.path().join("file"), "x").unwrap();
        for (place, problem) in [
            ("out/deep/audit.json", None),
            ("file", None),
            ("file/audit.json", Some("is a file, not a folder")),
            (".", Some("is a folder")),
        ] {
            let tried = try_to_write(&storage, &url(place)).await.map_err(|error| error.to_string());
            match problem {
                None => tried.unwrap(),
                Some(problem) => assert!(tried.unwrap_err().contains(problem), "{place}"),
            }
        }
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
        assert_eq!(std::fs::read_to_string(folder.path().join("file")).unwrap(), "x");
        for place in ["https://host/x", "file:///proc/counterweight/x"] {
            let error = try_to_write(&storage, &parse_url(place).unwrap()).await.unwrap_err();
            assert!(error.is_invalid_input(), "{place}: {error}");
        }
        try_to_write(&storage, &parse_url("memory:///x").unwrap()).await.unwrap();
    }
}
