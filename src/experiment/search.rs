//! Candidates drawn from ranges: at random, or by the tree-structured Parzen estimator (TPE; Bergstra et al.,
//! *Algorithms for Hyper-Parameter Optimization*, NIPS 2011).

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Normal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table as Toml, Value};

use super::settings::{Keys, Settings};
use crate::error::{Result, invalid};

/// Candidates proposed at a time, for each method on each data set. A fixed number, so that what is proposed does not
/// depend on how many trials the machine has room for.
const ROUND: usize = 4;
/// Candidates drawn at random before TPE has enough to learn from.
const RANDOM_START: usize = 8;
/// Of the candidates tried, the share that TPE takes for good.
const GOOD_SHARE: f64 = 0.25;
/// Draws from the good, of which the one that is least like the bad is proposed.
const DRAWS: usize = 24;
/// A point's kernel is at least one part in this many of its range wide.
const MAX_KERNELS: f64 = 100.0;

/// The `[search]` section of an experiment file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Search {
    /// Candidates of each method on each data set.
    #[schemars(range(min = 1))]
    pub budget: usize,
    /// How candidates are drawn.
    #[serde(default)]
    pub sampler: Sampler,
    /// Seeds the draws.
    #[serde(default)]
    pub seed: u64,
    /// Ranges by key of the job: `{ linear = [0, 1] }`, `{ log = [1e-4, 1e-1] }` or `{ choice = ["constant", "product"] }`. Between
    /// two whole numbers, whole numbers are drawn.
    #[serde(default)]
    #[schemars(with = "Keys")]
    pub space: Toml,
}

/// How candidates are drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Sampler {
    /// Independently of one another.
    #[default]
    Random,
    /// Where those that did well are dense and the others are not.
    Tpe,
}

/// Where the values of a key are drawn from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Range {
    /// Numbers from the first to the second.
    Numbers {
        low: f64,
        high: f64,
        /// Whether their logarithms are uniform.
        log: bool,
        /// Whether only whole numbers are drawn.
        whole: bool,
    },
    /// One of these.
    Choice(Vec<Value>),
}

/// A candidate that was tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScoredCandidate<'a> {
    /// Its settings.
    pub(super) settings: &'a Settings,
    /// How well it did, higher is better; none where a trial failed.
    pub(super) score: Option<f64>,
}

impl Range {
    /// Whether a value is a range, and not a section of further keys.
    pub(super) fn is_range(value: &Value) -> bool {
        let Value::Table(table) = value else { return true };
        ["linear", "log", "choice"].iter().any(|kind| matches!(table.get(*kind), Some(Value::Array(_))))
    }

    /// Reads the range of `key`.
    pub(super) fn parse(key: &str, value: &Value) -> Result<Self> {
        let entries = value.as_table().filter(|table| table.len() == 1).and_then(|table| table.iter().next());
        let number = |value: &Value| value.as_float().or(value.as_integer().map(|whole| whole as f64));
        let range = match entries {
            Some((kind, Value::Array(values))) if kind == "choice" && !values.is_empty() => {
                Some(Self::Choice(values.clone()))
            }
            Some((kind, Value::Array(values))) if kind == "linear" || kind == "log" => match values.as_slice() {
                [first, last] => number(first).zip(number(last)).map(|(low, high)| {
                    let whole = first.is_integer() && last.is_integer();
                    Self::Numbers { low, high, log: kind == "log", whole }
                }),
                _ => None,
            },
            _ => None,
        };
        match range {
            Some(Self::Numbers { low, high, log, .. })
                if !(low < high && high.is_finite() && low.is_finite() && (!log || low > 0.0)) =>
            {
                invalid!(
                    "search.space.{key} = {value}: the first number must be below the second{}",
                    if log { ", and above 0" } else { "" }
                )
            }
            Some(range) => Ok(range),
            None => invalid!(
                "search.space.{key} = {value}: give {{ linear = [LOW, HIGH] }}, {{ log = [LOW, HIGH] }} or \
                 {{ choice = [VALUE, …] }}"
            ),
        }
    }

