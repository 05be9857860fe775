//! Estimates with their standard errors and confidence intervals.

use std::marker::PhantomData;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};
use datafusion_common::Result;

use super::estimator::Estimator;
use crate::args::{Call, Role, Rows, Spec};
use crate::inference::{Spread, student_quantile};
use crate::results::{counts, numbers, struct_fields, structs};
use crate::state::{ClusterSums, Clustered, Products, Totals};
use crate::udaf::Function;

/// The aggregate that gives an estimate with its interval, a struct:
/// - `estimate`: as the function without `_interval`;
/// - `std_error`: of a mean, that of the rows' terms, with n − 1; of a self-normalised estimate, that of the mean of
///   its influence function (the delta method), from the covariances of the terms and the weights;
///   Of rows that belong together, the larger of that and the jackknife's;
/// - `lower`, `upper`: `estimate ± z · std_error`, with the normal quantile z of the level; of rows that belong together,
///   that of Student's law;
/// - `n`: rows that count;
/// - `ess`: Kish's effective sample size of the weights of the observed errors, `(Σw)²/Σw²`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Interval<E, const N: usize = 2>(PhantomData<E>);

impl<E: Estimator<N>, const N: usize> Function for Interval<E, N> {
    const SPEC: &'static Spec = E::INTERVAL;

    const EXAMPLE: &'static str = E::INTERVAL_EXAMPLE;

    const RELATED: &'static [&'static str] = &[E::SPEC.name, "ess"];

    type State = Clustered<Products<N>>;

    fn terms(rows: &Rows<'_>, call: &Call) -> [Vec<f64>; N] {
        E::terms(rows, call)
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Struct(interval_fields())
    }

    fn values(state: &Clustered<Products<N>>, call: &Call) -> Result<ArrayRef> {
        let tail = (1.0 - call.literal(Role::Level)) / 2.0;
        let spread = |group: usize, totals: &Totals<N>| {
            let spread = spread::<E, N>(totals, state.sums(group))?;
            Some((spread, student_quantile(tail, spread.degrees)))
        };
        let groups = state.rows.totals().enumerate();
        let figures: Vec<_> =
            groups.map(|(group, totals)| Some((totals?, estimate::<E, N>(totals?), spread(group, totals?)))).collect();
        let bound = |sign: f64| {
            numbers(figures.iter().map(|figure| {
                let (_, estimate, spread) = figure.as_ref()?;
                let (spread, quantile) = (*spread)?;
                Some((*estimate)? + sign * quantile * spread.error())
            }))
        };
        let columns = vec![
            numbers(figures.iter().map(|figure| figure.as_ref()?.1)),
            numbers(figures.iter().map(|figure| Some(figure.as_ref()?.2?.0.error()))),
            bound(-1.0),
            bound(1.0),
            counts(figures.iter().map(|figure| Some(figure.as_ref()?.0.count))),
            numbers(figures.iter().map(|figure| effective_size(figure.as_ref()?.0))),
        ];
        Ok(structs(interval_fields(), columns, figures.iter().map(Option::is_some).collect()))
    }
}

/// The documentation of the interval of an estimate, which is a mean of the rows' terms or a ratio of two sums.
macro_rules! interval_doc {
    ($name:ident, mean) => {
        interval_doc!(
            $name,
            "The standard error is that of the mean of the rows' terms; it and the bounds are NULL with fewer than two \
             rows.",
            ""
        )
    };
    ($name:ident, ratio) => {
        interval_doc!(
            $name,
            "The standard error is that of a ratio by the delta method; it and the bounds are NULL with fewer than two \
             treated rows, and the estimate without one.",
            "\n\nSource: Owen, *Monte Carlo theory, methods and examples*, section 9.2."
        )
    };
    ($name:ident, $spread:literal, $source:literal) => {
        concat!(
            "`",
            stringify!($name),
            "` with its standard error and confidence interval: a struct of `estimate`, `std_error`, `lower`, `upper`, \
             `n` (rows that count) and `ess` (Kish's effective sample size of the weights of the observed errors; the \
             number of treated rows where these have no weights).\n\n",
            $spread,
            " With `treatment(treated, cluster)` for `treated`, it is that of rows that belong together, by the jackknife, \
             but not less; NULL for a single cluster. The bounds are `estimate -/+ z * std_error` with the normal quantile z \
             of `level`, of clusters with that of Student's law: they hold for many rows, and for propensities taken as \
             known. NULL if no row counts.\n\n# Details\nAll but `n` and `ess` \
             are in the unit of the error.",
            $source
        )
    };
}
pub(super) use interval_doc;

const WEIGHT: usize = 0;
const TERM: usize = 1;
const ADDEND: usize = 2;

fn interval_fields() -> Fields {
    struct_fields([
        ("estimate", DataType::Float64),
        ("std_error", DataType::Float64),
        ("lower", DataType::Float64),
        ("upper", DataType::Float64),
        ("n", DataType::UInt64),
        ("ess", DataType::Float64),
    ])
}

pub(super) fn estimate<E: Estimator<N>, const N: usize>(totals: &Totals<N>) -> Option<f64> {
    if !E::NORMALISED {
        return Some(totals.mean(TERM));
    }
    let addend = if N > ADDEND { totals.mean(ADDEND) } else { 0.0 };
    (totals.weighted > 0).then(|| addend + totals.sum(TERM) / totals.sum(WEIGHT))
}

/// The spread of the estimate: of independent rows with the normal law, of rows that belong together the larger one.
fn spread<E: Estimator<N>, const N: usize>(totals: &Totals<N>, sums: Option<ClusterSums<'_>>) -> Option<Spread> {
    let variance = variance::<E, N>(totals)?;
    match sums {
        None => Some(Spread { variance, degrees: f64::INFINITY }),
        Some(sums) => Some(sums.spread(estimate_of_sums::<E, N>)?.at_least(variance)),
    }
}

/// The estimate of rows with these sums, behind their number.
fn estimate_of_sums<E: Estimator<N>, const N: usize>(sums: &[f64]) -> f64 {
    let (n, sums) = (sums[0], &sums[1..]);
    if !E::NORMALISED {
        return sums[TERM] / n;
    }
    let addend = if N > ADDEND { sums[ADDEND] / n } else { 0.0 };
    addend + sums[TERM] / sums[WEIGHT]
}

/// The variance of the estimate over samples of independent rows.
fn variance<E: Estimator<N>, const N: usize>(totals: &Totals<N>) -> Option<f64> {
    if !E::NORMALISED {
        let factors = std::array::from_fn(|k| if k == TERM { 1.0 } else { 0.0 });
        return (totals.count > 1).then(|| totals.variance_of_mean(factors));
    }
    // The influence of a row, (term − ratio · weight) / mean weight + addend, times the mean weight.
    let (mean_weight, ratio) = (totals.mean(WEIGHT), totals.sum(TERM) / totals.sum(WEIGHT));
    let factors = std::array::from_fn(|k| match k {
        WEIGHT => -ratio,
        TERM => 1.0,
        _ => mean_weight,
    });
    (totals.weighted > 1).then(|| totals.variance_of_mean(factors) / mean_weight / mean_weight)
}

fn effective_size<const N: usize>(totals: &Totals<N>) -> Option<f64> {
    (totals.weighted > 0).then(|| totals.sum(WEIGHT).powi(2) / totals.sum_of_squares(WEIGHT))
}
