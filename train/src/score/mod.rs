//! Scores the files of a table, or the rows of a query, with a trained model, and writes them to a folder.

mod files;
mod scorer;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::dataframe::DataFrame;
use datafusion::prelude::ident;
use futures::{StreamExt, stream};
use serde_json::json;
use url::Url;

use crate::artifact::model_folder::TrainedModel;
use crate::device::device;
use counterweight::context::JobContext;
use counterweight::error::{Context, Error, Result, invalid, suggestion};
use counterweight::job::{ScoreSpec, Unfinished};
use counterweight::model::Stop;
use counterweight::operator::{Finding, Operator, Report};
use counterweight::output::{Others, OutputFolder, Outputs, Staged, probe, refuse_input};
use counterweight::storage::{parse_folder, parse_url};
use files::{InputFile, input_files};
use scorer::{Added, Counts, Scorer, output_schema};
use write::{write_file, write_query};

/// Adds `propensity`, `prediction` and, of a model that imputes, `imputed_error` to every row, in columns of float64, and where it is asked for `phi`, in lists of float32. They replace columns of the same name.
///
/// `propensity` is that of the propensity model, wherever the loss had its own from, kept as far from 0 and 1 as training
/// kept it. Each file of a table gives one Parquet file at the same place in the output folder, whose rows keep their order;
/// files are scored side by side, a batch of rows at a time. A query gives as many files as its rows need.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScoreOperator;

/// What a run needs, all of it known to be there.
struct Plan {
    input: Input,
    output: Url,
    model: Url,
}

enum Input {
    /// The files of a table, each with the name of its scored copy.
    Files(Vec<(InputFile, String)>),
    /// The rows of a query.
    Query(DataFrame),
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
        refuse_unfinished(&model, &plan.model, spec.unfinished)?;
        let scorer = Arc::new(Scorer::new(model, &context.job.columns, spec)?);
        let written = Outputs::write(async |outputs| {
            let folder =
                outputs.folder(&context.storage, &plan.output, Others::Refused).await.context(|| "score.output")?;
            match plan.input {
                Input::Files(files) => score_files(context, files, &scorer, &outputs, &folder).await,
                Input::Query(rows) => write_query(context, rows, &spec.partition_by, &scorer, &outputs, &folder).await,
            }
        });
        let ((Counts { rows, unknown_user, unknown_item }, files), outputs) = written.await?;
        let text = format!(
            "scored {rows} rows of {files} files into {}\n\
             {unknown_user} rows have an unknown user, {unknown_item} an unknown item; they got the average of those known\n",
            plan.output
        );
        let summary = json!({
            "rows": rows,
            "files": files,
            "rows_with_unknown_user": unknown_user,
            "rows_with_unknown_item": unknown_item,
            "model": plan.model.as_str(),
        });
        Ok(Report::new(self.name(), text, summary.clone(), outputs).with_digest(summary))
    }
}

async fn validate(context: &JobContext) -> Result<()> {
    let spec = section(context)?;
    device(context.job.device)?;
    let plan = plan(context, spec).await?;
    probe(&context.storage, &plan.output, Others::Refused).await.context(|| "score.output")?;
    let added = Added { imputed_error: false, phi: spec.phi.then_some(1) };
    let columns = &context.job.columns;
    match &plan.input {
        Input::Files(files) => {
            let (file, _) = &files[0];
            let rows = file.open(context)?;
            output_schema(rows.schema().inner(), columns, added, &|name| file.is_partition(name)).map(drop)
        }
        Input::Query(rows) => {
            output_schema(rows.schema().inner(), columns, added, &|name| spec.partition_by.iter().any(|by| by == name))
                .map(drop)
        }
    }
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
    context.storage.resolve(&model).context(|| "the model")?;
    let output = parse_folder(&spec.output).context(|| "score.output")?;
    refuse_input(&context.job, "score.output", &output)?;
    let input = match (&spec.table, &spec.query) {
        (Some(table), _) => Input::Files(input_files(context, table).await.context(|| format!("[tables.{table}]"))?),
        (None, Some(sql)) => Input::Query(query(context, sql, &spec.partition_by).await?),
        (None, None) => invalid!("score.table is missing: name one of [tables], or give a score.query"),
    };
    Ok(Plan { input, output, model })
}

/// Refuses a model whose training did not come to its end, unless it may be used.
fn refuse_unfinished(model: &TrainedModel, folder: &Url, unfinished: Unfinished) -> Result<()> {
    let how = match &model.manifest.training.stop {
        Stop::Epochs | Stop::Patience => return Ok(()),
        Stop::Interrupted { epoch } => format!("was interrupted at epoch {epoch}"),
        Stop::Diverged(divergence) => format!("diverged at epoch {}", divergence.epoch),
    };
    if unfinished == Unfinished::Error {
        invalid!(
            "the training of the model at {folder} {how}: end it with `counterweight train --resume`, or set \
             score.unfinished = \"warn\" to use the best models so far"
        );
    }
    tracing::warn!("the training of the model at {folder} {how}; its best models so far are used");
    Ok(())
}

/// The rows of `score.query`, sorted by the columns that the output is laid out by.
async fn query(context: &JobContext, sql: &str, by: &[String]) -> Result<DataFrame> {
    let rows = context.query("score.query", sql).await?;
    if let Some(unknown) = by.iter().find(|name| rows.schema().index_of_column_by_name(None, name).is_none()) {
        let known: Vec<&str> = rows.schema().fields().iter().map(|field| field.name().as_str()).collect();
        invalid!("score.partition_by: score.query has no column {unknown:?}{}", suggestion(unknown, known));
    }
    match by {
        [] => Ok(rows),
        by => Ok(rows.sort(by.iter().map(|name| ident(name).sort(true, true)).collect())?),
    }
}

async fn score_files(
    context: &JobContext,
    files: Vec<(InputFile, String)>,
    scorer: &Arc<Scorer>,
    outputs: &Outputs,
    folder: &OutputFolder,
) -> Result<(Counts, usize)> {
    let count = files.len();
    let threads = context.session.state().config().target_partitions();
    let context = &context.child();
    let scored = stream::iter(files).map(|(file, name)| {
        let (context, scorer, folder) = (context.clone(), Arc::clone(scorer), folder.clone());
        let task = tokio::spawn(async move {
            let scored = score_file(&context, &file, &name, &scorer, &folder).await;
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
    failure.map_or(Ok((counts, count)), Err)
}

async fn score_file(
    context: &JobContext,
    file: &InputFile,
    name: &str,
    scorer: &Scorer,
    folder: &OutputFolder,
) -> Result<(Staged, Counts)> {
    let rows = file.open(context)?;
    let schema = scorer.output_schema(rows.schema().inner(), &|name| file.is_partition(name))?;
    write_file(context, rows, schema, scorer, folder.create(name).await?).await
}