    /// The value at a place from 0 to 1.
    fn at(&self, place: f64) -> Value {
        match self {
            Self::Choice(values) => values[((place * values.len() as f64) as usize).min(values.len() - 1)].clone(),
            Self::Numbers { low, high, .. } => {
                let (from, to) = self.scale();
                let number = self.unscaled(from + place * (to - from));
                match self {
                    Self::Numbers { whole: true, .. } => Value::Integer(number.floor().clamp(*low, *high) as i64),
                    _ => Value::Float(number.clamp(*low, *high)),
                }
            }
        }
    }

    /// The place of a value, from 0 to 1.
    fn place(&self, value: &Value) -> f64 {
        match self {
            Self::Choice(values) => {
                let index = values.iter().position(|known| known == value).unwrap_or_default();
                (index as f64 + 0.5) / values.len() as f64
            }
            Self::Numbers { log, .. } => {
                // A whole number stands for all that is rounded down to it.
                let number =
                    value.as_float().or(value.as_integer().map(|whole| whole as f64 + 0.5)).unwrap_or_default();
                let (from, to) = self.scale();
                let scaled = if *log { number.ln() } else { number };
                ((scaled - from) / (to - from)).clamp(0.0, 1.0)
            }
        }
    }

    /// The ends on the scale on which draws are uniform.
    fn scale(&self) -> (f64, f64) {
        let Self::Numbers { low, high, log, whole } = *self else { return (0.0, 1.0) };
        let high = if whole { high + 1.0 } else { high };
        if log { (low.ln(), high.ln()) } else { (low, high) }
    }

    fn unscaled(&self, scaled: f64) -> f64 {
        if matches!(self, Self::Numbers { log: true, .. }) { scaled.exp() } else { scaled }
    }
}

