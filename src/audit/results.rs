//! Writes the results of audits: all of them, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use tokio::task::spawn_blocking;
use url::Url;

use super::gauges;
use super::locations::{existing_metrics, locations};
use super::outcome::{AuditOutcome, CheckResult};
use crate::context::JobContext;
use crate::error::{Context, Result};
use crate::metrics::Exposition;
use crate::output::{Others, Outputs, parquet_bytes};
use crate::redact::hide_secrets;
use crate::storage::local_path;

/// Writes, for each audit that has an `output`, each check's rows as `CHECK.parquet` and `CHECK.json` and then
/// the whole as `audit.json`; last, the metrics files. Of several processes on one machine, each adds to what those before it
/// have written to a metrics file.
pub(super) async fn write(context: &JobContext, audits: &[AuditOutcome]) -> Result<Vec<Url>> {
    let mut files = BTreeSet::new();
    for audit in audits {
        let (_, metrics) = locations(&context.job.audit[&audit.name], &audit.name)?;
        files.extend(metrics.as_ref().and_then(local_path));
    }
    let locks = spawn_blocking(move || files.iter().map(|file| lock(file)).collect::<io::Result<Vec<_>>>());
    let _locks = locks.await.map_err(io::Error::other)??;
    let ((), written) = Outputs::write(async |outputs| stage(context, audits, &outputs).await).await?;
    Ok(written)
}

/// Keeps other processes that do the same from replacing a file until what this gives is closed. Where there is no file yet,
/// or its disk knows no locks, nobody is kept.
fn lock(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if file.lock().is_err() {
            return Ok(None);
        }
        // Whoever had it before has put another file in its place.
        if fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|locked| locked.ino() == now.ino())) {
            return Ok(Some(file));
        }
    }
}

async fn stage(context: &JobContext, audits: &[AuditOutcome], outputs: &Outputs) -> Result<()> {
    let storage = &context.storage;
    // Audits that name one metrics file share it.
    let mut expositions: BTreeMap<Url, Exposition> = BTreeMap::new();
    for audit in audits {
        let (folder, metrics) = locations(&context.job.audit[&audit.name], &audit.name)?;
        if let Some(folder) = folder {
            let folder = outputs.folder(storage, &folder, Others::Kept).await?;
            for result in &audit.results {
                let name = result.check.name;
                folder.put(&format!("{name}.parquet"), &parquet(result)?).await?;
                folder.put(&format!("{name}.json"), &json(&result.json())).await?;
            }
            folder.put_fixed("audit.json", &json(&audit.json())).await?;
        }
        if let Some(url) = metrics {
            gauges::expose(expositions.entry(url).or_default(), audit)?;
        }
    }
    for (url, exposition) in expositions {
        let text = match existing_metrics(storage, &url).await.context(|| format!("cannot write {url}"))? {
            Some(existing) => {
                exposition.text_beside(&existing, |name, labels| gauges::is_kept(audits, name, labels))?
            }
            None => exposition.text()?,
        };
        outputs.put(storage, &url, text.as_bytes()).await?;
    }
    Ok(())
}

fn json(figures: &serde_json::Value) -> Vec<u8> {
    hide_secrets(&format!("{figures:#}\n")).into_owned().into_bytes()
}

fn parquet(result: &CheckResult) -> Result<Vec<u8>> {
    let batches: Vec<&RecordBatch> = result.parts.iter().map(|part| &part.batch).collect();
    let schema = result.parts[0].batch.schema();
    parquet_bytes(&concat_batches(&schema, batches)?)
}
