//! The standardised imbalance, of the treated rows alone or of both arms.

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};
use datafusion_common::Result;

use crate::args::{self, Call, Rows, Spec};
use crate::inference::{Cumulants, Spread, holm, student_quantile, tail_probability};
use crate::results::{counts, list_type, lists, numbers, struct_fields, structs};
use crate::state::{ClusterSums, Effect, EffectTerms, Effects, GroupEffects, State};
use crate::udaf::Function;

/// The weight of a row, less what it is on average if the propensity is right: `h·(o − p)` with h a function of p.
pub(super) trait Arm: Debug + PartialEq + Eq + Hash + Send + Sync + 'static {
    const SPEC: &'static Spec;

    /// A query, and what it gives.
    const EXAMPLE: &'static str;

    /// The functions to look at next.
    const RELATED: &'static [&'static str];

    /// `h·(o − p)`
    fn error(o: f64, p: f64) -> f64;

    /// h
    fn scale(p: f64) -> f64;
}

/// The aggregate that gives the standardised imbalance of an arm.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct StandardisedImbalance<A>(PhantomData<A>);

impl<A: Arm> Function for StandardisedImbalance<A> {
    const SPEC: &'static Spec = A::SPEC;

    const EXAMPLE: &'static str = A::EXAMPLE;

    const RELATED: &'static [&'static str] = A::RELATED;

    type State = Effects;

    fn terms(rows: &Rows<'_>, _call: &Call) -> EffectTerms {
        let errors = args::map2(rows.treated(), rows.propensity(), A::error);
        let certain = |p: f64| p == 0.0 || p == 1.0;
        // With h = scale(p): E[(h(o − p))ⁱ]. Of a treatment that is certain, its error is taken for its deviation.
        let moment = |i: i32, of: fn(f64) -> f64| -> Vec<f64> {
            let certainly = |a: f64| if i == 3 { 0.0 } else { a.powi(i) };
            let of = |a, p| if certain(p) { certainly(a) } else { A::scale(p).powi(i) * p * (1.0 - p) * of(p) };
            args::map2(&errors, rows.propensity(), of)
        };
        let bound = |of: fn(f64) -> f64| -> Vec<f64> {
            args::map2(&errors, rows.propensity(), |a, p| if certain(p) { a.abs() } else { A::scale(p) * of(p) })
        };
        let moments = [moment(2, |_| 1.0), moment(3, |p| 1.0 - 2.0 * p), moment(4, |p| 1.0 - 3.0 * p * (1.0 - p))];
        let bounds = [bound(|p| 1.0 - p), bound(|p| p)];
        EffectTerms { errors, moments, bounds }
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Struct(imbalance_fields())
    }

    fn values(state: &Effects, _call: &Call) -> Result<ArrayRef> {
        let groups: Vec<_> = (0..state.groups()).map(|group| state.get(group).map(Imbalance::new)).collect();
        let list = |f: &dyn Fn(&Element) -> Option<f64>| {
            lists(groups.iter().map(|group| Some(group.as_ref()?.elements.iter().map(f).collect::<Vec<_>>())))
        };
        let columns = vec![
            counts(groups.iter().map(|group| Some(group.as_ref()?.n))),
            list(&|element| element.estimate),
            list(&|element| Some(element.spread?.error())),
            list(&|element| element.bound(-1.0)),
            list(&|element| element.bound(1.0)),
            list(&|element| Some(element.spread?.degrees)),
            lists(groups.iter().map(|group| Some(group.as_ref()?.p_values.iter().copied()))),
            counts(groups.iter().map(|group| group.as_ref()?.clusters)),
            numbers(groups.iter().map(|group| group.as_ref()?.largest_share)),
        ];
        Ok(structs(imbalance_fields(), columns, groups.iter().map(Option::is_some).collect()))
    }
}

pub(super) fn imbalance_fields() -> Fields {
    struct_fields([
        ("n", DataType::UInt64),
        ("estimate", list_type()),
        ("std_error", list_type()),
        ("lower", list_type()),
        ("upper", list_type()),
        ("degrees", list_type()),
        ("p_value", list_type()),
        ("clusters", DataType::UInt64),
        ("largest_share", DataType::Float64),
    ])
}

/// The level of the intervals.
pub(super) const LEVEL: f64 = 0.95;

struct Imbalance {
    n: u64,
    /// The constant, and the elements of φ.
    elements: Vec<Element>,
    p_values: Vec<Option<f64>>,
    clusters: Option<u64>,
    largest_share: Option<f64>,
}

struct Element {
    /// `None` for an element that does not vary.
    estimate: Option<f64>,
    spread: Option<Spread>,
}

impl Element {
    fn bound(&self, sign: f64) -> Option<f64> {
        let spread = self.spread?;
        Some(self.estimate? + sign * student_quantile((1.0 - LEVEL) / 2.0, spread.degrees) * spread.error())
    }
}

