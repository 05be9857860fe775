//! The alarm itself: days, in order, beside a reference.

use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::alarm_days::{Day, SQUARES, over_ways, parts};
use crate::inference::{Likelihood, NODES, REACH};
use crate::state::{ClusterSums, DAY_SUMS, DaySums};

/// What an alarm is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// The change of a standardised imbalance that is tolerated.
    pub(super) tolerance: f64,
    /// The chance of a false alarm in [`YEAR`] days.
    pub(super) false_alarms: f64,
    /// How many of the first days are the reference.
    pub(super) reference_days: usize,
}

/// Days for which the false alarms are counted.
const YEAR: f64 = 365.0;

/// The bets of a direction and a sign: how far beyond the shift that is still right, in shifts worth the tolerance.
const STEPS: [f64; 3] = [0.5, 1.0, 2.0];

const SIGNS: [f64; 2] = [1.0, -1.0];

/// How many standard errors of the reference count as its own error.
const ERRORS: f64 = 2.5;

/// The largest standard error of the reference, in shifts worth the tolerance.
const LARGEST_ERROR: f64 = 0.25;

/// The probability with which the spread of the reference's days is larger than is taken for.
const SPREAD_TAIL: f64 = 0.1;

/// Days that a recent change is estimated over.
const RECENT: usize = 7;

/// A level beyond all others, from which a fold goes on.
const HIGHEST: f64 = 1e300;

/// What the reference says of one direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Direction {
    /// The shift of logits that is worth the tolerance.
    pub(super) unit: f64,
    /// The shift that fits the reference best.
    pub(super) shift: f64,
    /// The standard error of the shift.
    pub(super) error: f64,
    /// How many times more than independent rows the days' sums vary, at least 1.
    pub(super) design: f64,
    /// The change of the shift in recent days.
    pub(super) recent: Option<f64>,
}

impl Direction {
    /// Whether the reference is known well enough to compare with, and shifts worth betting on are within reach.
    pub(super) fn is_decided(&self) -> bool {
        let farthest = self.shift.abs() + ERRORS * self.error + (1.0 + STEPS[1]) * self.unit;
        self.error <= LARGEST_ERROR * self.unit && farthest <= REACH
    }
}

/// How far a detector has come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Level {
    /// The mean of what the bets have won; `None` without a bet.
    pub(super) level: Option<f64>,
    /// The place, among all days, of the first day on which the level reached the threshold.
    pub(super) since: Option<usize>,
    /// The direction whose bets have won the most, on that day or on the last.
    pub(super) direction: Option<usize>,
}

/// What the days say.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) reference_days: usize,
    pub(super) days: usize,
    pub(super) threshold: f64,
    /// Of the constant and each element; `None` of one that cannot be watched, since it does not vary.
    pub(super) directions: Vec<Option<Direction>>,
    /// Whether a direction that varies is not known well enough.
    pub(super) is_undecided: bool,
    /// Beside the reference.
    pub(super) reference: Level,
    /// Beside right propensities.
    pub(super) truth: Level,
}

impl Watched {
    /// Folds days, which are in order.
    pub(super) fn new(days: &[Day], settings: &Settings) -> Self {
        let (reference, watched) = days.split_at(settings.reference_days.min(days.len()));
        let threshold = YEAR / settings.false_alarms;
        let mut folded = Self {
            reference_days: reference.len(),
            days: watched.len(),
            threshold,
            directions: Vec::new(),
            is_undecided: true,
            reference: Level::default(),
            truth: Level::default(),
        };
        if reference.len() < settings.reference_days {
            return folded;
        }
        let count = days[0].sums.len() / DAY_SUMS;
        let recent = &watched[watched.len().saturating_sub(RECENT)..];
        let directions = (0..count).map(|k| Reference::new(reference, k).map(|of| of.direction(settings, recent)));
        folded.directions = directions.collect();
        let directions = || folded.directions.iter().enumerate().filter_map(|(k, direction)| Some((k, (*direction)?)));
        folded.is_undecided = directions().any(|(_, direction)| !direction.is_decided());
        let of_reference = directions().filter(|(_, direction)| direction.is_decided()).flat_map(|(k, direction)| {
            Bet::both_ways(k, &direction, direction.shift, direction.unit + ERRORS * direction.error)
        });
        let of_truth = directions()
            .filter(|(_, direction)| (1.0 + STEPS[1]) * direction.unit <= REACH)
            .flat_map(|(k, direction)| Bet::both_ways(k, &direction, 0.0, direction.unit));
        let (of_reference, of_truth) = (of_reference.collect(), of_truth.collect());
        folded.reference = fold(of_reference, watched, settings, reference.len());
        folded.truth = fold(of_truth, watched, settings, reference.len());
        folded
    }
}

/// The sums of one direction over the days of the reference.
struct Reference<'a> {
    days: &'a [Day],
    k: usize,
    count: f64,
    slope: f64,
    likelihood: Likelihood,
    errors: f64,
    variance: f64,
}

fn of_day(day: &Day, k: usize) -> Option<DaySums<'_>> {
    DaySums::each(&day.sums).nth(k)
}

/// The likelihood of some days along a direction.
fn likelihood(days: &[Day], k: usize) -> Likelihood {
    let mut outcomes = 0.0;
    let mut normaliser = [0.0; NODES];
    for sums in days.iter().filter_map(|day| of_day(day, k)) {
        outcomes += sums.outcomes();
        normaliser.iter_mut().zip(sums.normaliser()).for_each(|(total, x)| *total += x);
    }
    Likelihood::new(outcomes, &normaliser)
}

