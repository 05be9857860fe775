//! Experiments: methods × data sets × settings × seeds, each a trial that trains one model in a child process.
//!
//! The experiment file (`file`, with its `seeds`) says what to compare. `grid` and `search` propose candidates, which are
//! `settings`; `trial` identifies what is trained, `run` starts the processes, `record` keeps how they ended, and `select`
//! uses all of these to find each method's settings, while `lock` keeps other experiments out of the folder. `results`
//! writes the table of all trials, and `summary` → `report` what they say. [`experiment()`] joins them.

mod document;
mod file;
mod grid;
mod lock;
mod plot;
mod record;
mod report;
mod results;
mod run;
mod search;
mod seeds;
mod select;
mod settings;
mod statistics;
mod summary;
mod trial;

use std::sync::Arc;

use url::Url;

pub use self::file::{DataVariant, Experiment, MethodVariant, Select};
pub use self::run::Options;
pub use self::search::{Sampler, Search};
pub use self::seeds::Seeds;

use self::record::Store;
use self::results::TrialResult;
use self::run::Runner;
use self::select::Selection;
use crate::error::{Error, Result};
use crate::job::json_schema_of;
use crate::output::{Others, Outputs};
use crate::storage::{Storage, parse_url};

/// The JSON Schema of an experiment file.
pub fn json_schema() -> serde_json::Value {
    json_schema_of::<Experiment>("Counterweight experiment")
}

/// What an experiment found.
#[derive(Debug)]
#[non_exhaustive]
pub struct ExperimentReport {
    /// The report, in Markdown.
    pub text: String,
    /// What was written.
    pub outputs: Vec<Url>,
    /// Trials that failed, each with its error; without those of candidates that diverged, which are not selected.
    pub failures: Vec<String>,
}

/// Runs those trials of `experiment` that have not ended yet, and writes `results.parquet`, `report.md` and `report.html`
/// to its folder.
///
/// A trial that finished or diverged is recognised by its settings and not repeated; one that failed otherwise is tried
/// again.
///
/// # Errors
/// Where the experiment or one of its jobs is invalid, the folder cannot be written, or a process cannot be started;
/// [`Error::Unfinished`] where another experiment runs in the folder, or [`Options::interrupt`] came. A trial that fails is
/// not an error: it is in [`ExperimentReport::failures`].
pub async fn experiment(
    experiment: &Experiment,
    storage: &Arc<Storage>,
    options: &Options,
) -> Result<ExperimentReport> {
    let output = parse_url(&experiment.output)?;
    let _lock = if options.report_only { None } else { lock::lock(&output)? };
    let store = Store::new(storage, output.clone());
    let mut runner = Runner::new(experiment, &store, options);
    let (selections, complete) = select::select(experiment, &mut runner).await?;
    if complete {
        let seeds = |selection: &Selection| selection.trials(experiment, [selection.selected], &experiment.seeds.0);
        runner.run(select::all_trials(&selections, seeds)?).await?;
    }
    let known = runner.finish();

    let results = results::results(experiment, &selections, &known)?;
    let summary = summary::Summary::new(experiment, &selections, &results);
    let report = report::report(experiment, &summary);
    let written = Outputs::write(async |outputs| {
        let folder = outputs.folder(storage, &output, Others::Kept).await?;
        folder.put_fixed("results.parquet", &results::parquet(&results)?).await?;
        for (name, svg) in report.plots() {
            folder.put_fixed(name, svg.as_bytes()).await?;
        }
        folder.put_fixed("report.md", report.markdown().as_bytes()).await?;
        folder.put_fixed("report.html", report.html().as_bytes()).await
    });
    let ((), outputs) = written.await?;
    let counts = |result: &&TrialResult<'_>| result.selected || !result.record.is_final();
    let failure =
        |result: &TrialResult<'_>| Some(format!("{}: {}", result.trial.name(experiment), result.record.error()?));
    let failures = results.iter().filter(counts).filter_map(failure).collect();
    Ok(ExperimentReport { text: report.markdown(), outputs, failures })
}

impl ExperimentReport {
    /// Fails with the trials that failed, if any.
    pub fn all_finished(&self) -> Result<()> {
        if self.failures.is_empty() {
            return Ok(());
        }
        let trials = if self.failures.len() == 1 { "a trial" } else { "some trials" };
        Err(Error::Unfinished(format!(
            "{trials} failed; the same command tries again what failed, and that only\n{}",
            self.failures.join("\n")
        )))
    }
}