impl Imbalance {
    fn new(group: GroupEffects<'_>) -> Self {
        let GroupEffects { count, effects, clusters } = &group;
        let element = |(k, effect): (usize, &Effect)| {
            let figures = Figures::new(effect, k == 0)?;
            let spread = match clusters {
                None => figures.independent(),
                Some(clusters) => {
                    clusters.spread(|sums| estimate(sums, k)).map(|spread| spread.at_least(figures.implied))
                }
            };
            Some((figures, spread))
        };
        let figures: Vec<_> = effects.iter().enumerate().map(element).collect();
        let elements = figures.iter().map(|figures| Element {
            estimate: figures.as_ref().map(|(figures, _)| figures.estimate),
            spread: figures.as_ref().and_then(|(_, spread)| *spread),
        });
        let p_values: Vec<_> = figures.iter().map(|figures| Some(figures.as_ref()?.0.p_value)).collect();
        Self {
            n: *count,
            elements: elements.collect(),
            p_values: holm(&p_values),
            clusters: clusters.map(ClusterSums::count),
            largest_share: clusters.and_then(largest_share),
        }
    }
}

/// The largest share that one group of clusters has in the variance that is implied for the constant.
fn largest_share(clusters: ClusterSums<'_>) -> Option<f64> {
    let implied = |sums: &[f64]| sums[2];
    let total: f64 = clusters.of_way(0).map(implied).sum();
    let largest = (0..clusters.ways().min(2)).flat_map(|way| clusters.of_way(way)).map(implied).fold(0.0, f64::max);
    (total > 0.0).then(|| largest / total)
}

/// What rounding leaves of a variance that should be 0, of what it is around another origin.
const ROUNDING: f64 = 1e-13;

/// The standardised imbalance of the constant or an element of φ, of rows with these sums; NaN of an element that does not
/// vary.
fn estimate(sums: &[f64], element: usize) -> f64 {
    let (n, errors) = (sums[0], sums[1]);
    match element {
        0 => errors / n,
        k => {
            let [products, first, second] = [0, 1, 2].map(|at| sums[3 * k + at] / n);
            let variance = second - first * first;
            match variance > ROUNDING * second {
                true => (products - errors / n * first) / variance.sqrt(),
                false => f64::NAN,
            }
        }
    }
}

/// The figures of one element.
struct Figures {
    n: f64,
    estimate: f64,
    /// The variance of the estimate, if treatments are drawn with the propensities.
    implied: f64,
    /// The variance of the estimate over samples of independent rows; infinite for a single row.
    measured: f64,
    /// Degrees of freedom of either, of independent rows.
    degrees: f64,
    /// A bound of the probability of an imbalance as far from 0, if treatments are drawn with the propensities.
    p_value: f64,
}

impl Figures {
    /// `None` for an element of φ that does not vary.
    fn new(effect: &Effect, is_constant: bool) -> Option<Self> {
        let n = effect.powers(0);
        // Of the constant, y is 1.
        let of = |sum: &dyn Fn(usize) -> f64, j: usize| sum(if is_constant { 0 } else { j });
        let variance = match is_constant {
            true => 1.0,
            false => effect.powers(2) / n,
        };
        if variance.is_nan() || variance <= ROUNDING * effect.unrounded / n {
            return None;
        }
        let scale = variance.sqrt();
        let errors = |i: usize, j: usize| of(&|j| effect.errors(i, j), j) / scale.powi(j as i32);
        let moments = |i: usize, j: usize| of(&|j| effect.moments(i, j), j) / scale.powi(j as i32);
        let estimate = errors(1, 1) / n;
        let squares = match is_constant {
            true => effect.errors(2, 0) - n * estimate * estimate,
            false => {
                // Of the influence (a − ā)·z − θ·(z² + 1)/2 of a row, z its distance to the mean in standard deviations.
                let mean = effect.errors(1, 0) / n;
                let powers = |j: usize| effect.powers(j) / scale.powi(j as i32);
                let products = errors(2, 2) - 2.0 * mean * errors(1, 2) + mean * mean * n;
                let with_square = errors(1, 3) - mean * powers(3);
                products - estimate * with_square + estimate * estimate / 4.0 * (powers(4) - n)
            }
        };
        let (second, fourth) = (moments(2, 2), moments(4, 4));
        let degrees = if fourth > 0.0 { second * second / fourth - 1.0 } else { n - 1.0 };
        let [up, down] = effect.largest.map(|largest| largest / scale);
        let cumulants = Cumulants { second, third: moments(3, 3), fourth, largest: up };
        let cumulants = if estimate > 0.0 { cumulants } else { cumulants.negative(down) };
        Some(Self {
            n,
            estimate,
            implied: second / n / n,
            measured: squares.max(0.0) / n / (n - 1.0),
            degrees: degrees.clamp(1.0, (n - 1.0).max(1.0)),
            p_value: (2.0 * tail_probability((n * estimate).abs(), &cumulants)).min(1.0),
        })
    }

    /// The spread of independent rows; needs two.
    fn independent(&self) -> Option<Spread> {
        let spread = Spread { variance: self.measured, degrees: self.degrees };
        (self.n > 1.0).then(|| spread.at_least(self.implied))
    }
}