impl<'a> Reference<'a> {
    /// `None` of an element that does not vary, and where every treatment is certain.
    fn new(days: &'a [Day], k: usize) -> Option<Self> {
        let sum = |f: fn(DaySums<'_>) -> f64| days.iter().filter_map(|day| of_day(day, k)).map(f).sum::<f64>();
        let (errors, variance, slope) = (sum(|day| day.errors()), sum(|day| day.variance()), sum(|day| day.slope()));
        let count = days.iter().map(|day| day.count).sum();
        (variance > 0.0 && slope > 0.0).then(|| Self {
            days,
            k,
            count,
            slope,
            likelihood: likelihood(days, k),
            errors,
            variance,
        })
    }

    fn direction(&self, settings: &Settings, recent: &[Day]) -> Direction {
        let unit = settings.tolerance * self.count / self.slope;
        let shift = self.likelihood.best();
        // Errors of sums are those around their mean, which is taken to go with the variance that propensities imply.
        let ratio = self.errors / self.variance;
        let implied = self.likelihood.variance(shift);
        let growth = implied / self.variance;
        let days = self.days.len() as f64;
        let of_days = || self.days.iter().filter_map(|day| of_day(day, self.k));
        let left = |sums: DaySums<'_>| (sums.errors() - ratio * sums.variance()).powi(2);
        let by_day: f64 = of_days().map(left).sum::<f64>() * days / (days - 1.0);
        let scores = of_days().filter(|sums| sums.variance() > 0.0).map(|sums| left(sums) / (growth * sums.variance()));
        let scores: f64 = scores.sum();
        let law = ChiSquared::new(days - 1.0).expect("a reference has at least two days");
        let by_cluster_and_day: f64 = self
            .days
            .iter()
            .filter_map(|day| day.squares.chunks_exact(SQUARES).nth(self.k))
            .map(|squares| squares[0] - 2.0 * ratio * squares[1] + ratio * ratio * squares[2])
            .sum();
        let variance = implied.max(by_day).max(by_cluster_and_day).max(self.by_cluster(ratio));
        Direction {
            unit,
            shift,
            // Of a likelihood that no rows have, nothing is known.
            error: if implied > 0.0 { variance.sqrt() / implied } else { f64::INFINITY },
            design: (by_cluster_and_day / implied).max(scores / law.inverse_cdf(SPREAD_TAIL)).max(1.0),
            recent: (!recent.is_empty()).then(|| likelihood(recent, self.k).best() - shift),
        }
    }

    /// The variance of the sum of errors, by groups of clusters over all days.
    fn by_cluster(&self, ratio: f64) -> f64 {
        let clusters = || self.days.iter().filter_map(|day| Some(day.clusters.as_ref()?.as_sums()));
        let ways = clusters().map(ClusterSums::ways).max().unwrap_or_default();
        let mut cells = std::collections::BTreeMap::<u16, f64>::new();
        for sums in clusters() {
            for (key, cell) in sums.keys.iter().zip(sums.sums.chunks_exact(sums.width())) {
                let [errors, variance] = parts(cell, self.k);
                *cells.entry(*key).or_default() += errors - ratio * variance;
            }
        }
        let of_way = |way: usize| {
            let of_way = || cells.iter().filter(|(key, _)| usize::from(**key) / crate::args::MOST_GROUPS == way);
            let groups = of_way().count() as f64;
            // Of a single group nothing is told.
            let scale = if groups > 1.0 { groups / (groups - 1.0) } else { f64::INFINITY };
            [of_way().map(|(_, left)| left * left).sum::<f64>() * scale]
        };
        let [variance] = over_ways(ways, of_way);
        // A single group leaves no error, or infinite ones: neither is known.
        if ways > 0 && !variance.is_finite() { f64::INFINITY } else { variance }
    }
}

/// A bet that rows are likelier at one shift than at another, which is still right.
#[derive(Debug, Clone, Copy)]
struct Bet {
    k: usize,
    from: f64,
    to: f64,
    design: f64,
}

impl Bet {
    fn both_ways(k: usize, direction: &Direction, around: f64, right: f64) -> Vec<Self> {
        let Direction { unit, design, .. } = *direction;
        let bet = move |sign: f64, step: f64| Self {
            k,
            from: around + sign * right,
            to: around + sign * (right + step * unit),
            design,
        };
        SIGNS.iter().flat_map(|sign| STEPS.map(|step| bet(*sign, step))).collect()
    }
}

/// Folds the days after a reference of `first` days.
fn fold(bets: Vec<Bet>, days: &[Day], settings: &Settings, first: usize) -> Level {
    let count = bets.len() as f64;
    if bets.is_empty() {
        return Level::default();
    }
    let cap = (YEAR * count / settings.false_alarms).ln() / 2.0;
    let mut won = vec![0.0; bets.len()];
    let mut level = Level { level: Some(0.0), ..Level::default() };
    for (place, day) in (first..).zip(days) {
        let mut of_direction: Option<(usize, Likelihood)> = None;
        for (bet, won) in bets.iter().zip(&mut won) {
            if of_direction.as_ref().is_none_or(|(k, _)| *k != bet.k) {
                of_direction = Some((bet.k, likelihood(std::slice::from_ref(day), bet.k)));
            }
            let Some((_, likelihood)) = &of_direction else { continue };
            let factor = (likelihood.at(bet.to) - likelihood.at(bet.from)) / bet.design;
            let factor = if factor.is_nan() { 0.0 } else { factor.min(cap) };
            *won = ((1.0 + *won) * factor.exp()).min(HIGHEST);
        }
        let mean = won.iter().sum::<f64>() / count;
        level.level = Some(mean);
        if level.since.is_none() {
            let largest = bets.iter().zip(&won).max_by(|(_, a), (_, b)| a.total_cmp(b));
            level.direction = largest.map(|(bet, _)| bet.k);
            level.since = (mean >= YEAR / settings.false_alarms).then_some(place);
        }
    }
    level
}
