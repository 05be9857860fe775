//! Experiments: methods × data sets × settings × seeds, each run a child process that trains one model.
//!
//! [`grid`] says what to run, `search` proposes settings, `cell` identifies a run and keeps its record, `run` starts the
//! processes, while `lock` keeps others out of the folder; `results` writes the table of all runs, and `summary` →
//! `report` what they say. [`experiment()`] joins them.

mod cell;
mod document;
pub mod grid;
mod lock;
mod plot;
mod report;
mod results;
mod run;
mod search;
mod statistics;
mod summary;

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;
use url::Url;

use self::cell::{Cell, Record, Store};
use self::grid::{Experiment, Settings};
use self::run::Runner;
use self::search::Trial;
use crate::error::{Error, Result};
use crate::job::{Metric, json_schema_of};
use crate::output::Outputs;
use crate::storage::{Storage, child, parse_url};

/// How an experiment is run, which changes nothing of what it finds.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `counterweight` program that trains.
    pub program: PathBuf,
    /// Arguments of that program that hold for every run.
    pub arguments: Vec<String>,
    /// Runs nothing: tells what is known of the runs that are done.
    pub report_only: bool,
    /// Stops the runs under way; those that are done stay done.
    pub interrupt: CancellationToken,
}

/// What an experiment found.
#[derive(Debug)]
pub struct Findings {
    /// The report, in Markdown.
    pub text: String,
    /// What was written.
    pub outputs: Vec<Url>,
    /// Runs that failed, each with its error.
    pub failures: Vec<String>,
}

/// The settings tried for one method on one data set, and which were chosen.
#[derive(Debug)]
struct Tuning {
    data: usize,
    method: usize,
    candidates: Vec<Settings>,
    /// The chosen candidate's index.
    selected: usize,
}

/// The JSON Schema of an experiment file.
pub fn json_schema() -> serde_json::Value {
    json_schema_of::<Experiment>("Counterweight experiment")
}

/// Runs what of `experiment` is not done yet, and writes `results.parquet`, `report.md` and `report.html` to its folder.
///
/// A run that is done is found again by its settings and not repeated, one that diverged too; one that failed otherwise is
/// tried again.
///
/// # Errors
/// Where the experiment or one of its jobs is not sound, the folder cannot be written, or a program cannot be started;
/// [`Error::Unfinished`] where another experiment runs in the folder, or `interrupt` came. A run that fails is no error: it
/// is in [`Findings::failures`].
pub async fn experiment(experiment: &Experiment, storage: &Storage, options: &Options) -> Result<Findings> {
    let output = parse_url(&experiment.output)?;
    let _lock = if options.report_only { None } else { lock::lock(&output)? };
    let store = Store::new(storage, output.clone());
    let mut runner = Runner::new(experiment, &store, options)?;
    let (tunings, complete) = tune(experiment, &mut runner).await?;
    if complete {
        let seeds = |tuning: &Tuning| tuning.cells(experiment, [tuning.selected], &experiment.seeds.0);
        runner.run(cells(&tunings, seeds)?).await?;
    }
    let known = runner.finish();

    let runs = runs(experiment, &tunings, &known)?;
    let summary = summary::Summary::new(experiment, &tunings, &runs);
    let report = report::report(experiment, &summary);
    let mut outputs = Outputs::default();
    let staged = async {
        outputs.put(storage, &child(&output, "results.parquet")?, &results::parquet(&runs)?).await?;
        for (name, svg) in report.plots() {
            outputs.put(storage, &child(&output, name)?, svg.as_bytes()).await?;
        }
        outputs.put(storage, &child(&output, "report.md")?, report.markdown().as_bytes()).await?;
        outputs.put(storage, &child(&output, "report.html")?, report.html().as_bytes()).await
    };
    if let Err(error) = staged.await {
        outputs.abort().await;
        return Err(error);
    }
    // That a candidate diverges is a finding: it is not chosen.
    let told = |run: &&Run<'_>| run.selected || !run.record.is_final();
    let failure = |run: &Run<'_>| Some(format!("{}: {}", run.cell.name(experiment), run.record.error()?));
    let failures = runs.iter().filter(told).filter_map(failure);
    Ok(Findings { text: report.markdown(), failures: failures.collect(), outputs: outputs.commit().await? })
}

/// A run with its record.
#[derive(Debug)]
struct Run<'a> {
    data: &'a str,
    method: &'a str,
    /// Whether its settings are those chosen for the method on the data set.
    selected: bool,
    cell: Cell,
    record: &'a Record,
}

impl Tuning {
    /// The runs of those candidates with those seeds.
    fn cells(
        &self,
        experiment: &Experiment,
        candidates: impl IntoIterator<Item = usize>,
        seeds: &[u64],
    ) -> Result<Vec<Cell>> {
        let mut cells = Vec::new();
        for candidate in candidates {
            for &seed in seeds {
                let settings = &self.candidates[candidate];
                cells.push(Cell::new(experiment, (self.data, self.method), (candidate, settings), seed)?);
            }
        }
        Ok(cells)
    }
}