/// The next candidates after those `tried`, at most [`ROUND`]; none once the budget is spent.
///
/// `name` tells searches of one experiment apart. The same `tried` always gives the same candidates.
pub(super) fn propose(
    search: &Search,
    space: &BTreeMap<String, Range>,
    name: &str,
    tried: &[ScoredCandidate<'_>],
) -> Vec<Settings> {
    let until = (tried.len() + ROUND).min(search.budget);
    let candidate = |index: usize| {
        let seed = blake3::hash(format!("{}\n{name}\n{index}", search.seed).as_bytes());
        let mut rng = ChaCha8Rng::from_seed(*seed.as_bytes());
        let learned = search.sampler == Sampler::Tpe && tried.len() >= RANDOM_START;
        let mut draw = |key: &String, range: &Range| {
            let place = if learned { draw_like_good(key, range, tried, &mut rng) } else { rng.random() };
            (key.clone(), range.at(place))
        };
        space.iter().map(|(key, range)| draw(key, range)).collect()
    };
    (tried.len()..until).map(candidate).collect()
}

/// Of draws from the density of the good candidates, the one whose density there most exceeds that of the others.
fn draw_like_good(key: &String, range: &Range, tried: &[ScoredCandidate<'_>], rng: &mut ChaCha8Rng) -> f64 {
    let mut order: Vec<&ScoredCandidate<'_>> = tried.iter().collect();
    let score = |candidate: &ScoredCandidate<'_>| candidate.score.unwrap_or(f64::NEG_INFINITY);
    order.sort_by(|one, other| score(other).total_cmp(&score(one)));
    let places: Vec<f64> = order.iter().map(|candidate| range.place(&candidate.settings[key])).collect();
    let (good, bad) = places.split_at((GOOD_SHARE * places.len() as f64).ceil() as usize);
    let (good, bad) = (Density::new(range, good), Density::new(range, bad));
    let draws = (0..DRAWS).map(|_| good.draw(rng)).map(|place| (good.at(place) / bad.at(place), place));
    draws.max_by(|one, other| one.0.total_cmp(&other.0)).map_or(0.5, |(_, place)| place)
}

/// A density of places from 0 to 1.
enum Density {
    /// A mixture of the uniform density and a normal kernel (centre, width) at each point, cut off at 0 and 1.
    Kernels(Vec<(f64, f64)>),
    /// The chance of each choice.
    Choices(Vec<f64>),
}

impl Density {
    fn new(range: &Range, points: &[f64]) -> Self {
        match range {
            Range::Choice(values) => {
                let mut counts = vec![1.0; values.len()];
                for point in points {
                    counts[(point * values.len() as f64) as usize] += 1.0;
                }
                let total = (points.len() + values.len()) as f64;
                Self::Choices(counts.into_iter().map(|count| count / total).collect())
            }
            Range::Numbers { .. } => {
                let mut sorted = points.to_vec();
                sorted.sort_unstable_by(f64::total_cmp);
                let narrowest = 1.0 / (1.0 + sorted.len() as f64).min(MAX_KERNELS);
                // A kernel reaches to the farther of its neighbours, the ends of the range among them.
                let kernel = |(at, &point): (usize, &f64)| {
                    let left = point - if at == 0 { 0.0 } else { sorted[at - 1] };
                    let right = sorted.get(at + 1).unwrap_or(&1.0) - point;
                    (point, left.max(right).clamp(narrowest, 1.0))
                };
                Self::Kernels(sorted.iter().enumerate().map(kernel).collect())
            }
        }
    }

    fn at(&self, place: f64) -> f64 {
        match self {
            Self::Choices(chances) => chances[((place * chances.len() as f64) as usize).min(chances.len() - 1)],
            Self::Kernels(kernels) => {
                let cut = |(center, width): &(f64, f64)| {
                    let z = |x: f64| (x - center) / width;
                    (-0.5 * z(place).powi(2)).exp()
                        / (width * (standard_normal_cdf(z(1.0)) - standard_normal_cdf(z(0.0))))
                };
                let sum: f64 = kernels.iter().map(cut).sum();
                (1.0 + sum / (2.0 * std::f64::consts::PI).sqrt()) / (kernels.len() + 1) as f64
            }
        }
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> f64 {
        match self {
            Self::Choices(chances) => {
                let mut left: f64 = rng.random();
                let passed = |chance: &&f64| {
                    left -= **chance;
                    left >= 0.0
                };
                let index = chances.iter().take_while(passed).count().min(chances.len() - 1);
                (index as f64 + 0.5) / chances.len() as f64
            }
            Self::Kernels(kernels) => match kernels.get(rng.random_range(0..=kernels.len())) {
                None => rng.random(),
                Some(&(center, width)) => {
                    let normal = Normal::new(center, width).expect("a width above 0");
                    loop {
                        let place = normal.sample(rng);
                        if (0.0..=1.0).contains(&place) {
                            return place;
                        }
                    }
                }
            },
        }
    }
}

fn standard_normal_cdf(z: f64) -> f64 {
    0.5 * statrs::function::erf::erfc(-z / std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Result<Range> {
        let table: Toml = toml::from_str(&format!("value = {text}")).unwrap();
        Range::parse("key", &table["value"])
    }

    fn search(sampler: Sampler, budget: usize, seed: u64) -> Search {
        Search { budget, sampler, seed, space: Toml::new() }
    }

    #[test]
    fn draws_are_in_their_ranges_and_come_back_to_their_places() {
        let linear = range("{ linear = [-1.0, 3.0] }").unwrap();
        assert_eq!((linear.at(0.0), linear.at(0.5)), (Value::Float(-1.0), Value::Float(1.0)));
        let log = range("{ log = [1e-4, 1e-2] }").unwrap();
        assert!((log.at(0.5).as_float().unwrap() - 1e-3).abs() < 1e-15);
        let whole = range("{ linear = [1, 4] }").unwrap();
        let drawn: Vec<Value> = (0..8).map(|eighth| whole.at(f64::from(eighth) / 8.0)).collect();
        assert_eq!(drawn, [1, 1, 2, 2, 3, 3, 4, 4].map(Value::Integer), "each whole number has the same share");
        assert_eq!(whole.at(1.0), Value::Integer(4));
        let choice = range("{ choice = [\"constant\", \"product\", \"concat\"] }").unwrap();
        assert_eq!(choice.at(0.34), Value::String("product".to_owned()));
        for range in [linear, log, whole, choice] {
            for step in 0..50 {
                let value = range.at(f64::from(step) / 49.0);
                assert_eq!(range.at(range.place(&value)), value, "{range:?}");
            }
        }
    }

    #[test]
    fn ranges_that_are_none_are_named() {
        for text in ["{ log = [0.0, 1.0] }", "{ linear = [2, 1] }", "{ choice = [] }", "{ linear = [1, 2, 3] }", "3"] {
            let error = range(text).unwrap_err().to_string();
            assert!(error.contains("search.space.key"), "{error}");
        }
    }

    /// Densities integrate to 1 (midpoint rule).
    #[test]
    fn densities_are_densities() {
        let numbers = range("{ linear = [0.0, 1.0] }").unwrap();
        for points in [&[][..], &[0.5], &[0.0, 0.02, 0.9], &[0.3; 7]] {
            let density = Density::new(&numbers, points);
            let steps = 20_000;
            let sum: f64 = (0..steps).map(|step| density.at((f64::from(step) + 0.5) / f64::from(steps))).sum();
            assert!((sum / f64::from(steps) - 1.0).abs() < 1e-6, "{points:?}: {sum}");
        }
        let choice = range("{ choice = [1, 2, 3] }").unwrap();
        let density = Density::new(&choice, &[0.5, 0.5, 0.9]);
        assert_eq!([0.1, 0.5, 0.9].map(|place| density.at(place)), [1.0 / 6.0, 3.0 / 6.0, 2.0 / 6.0]);
    }

    /// The loss has its minimum at lr = 1e-3, phi = "product".
    fn best_found(sampler: Sampler, seed: u64) -> f64 {
        let space = BTreeMap::from([
            ("lr".to_owned(), range("{ log = [1e-6, 1.0] }").unwrap()),
            ("phi".to_owned(), range("{ choice = [\"constant\", \"product\", \"concat\", \"prediction\"] }").unwrap()),
        ]);
        let search = search(sampler, 40, seed);
        let loss = |settings: &Settings| {
            let off = settings["lr"].as_float().unwrap().log10() + 3.0;
            off * off + if settings["phi"].as_str() == Some("product") { 0.0 } else { 1.0 }
        };
        let mut tried: Vec<Settings> = Vec::new();
        loop {
            let scored: Vec<ScoredCandidate<'_>> =
                tried.iter().map(|settings| ScoredCandidate { settings, score: Some(-loss(settings)) }).collect();
            let candidates = propose(&search, &space, "x", &scored);
            assert_eq!(candidates, propose(&search, &space, "x", &scored), "proposals are reproducible");
            if candidates.is_empty() {
                break;
            }
            tried.extend(candidates);
        }
        assert_eq!(tried.len(), 40, "the budget is spent, and no more");
        tried.iter().map(loss).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn tpe_finds_better_settings_than_chance() {
        let median = |sampler| {
            let mut found: Vec<f64> = (0..25).map(|seed| best_found(sampler, seed)).collect();
            found.sort_unstable_by(f64::total_cmp);
            found[12]
        };
        let (tpe, random) = (median(Sampler::Tpe), median(Sampler::Random));
        assert!(tpe < 0.5 * random, "TPE {tpe}, random {random}");
    }

    #[test]
    fn candidates_that_fail_are_the_worst() {
        let space = BTreeMap::from([("x".to_owned(), range("{ linear = [0.0, 1.0] }").unwrap())]);
        let tried: Vec<Settings> =
            (0..20).map(|step| Settings::from([("x".to_owned(), Value::Float(f64::from(step) / 19.0))])).collect();
        // Whatever is above 0.5 fails.
        let scored: Vec<ScoredCandidate<'_>> = tried
            .iter()
            .map(|settings| ScoredCandidate { settings, score: settings["x"].as_float().filter(|x| *x < 0.5) })
            .collect();
        let candidates: Vec<Settings> =
            (0..10).flat_map(|seed| propose(&search(Sampler::Tpe, 24, seed), &space, "x", &scored)).collect();
        let low = candidates.iter().filter(|settings| settings["x"].as_float().unwrap() < 0.55).count();
        assert!(low >= 35, "{low} of {} avoid what failed", candidates.len());
    }
}
