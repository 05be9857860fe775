//! What the trials of an experiment say: figures over seeds, and each method against the baseline.

use std::collections::BTreeMap;

use super::file::Experiment;
use super::record::Finished;
use super::results::TrialResult;
use super::select::{Selection, higher_is_better};
use super::settings::Settings;
use super::statistics::{mean, paired_t_test, signed_rank_test, standard_deviation};
use crate::job::{Metric, Split};
use crate::model::{EpochRecord, RankedUsers};

/// What the trials say, data set by data set.
#[derive(Debug)]
pub(super) struct Summary<'a> {
    /// In the order of the experiment file.
    pub(super) data: Vec<DataSummary<'a>>,
    /// Trials that failed: what they were, and the error.
    pub(super) failures: Vec<(String, &'a str)>,
    /// Trials that have ended.
    pub(super) trials: usize,
}

/// What the trials on one data set say.
#[derive(Debug)]
pub(super) struct DataSummary<'a> {
    /// The data set's name.
    pub(super) name: &'a str,
    /// K of Recall@K and NDCG@K; none where trials differ in it.
    pub(super) k: Option<u64>,
    /// Whether the losses of all trials have the same φ. Where they have not, [`Metric::Bmse`] is no figure to compare.
    pub(super) same_phi: bool,
    /// The users that Recall@K and NDCG@K are means over, by split, of all trials together.
    pub(super) ranked: BTreeMap<Split, RankedUsers>,
    /// Whether metrics are of test rows; else there are none, and they are of the validation rows.
    pub(super) tested: bool,
    /// In the order of the experiment file.
    pub(super) methods: Vec<MethodSummary<'a>>,
}

/// What the trials of a method with its selected settings say.
#[derive(Debug)]
pub(super) struct MethodSummary<'a> {
    /// The method's name.
    pub(super) name: &'a str,
    /// Candidates tried.
    pub(super) candidates: usize,
    /// The settings of the one selected.
    pub(super) settings: Settings,
    /// Finished trials by seed.
    pub(super) trials: BTreeMap<u64, &'a Finished>,
    /// One for each of the experiment's metrics.
    pub(super) figures: Vec<Figure>,
    /// Against the baseline, one for each metric; empty for the baseline itself.
    pub(super) against: Vec<Option<Comparison>>,
}

/// A metric over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figure {
    /// Seeds with a value.
    pub(super) n: usize,
    /// Their mean; NaN where there is none.
    pub(super) mean: f64,
    /// Their standard deviation.
    pub(super) deviation: Option<f64>,
    /// Place among the methods by mean, from 1: equals share one. 0 where methods are not compared by it.
    pub(super) place: usize,
}

/// A metric of a method minus that of the baseline, paired by seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Comparison {
    /// Seeds that both have.
    pub(super) n: usize,
    /// Mean of the differences.
    pub(super) mean: f64,
    /// Their standard deviation.
    pub(super) deviation: Option<f64>,
    /// The mean difference over the baseline's mean, the improvement positive.
    pub(super) improvement: f64,
    /// Seeds on which the method is better.
    pub(super) wins: usize,
    /// p-value of a paired t-test.
    pub(super) t_test: Option<f64>,
    /// p-value of a signed-rank test.
    pub(super) signed_rank: Option<f64>,
}

