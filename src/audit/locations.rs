//! Where the results and metrics of audits go, and whether they can.

use std::collections::BTreeMap;

use url::Url;

use super::checks::CHECKS;
use crate::context::JobContext;
use crate::error::{Context, Error, Result, invalid};
use crate::job::{AuditSpec, Job};
use crate::metrics::parse_text;
use crate::output::{Others, probe, refuse_input};
use crate::storage::{Storage, as_folder, child, parse_url};

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
        let to = as_folder(folder);
        refuse_input(&context.job, &format!("audit.{name}.output"), &to)?;
        let probed = probe(&context.storage, &to, Others::Kept).await;
        probed.context(|| format!("audit.{name}.output = {folder}"))?;
    }
    if let Some(url) = &metrics {
        refuse_input(&context.job, &format!("audit.{name}.metrics"), url)?;
        if url.path().ends_with('/') {
            invalid!("audit.{name}.metrics is a folder: give the URL of one file, such as …/audit.prom");
        }
        let tried = async {
            probe(&context.storage, url, Others::Kept).await?;
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
