mod learn;
mod report;
mod sets;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::json;
use tch::Device;
use tokio::runtime::Handle;
use url::Url;

use self::learn::{learn, stopped};
use self::sets::Sets;
use crate::artifact::checkpoint::{Checkpoints, Run};
use crate::artifact::model_folder::{Description, Files, vocabulary_file};
use crate::data::Training;
use crate::device::{device, device_name};
use crate::fit::ensemble::EnsembleState;
use counterweight::context::JobContext;
use counterweight::error::{Context, Error, Result, invalid};
use counterweight::job::{Resume, Split, TrainSpec};
use counterweight::model::{Manifest, Stop};
use counterweight::operator::{Finding, Operator, Report};
use counterweight::output::{Others, probe, refuse_input};
use counterweight::storage::{Storage, parse_folder};

/// Rows of a log that are kept in memory, and of a longer one's shuffle buffer: 24 bytes each.
const SHUFFLE_ROWS: usize = 1 << 23;

/// Trains the models of a job's `[train]` section and writes them to its output folder.
///
/// Interrupted, it writes the best models so far, unless the folder holds those of a run that ended well: then it fails,
/// and they are kept. Where a loss or a gradient stops being finite it does likewise, and always fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrainOperator;

#[async_trait]
impl Operator for TrainOperator {
    fn name(&self) -> &str {
        "train"
    }

    async fn check(&self, context: &JobContext) -> Vec<Finding> {
        vec![Finding::new("train", validate(context).await)]
    }

    async fn run(&self, context: &JobContext) -> Result<Report> {
        let (report, ended) = self.report(context).await?;
        if let Err(error) = ended {
            tracing::error!("{}", report.text);
            return Err(error);
        }
        Ok(report)
    }
}

impl TrainOperator {
    /// Trains, and gives the report together with what failed after training. A model that cannot be written to its folder is
    /// kept in a new one in the system's temporary folder, which the error names.
    ///
    /// # Errors
    /// Where there is no model that could be reported.
    pub async fn report(&self, context: &JobContext) -> Result<(Report, Result<()>)> {
        let start = Instant::now();
        let spec = section(context)?;
        let device = device(context.job.device)?;
        let output = output(context, spec).await?;
        let (train, data) = Sets::plan(context, spec).await?.read(context.job.population.shape).await?;
        let record = data.record();
        let unknown = [Split::Validation, Split::Test].map(|split| data.unknown(split));
        let Training { users, items, .. } = &data.training;
        let (users, items) = (Arc::clone(users), Arc::clone(items));

        let (user_file, item_file) = (vocabulary_file("users", &users)?, vocabulary_file("items", &items)?);
        let names = [user_file.0.file.as_str(), item_file.0.file.as_str()];
        let run = Run::new(&context.job, &device_name(device), &record, names)?;
        let every = Duration::from_secs(spec.checkpoint.every_seconds);
        let mut checkpoints = Checkpoints::open(&context.storage, &output, run.clone(), every).await?;
        if spec.checkpoint.resume != Resume::No && checkpoints.epochs().is_none() {
            let manifest = Manifest::read(&context.storage, &output).await.ok();
            if let Some(manifest) = manifest.filter(|manifest| run.has_made(manifest)) {
                checkpoints.remove().await;
                return Ok((finished(&manifest, &output), Ok(())));
            }
        }
        let state = unfinished(spec, &mut checkpoints, device).await?;

        let (job, handle) = (context.clone(), Handle::current());
        let work = move || learn(&job, train, data, device, state, checkpoints, handle);
        let (learned, checkpoints) = tokio::task::spawn_blocking(work).await.map_err(stopped)??;

        let about = Description {
            model: spec.model.clone(),
            loss: spec.loss.clone(),
            data: record,
            training: learned.training,
            job: serde_json::to_value(&*context.job).map_err(std::io::Error::from)?,
        };
        let summary = json!({
            "users": users.len(),
            "items": items.len(),
            "unknown": unknown,
            "data": &about.data,
            "training": &about.training,
            "seconds": start.elapsed().as_secs_f64(),
        });
        let digest = json!({
            "users": users.len(),
            "items": items.len(),
            "rows": about.data.get(Split::Train).map(|train| train.rows),
            "device": &about.training.device,
            "stop": &about.training.stop,
            "epochs": about.training.epochs().count(),
            "validation": about.training.validation,
            "test": about.training.test,
        });
        let text = report::render(&about, &users, &items, unknown);
        let stop = about.training.stop.clone();
        if !stop.is_good() {
            let before = Manifest::read(&context.storage, &output).await;
            if before.is_ok_and(|before| before.training.stop.is_good()) {
                let kept = || {
                    format!("the finished model at {output} is kept; --resume goes on from the last epoch of this run")
                };
                return match stop {
                    Stop::Diverged(divergence) => Err(divergence).context(kept),
                    _ => Err(Error::Interrupted).context(kept),
                };
            }
        }
        let report = Report::new(self.name(), text, summary, Vec::new()).with_digest(digest);
        let files = Files::new(&learned.models, user_file, item_file, about)?;
        let outputs = match files.write(&context.storage, &output).await {
            Ok(outputs) => outputs,
            Err(error) => return Ok((report, Err(keep(&files, error).await))),
        };
        if stop.is_good() {
            checkpoints.remove().await;
        }
        let ended = match stop {
            Stop::Diverged(divergence) => Err(divergence).context(|| format!("the best models so far are at {output}")),
            _ => Ok(()),
        };
        Ok((report.with_outputs(outputs), ended))
    }
}