impl<'a> Summary<'a> {
    pub(super) fn new(experiment: &'a Experiment, selections: &[Selection], results: &'a [TrialResult<'a>]) -> Self {
        let data = experiment.data.iter().enumerate().map(|(index, data)| {
            let on: Vec<&TrialResult<'_>> =
                results.iter().filter(|result| result.trial.data == index && result.selected).collect();
            let selections = selections.iter().filter(|selection| selection.data == index);
            let methods = selections.map(|selection| MethodSummary::new(experiment, selection, &on)).collect();
            DataSummary::new(experiment, &data.name, methods, &on)
        });
        let failed = |result: &'a TrialResult<'a>| Some((result.trial.name(experiment), result.record.error()?));
        Self { data: data.collect(), failures: results.iter().filter_map(failed).collect(), trials: results.len() }
    }
}

impl<'a> DataSummary<'a> {
    fn new(
        experiment: &Experiment,
        name: &'a str,
        mut methods: Vec<MethodSummary<'a>>,
        results: &[&'a TrialResult<'a>],
    ) -> Self {
        let same_phi = common(results, "train.loss.phi").is_some();
        let is_compared = |metric: Metric| metric != Metric::Bmse || same_phi;
        for (at, &metric) in experiment.metrics.iter().enumerate().filter(|(_, metric)| is_compared(**metric)) {
            let sign = if higher_is_better(metric) { 1.0 } else { -1.0 };
            let means: Vec<f64> = methods.iter().map(|method| sign * method.figures[at].mean).collect();
            for method in &mut methods {
                let figure = &mut method.figures[at];
                figure.place = 1 + means.iter().filter(|other| **other > sign * figure.mean).count();
            }
        }
        let baseline = methods.iter().position(|method| Some(method.name) == experiment.baseline.as_deref());
        if let Some(baseline) = baseline {
            let baseline_trials = methods[baseline].trials.clone();
            for (_, method) in methods.iter_mut().enumerate().filter(|(at, _)| *at != baseline) {
                let against = |metric: &Metric| {
                    is_compared(*metric).then(|| compare(*metric, &method.trials, &baseline_trials)).flatten()
                };
                method.against = experiment.metrics.iter().map(against).collect();
            }
        }
        let trials = || methods.iter().flat_map(|method| method.trials.values());
        let tested = trials().any(|trial| trial.training.test.is_some());
        let mut ranked: BTreeMap<Split, RankedUsers> = BTreeMap::new();
        for (split, users) in trials().flat_map(|trial| &trial.training.ranked) {
            let sum = ranked.entry(*split).or_default();
            *sum = sum.with(*users);
        }
        let k = common(results, "train.evaluation.k").and_then(serde_json::Value::as_u64);
        Self { name, k, same_phi, ranked, tested, methods }
    }
}

/// The value of a key of the job, where all trials have the same.
fn common<'a>(results: &[&'a TrialResult<'a>], key: &str) -> Option<&'a serde_json::Value> {
    let mut values = results.iter().filter_map(|result| result.trial.settings.get(key));
    values.next().filter(|value| values.all(|other| other == *value))
}

impl<'a> MethodSummary<'a> {
    fn new(experiment: &'a Experiment, selection: &Selection, results: &[&'a TrialResult<'a>]) -> Self {
        let trials: BTreeMap<u64, &Finished> = results
            .iter()
            .filter(|result| result.trial.method == selection.method && experiment.seeds.0.contains(&result.trial.seed))
            .filter_map(|result| Some((result.trial.seed, result.record.finished()?)))
            .collect();
        let figure = |metric: &Metric| {
            let values: Vec<f64> = trials.values().filter_map(|trial| value(*metric, trial)).collect();
            Figure { n: values.len(), mean: mean(&values), deviation: standard_deviation(&values), place: 0 }
        };
        Self {
            name: &experiment.method[selection.method].name,
            candidates: selection.candidates.len(),
            settings: selection.candidates.get(selection.selected).cloned().unwrap_or_default(),
            figures: experiment.metrics.iter().map(figure).collect(),
            against: Vec::new(),
            trials,
        }
    }