fn cells(tunings: &[Tuning], cells: impl Fn(&Tuning) -> Result<Vec<Cell>>) -> Result<Vec<Cell>> {
    Ok(tunings.iter().map(cells).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Tries settings for every method on every data set and chooses, by the validation metric alone; a method with a single
/// candidate has nothing to choose.
///
/// Also says whether all was tried that there is to try: with [`Options::report_only`] some may be missing.
async fn tune(experiment: &Experiment, runner: &mut Runner<'_>) -> Result<(Vec<Tuning>, bool)> {
    let mut tunings = Vec::new();
    for data in 0..experiment.data.len() {
        for method in 0..experiment.method.len() {
            tunings.push(Tuning { data, method, candidates: Vec::new(), selected: 0 });
        }
    }
    let seeds = experiment.select.seeds.as_ref().unwrap_or(&experiment.seeds);
    loop {
        let mut proposed = false;
        for tuning in &mut tunings {
            let trials = trials(experiment, tuning, runner.known())?;
            let names = (&*experiment.data[tuning.data].name, &experiment.method[tuning.method]);
            let candidates = experiment.propose(names, &trials)?;
            proposed |= !candidates.is_empty();
            tuning.candidates.extend(candidates);
        }
        if !proposed {
            break;
        }
        let tried = |tuning: &Tuning| match tuning.candidates.len() {
            1 => Ok(Vec::new()),
            count => tuning.cells(experiment, 0..count, &seeds.0),
        };
        if !runner.run(cells(&tunings, tried)?).await? {
            return Ok((tunings, false));
        }
    }
    for tuning in &mut tunings {
        let trials = trials(experiment, tuning, runner.known())?;
        let scored = trials.iter().enumerate().filter_map(|(index, trial)| Some((trial.score?, index)));
        // Of equals the first.
        let best = scored.rev().max_by(|one, other| one.0.total_cmp(&other.0));
        tuning.selected = best.map_or(0, |(_, index)| index);
    }
    Ok((tunings, true))
}

/// The candidates with their scores: the mean of the validation metric over the seeds, higher is better; none where a
/// run failed or is missing.
fn trials<'a>(experiment: &Experiment, tuning: &'a Tuning, known: &BTreeMap<String, Record>) -> Result<Vec<Trial<'a>>> {
    let seeds = experiment.select.seeds.as_ref().unwrap_or(&experiment.seeds);
    let sign = if higher_is_better(experiment.select.metric) { 1.0 } else { -1.0 };
    let score = |cell: &Cell| known.get(&cell.id)?.finished()?.training.validation.get(experiment.select.metric);
    let trial = |(index, settings): (usize, &'a Settings)| {
        let cells = tuning.cells(experiment, [index], &seeds.0)?;
        let scores: Option<Vec<f64>> = cells.iter().map(score).collect();
        Ok(Trial { settings, score: scores.map(|scores| sign * statistics::mean(&scores)) })
    };
    tuning.candidates.iter().enumerate().map(trial).collect()
}

/// Whether a larger value of the metric is a better one.
fn higher_is_better(metric: Metric) -> bool {
    crate::train::evaluation::is_better(metric, Some(1.0), Some(0.0))
}

/// Every run of which there is a record, by data set, method, candidate and seed.
fn runs<'a>(
    experiment: &'a Experiment,
    tunings: &[Tuning],
    known: &'a BTreeMap<String, Record>,
) -> Result<Vec<Run<'a>>> {
    let mut seeds = experiment.seeds.0.clone();
    seeds.extend(experiment.select.seeds.iter().flat_map(|seeds| &seeds.0));
    seeds.sort_unstable();
    seeds.dedup();
    let mut runs = Vec::new();
    for tuning in tunings {
        for cell in tuning.cells(experiment, 0..tuning.candidates.len(), &seeds)? {
            let Some(record) = known.get(&cell.id) else { continue };
            runs.push(Run {
                data: &experiment.data[cell.data].name,
                method: &experiment.method[cell.method].name,
                selected: cell.candidate == tuning.selected,
                cell,
                record,
            });
        }
    }
    Ok(runs)
}

impl Findings {
    /// Fails with the runs that failed, if any.
    pub fn all_finished(&self) -> Result<()> {
        if self.failures.is_empty() {
            return Ok(());
        }
        let runs = if self.failures.len() == 1 { "a run" } else { "some runs" };
        Err(Error::Unfinished(format!(
            "{runs} failed; the same command tries again what failed, and that only\n{}",
            self.failures.join("\n")
        )))
    }
}
