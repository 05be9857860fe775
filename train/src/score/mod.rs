//! Scores a table with a trained model, and writes it back file by file.

mod files;
mod scorer;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::parquet::arrow::AsyncArrowWriter;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use url::Url;

use crate::artifact::model_folder::TrainedModel;
use crate::device::device;
use counterweight::context::JobContext;
use counterweight::error::{Context, Error, Result, invalid};
use counterweight::job::ScoreSpec;
use counterweight::operator::{Finding, Operator, Report};
use counterweight::output::{Outputs, Staged, parquet_properties};
use counterweight::storage::parse_url;
use files::{InputFile, input_files};
use scorer::{Added, Counts, Scorer, output_schema};

/// Adds `propensity`, `prediction` and, of a model that imputes, `imputed_error` to every row of a table, in columns of
/// float64, and where it is asked for `phi`, in lists of float32. They replace columns of the same name.
///
/// `propensity` is that of the propensity model, wherever the loss had its own from, kept as far from 0 and 1 as training
/// kept it. Each file of the table gives one Parquet file at the same place in the output folder. Rows keep their order.
/// Files are scored side by side, a batch of rows at a time.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScoreOperator;

/// What a run needs, all of it known to be there.
struct Plan {
    files: Vec<(InputFile, Url)>,
    output: Url,
    model: Url,
}

#[async_trait]
impl Operator for ScoreOperator {
    fn name(&self) -> &str {
        "score"
    }

    async fn check(&self, context: &JobContext) -> Vec<Finding> {
        vec![Finding::new("score", validate(context).await)]
    }

    async fn run(&self, context: &JobContext) -> Result<Report> {
        let spec = section(context)?;
        let plan = plan(context, spec).await?;
        let model = TrainedModel::read(&context.storage, &plan.model, device(context.job.device)?).await?;
        let scorer = Arc::new(Scorer::new(model, &context.job.columns, spec)?);
        let written = Outputs::write(async |outputs| score_files(context, &plan, &scorer, &outputs).await);
        let (Counts { rows, unknown_user, unknown_item }, outputs) = written.await?;
        let text = format!(
            "scored {rows} rows of {} files into {}\n\
             {unknown_user} rows have an unknown user, {unknown_item} an unknown item; they got the average of those known\n",
            plan.files.len(),
            plan.output
        );
        let summary = json!({
            "rows": rows,
            "files": plan.files.len(),
            "rows_with_unknown_user": unknown_user,
            "rows_with_unknown_item": unknown_item,
            "model": plan.model.as_str(),
        });
        Ok(Report::new(self.name(), text, summary, outputs))
    }
}

async fn validate(context: &JobContext) -> Result<()> {
    let spec = section(context)?;
    device(context.job.device)?;
    let plan = plan(context, spec).await?;
    let file = &plan.files[0].0;
    let rows = file.open(context)?;
    let added = Added { imputed_error: false, phi: spec.phi.then_some(1) };
    output_schema(rows.schema().inner(), &context.job.columns, added, &|name| file.is_partition(name)).map(drop)
}

fn section(context: &JobContext) -> Result<&ScoreSpec> {
    match &context.job.score {
        Some(spec) => Ok(spec),
        None => invalid!("the job has no [score] section"),
    }
}

async fn plan(context: &JobContext, spec: &ScoreSpec) -> Result<Plan> {
    let model = match (&spec.model, &context.job.train) {
        (Some(model), _) => parse_url(model).context(|| "score.model")?,
        (None, Some(train)) => parse_url(&train.output).context(|| "train.output")?,
        (None, None) => invalid!("score.model is missing: give the URL of a model folder"),
    };
    let output = parse_url(&format!("{}/", spec.output.trim_end_matches('/'))).context(|| "score.output")?;
    let files = input_files(context, &spec.table, &output).await.context(|| format!("[tables.{}]", spec.table))?;
    let written: Vec<Url> = files.iter().map(|(_, to)| to.clone()).collect();
    context.storage.refuse_strangers(&output, &written).await.context(|| "score.output")?;
    Ok(Plan { files, output, model })
}

async fn score_files(context: &JobContext, plan: &Plan, scorer: &Arc<Scorer>, outputs: &Outputs) -> Result<Counts> {
    let threads = context.session.state().config().target_partitions();
    let context = &context.child();
    let scored = stream::iter(plan.files.clone()).map(|(file, to)| {
        let (context, scorer, outputs) = (context.clone(), Arc::clone(scorer), outputs.clone());
        let task = tokio::spawn(async move {
            let scored = score_file(&context, &file, &to, &scorer, &outputs).await;
            match scored {
                Err(Error::Interrupted) => Err(Error::Interrupted),
                scored => scored.context(|| format!("cannot score {}", file.file)),
            }
        });
        async { task.await.map_err(std::io::Error::other)? }
    });
    let mut scored = scored.buffered(threads);
    let (mut counts, mut failure) = (Counts::default(), None);
    while let Some(result) = scored.next().await {
        match result {
            Ok((object, part)) => {
                counts.merge(&part);
                failure = failure.or(outputs.add(object).await.err());
            }
            Err(error) => failure = failure.or(Some(error)),
        }
        if failure.is_some() {
            context.interrupt.cancel();
        }
    }
    failure.map_or(Ok(counts), Err)
}

async fn score_file(
    context: &JobContext,
    file: &InputFile,
    to: &Url,
    scorer: &Scorer,
    outputs: &Outputs,
) -> Result<(Staged, Counts)> {
    let rows = file.open(context)?;
    let schema = scorer.output_schema(rows.schema().inner(), &|name| file.is_partition(name))?;
    let mut object = outputs.create(&context.storage, to).await?;
    let properties = parquet_properties().build();
    let mut writer = AsyncArrowWriter::try_new(&mut object, Arc::clone(&schema), Some(properties))?;
    let mut batches = rows.execute_stream().await?;
    let mut counts = Counts::default();
    while let Some(batch) = batches.try_next().await? {
        if context.interrupt.is_cancelled() {
            return Err(Error::Interrupted);
        }
        writer.write(&scorer.score(&batch, &schema, &mut counts)?).await?;
    }
    writer.close().await?;
    Ok((object, counts))
}