    /// The mean over seeds, and over the members of ensembles, of a validation metric after each epoch, until the first of
    /// them stops.
    pub(super) fn curve(&self, metric: Metric) -> Vec<(f64, f64)> {
        let members = self.trials.values().flat_map(|trial| &trial.training.members);
        let histories: Vec<&[EpochRecord]> = members.map(|member| &*member.history).collect();
        let epochs = histories.iter().map(|history| history.len()).min().unwrap_or_default();
        let epoch = |at: usize| {
            let values: Option<Vec<f64>> = histories.iter().map(|history| history[at].validation.get(metric)).collect();
            Some(((at + 1) as f64, mean(&values?)))
        };
        (0..epochs).filter_map(epoch).collect()
    }
}

/// The metric of a trial: on the test rows, or on the validation rows where there are no others. BMSE is of the training
/// population, whichever rows the rest is of.
fn value(metric: Metric, trial: &Finished) -> Option<f64> {
    let training = &trial.training;
    match metric {
        Metric::Bmse | Metric::BmseConstant | Metric::BmsePrediction => training.validation.get(metric),
        _ => training.test.as_ref().unwrap_or(&training.validation).get(metric),
    }
}

fn compare(
    metric: Metric,
    trials: &BTreeMap<u64, &Finished>,
    baseline: &BTreeMap<u64, &Finished>,
) -> Option<Comparison> {
    let pair = |(seed, trial): (&u64, &&Finished)| Some((value(metric, trial)?, value(metric, baseline.get(seed)?)?));
    let pairs: Vec<(f64, f64)> = trials.iter().filter_map(pair).collect();
    let differences: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours - theirs).collect();
    let sign = if higher_is_better(metric) { 1.0 } else { -1.0 };
    let baseline_mean = mean(&pairs.iter().map(|(_, theirs)| *theirs).collect::<Vec<_>>());
    (!pairs.is_empty()).then(|| Comparison {
        n: pairs.len(),
        mean: mean(&differences),
        deviation: standard_deviation(&differences),
        improvement: sign * mean(&differences) / baseline_mean,
        wins: differences.iter().filter(|difference| sign * **difference > 0.0).count(),
        t_test: paired_t_test(&differences),
        signed_rank: signed_rank_test(&differences),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::Metrics;
    use crate::model::Stop;
    use crate::model::{DataRecord, MemberRecord, TrainingRecord};

    /// A trial whose AUC is `auc` on the test rows and `history` on the validation rows, epoch by epoch.
    fn trial(auc: f64, bmse: f64, history: &[f64]) -> Finished {
        let metrics = |auc: f64| Metrics { auc: Some(auc), bmse: Some(bmse), ..Metrics::default() };
        let epoch = |(at, auc): (usize, &f64)| EpochRecord {
            epoch: at + 1,
            seconds: 1.0,
            losses: BTreeMap::new(),
            gradient_norms: BTreeMap::new(),
            lambda: 0.0,
            optimum: None,
            timing: None,
            validation: metrics(*auc),
        };
        let training = TrainingRecord {
            device: "cpu".to_owned(),
            stop: Stop::Epochs,
            members: vec![MemberRecord { best_epoch: 1, history: history.iter().enumerate().map(epoch).collect() }],
            validation: metrics(0.5),
            test: Some(Metrics { auc: Some(auc), ..Metrics::default() }),
            ranked: BTreeMap::new(),
        };
        Finished { data: DataRecord::default(), training }
    }

    #[test]
    fn differences_are_paired_by_seed() {
        let ours: Vec<Finished> = [0.74, 0.78, 0.80].iter().map(|auc| trial(*auc, 0.2, &[])).collect();
        let theirs: Vec<Finished> = [0.75, 0.70, 0.60].iter().map(|auc| trial(*auc, 0.4, &[])).collect();
        // Seed 1 is ours alone, seed 4 theirs.
        let ours = BTreeMap::from([(1, &ours[0]), (2, &ours[1]), (3, &ours[2])]);
        let theirs = BTreeMap::from([(2, &theirs[0]), (3, &theirs[1]), (4, &theirs[2])]);
        let auc = compare(Metric::Auc, &ours, &theirs).unwrap();
        assert_eq!((auc.n, auc.wins), (2, 2));
        assert!((auc.mean - (0.03 + 0.10) / 2.0).abs() < 1e-12);
        assert!((auc.improvement - 0.065 / 0.725).abs() < 1e-12);
        assert!((auc.deviation.unwrap() - 0.07 / 2.0_f64.sqrt()).abs() < 1e-12);
        let bmse = compare(Metric::Bmse, &ours, &theirs).unwrap();
        assert_eq!((bmse.wins, bmse.improvement), (2, 0.5), "a lower BMSE is better");
        assert_eq!(compare(Metric::Recall, &ours, &theirs), None);
    }

    #[test]
    fn a_curve_ends_with_the_first_seed() {
        let trials =
            [trial(0.7, 0.1, &[0.5, 0.6, 0.7, 0.8]), trial(0.7, 0.1, &[0.7, 0.8]), trial(0.7, 0.1, &[0.6, 0.7, 0.9])];
        let method = MethodSummary {
            name: "x",
            candidates: 1,
            settings: Settings::new(),
            trials: (0..).zip(&trials).collect(),
            figures: Vec::new(),
            against: Vec::new(),
        };
        let curve = method.curve(Metric::Auc);
        let expected = [(1.0, 0.6), (2.0, 0.7)];
        assert_eq!(curve.len(), expected.len(), "{curve:?}");
        for (point, expected) in curve.iter().zip(expected) {
            assert!(point.0 == expected.0 && (point.1 - expected.1).abs() < 1e-12, "{curve:?}");
        }
    }
}
