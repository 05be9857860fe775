//! Which of its candidates each method uses on each data set: selected by the validation metric alone.

use std::collections::BTreeMap;

use super::file::Experiment;
use super::record::Record;
use super::run::Runner;
use super::search::ScoredCandidate;
use super::settings::Settings;
use super::statistics::mean;
use super::trial::Trial;
use crate::error::Result;
use crate::job::Metric;

/// The candidates of one method on one data set.
#[derive(Debug)]
pub(super) struct Selection {
    /// Index into [`Experiment::data`].
    pub(super) data: usize,
    /// Index into [`Experiment::method`].
    pub(super) method: usize,
    /// All that were tried.
    pub(super) candidates: Vec<Settings>,
    /// The index of the one that is used.
    pub(super) selected: usize,
}

impl Selection {
    /// The trials of those candidates with those seeds.
    pub(super) fn trials(
        &self,
        experiment: &Experiment,
        candidates: impl IntoIterator<Item = usize>,
        seeds: &[u64],
    ) -> Result<Vec<Trial>> {
        let mut trials = Vec::new();
        for candidate in candidates {
            for &seed in seeds {
                let settings = &self.candidates[candidate];
                trials.push(Trial::new(experiment, (self.data, self.method), (candidate, settings), seed)?);
            }
        }
        Ok(trials)
    }

    /// The candidates with their scores: the mean of the validation metric over the seeds, higher is better; none where a
    /// trial failed or is missing.
    fn scored(&self, experiment: &Experiment, known: &BTreeMap<String, Record>) -> Result<Vec<ScoredCandidate<'_>>> {
        let metric = experiment.select.metric;
        let sign = if higher_is_better(metric) { 1.0 } else { -1.0 };
        let value = |trial: &Trial| known.get(&trial.id)?.finished()?.training.validation.get(metric);
        let scored = |(index, settings)| {
            let trials = self.trials(experiment, [index], selection_seeds(experiment))?;
            let values: Option<Vec<f64>> = trials.iter().map(value).collect();
            Ok(ScoredCandidate { settings, score: values.map(|values| sign * mean(&values)) })
        };
        self.candidates.iter().enumerate().map(scored).collect()
    }
}

/// Tries candidates for every method on every data set and selects one of each; a method with a single candidate has
/// nothing to select from.
///
/// Also says whether all was tried that there is to try: with [`Options::report_only`](super::Options::report_only) some
/// may be missing.
pub(super) async fn select(experiment: &Experiment, runner: &mut Runner<'_>) -> Result<(Vec<Selection>, bool)> {
    let mut selections = Vec::new();
    for data in 0..experiment.data.len() {
        for method in 0..experiment.method.len() {
            selections.push(Selection { data, method, candidates: Vec::new(), selected: 0 });
        }
    }
    loop {
        let mut proposed = false;
        for selection in &mut selections {
            let tried = selection.scored(experiment, runner.known())?;
            let names = (&*experiment.data[selection.data].name, &experiment.method[selection.method]);
            let candidates = experiment.propose(names, &tried)?;
            proposed |= !candidates.is_empty();
            selection.candidates.extend(candidates);
        }
        if !proposed {
            break;
        }
        let trials = all_trials(&selections, |selection| match selection.candidates.len() {
            1 => Ok(Vec::new()),
            count => selection.trials(experiment, 0..count, selection_seeds(experiment)),
        });
        if !runner.run(trials?).await? {
            return Ok((selections, false));
        }
    }
    for selection in &mut selections {
        let scored = selection.scored(experiment, runner.known())?;
        let scored = scored.iter().enumerate().filter_map(|(index, candidate)| Some((candidate.score?, index)));
        // Of equals the first.
        let best = scored.rev().max_by(|one, other| one.0.total_cmp(&other.0));
        selection.selected = best.map_or(0, |(_, index)| index);
    }
    Ok((selections, true))
}

/// What `trials` gives of every selection.
pub(super) fn all_trials(
    selections: &[Selection],
    trials: impl Fn(&Selection) -> Result<Vec<Trial>>,
) -> Result<Vec<Trial>> {
    Ok(selections.iter().map(trials).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The seeds that candidates are tried with.
fn selection_seeds(experiment: &Experiment) -> &[u64] {
    &experiment.select.seeds.as_ref().unwrap_or(&experiment.seeds).0
}

/// Whether a larger value of the metric is a better one.
pub(super) fn higher_is_better(metric: Metric) -> bool {
    crate::model::is_better(metric, Some(1.0), Some(0.0))
}