/// Writes a model to a folder of its own, since `error` kept it from the one that it was meant for; the error says where.
async fn keep(files: &Files, error: Error) -> Error {
    let kept = async {
        let folder = tempfile::Builder::new().prefix("counterweight-model-").tempdir()?.keep();
        let url = parse_folder(&folder.to_string_lossy())?;
        files.write(&Storage::new([]), &url).await.map(|_| folder)
    };
    let context = match kept.await {
        Ok(folder) => format!("the model is kept in {}", folder.display()),
        Err(other) => format!("the model could not be kept in the temporary folder either ({other})"),
    };
    Error::Context { context, source: Box::new(error) }
}

async fn validate(context: &JobContext) -> Result<()> {
    let spec = section(context)?;
    device(context.job.device)?;
    Sets::plan(context, spec).await?;
    output(context, spec).await.map(drop)
}

/// The state that an unfinished run kept, where it is to be resumed.
async fn unfinished(spec: &TrainSpec, checkpoints: &mut Checkpoints, device: Device) -> Result<Option<EnsembleState>> {
    match (spec.checkpoint.resume, checkpoints.epochs()) {
        (Resume::No, None) => return Ok(None),
        (Resume::No, Some(epoch)) => {
            tracing::info!(epoch, "training from the start; --resume would resume an unfinished run");
            return Ok(None);
        }
        (_, None) => tracing::info!("no unfinished run: training from the start"),
        (_, Some(_)) => {}
    }
    let epoch = checkpoints.epochs();
    let state = checkpoints.load(spec, device).await?;
    if let (Some(epoch), Some(_)) = (epoch, &state) {
        tracing::info!(epoch, "resuming after the last epoch of an unfinished run");
    }
    Ok(state)
}

/// The report of a run that has nothing left to do.
fn finished(manifest: &Manifest, output: &Url) -> Report {
    let text = format!("{output} holds the finished model of this job and these data: there is nothing to resume\n");
    let summary = json!({
        "users": manifest.users.count,
        "items": manifest.items.count,
        "data": &manifest.data,
        "training": &manifest.training,
    });
    Report::new(TrainOperator.name(), text, summary, Vec::new())
}

fn section(context: &JobContext) -> Result<&TrainSpec> {
    match &context.job.train {
        Some(spec) => Ok(spec),
        None => invalid!("the job has no [train] section"),
    }
}

/// The output folder, which can be written.
async fn output(context: &JobContext, spec: &TrainSpec) -> Result<Url> {
    let url = parse_folder(&spec.output).context(|| "train.output")?;
    refuse_input(&context.job, "train.output", &url)?;
    probe(&context.storage, &url, Others::Kept).await.context(|| "train.output")?;
    Ok(url)
}
