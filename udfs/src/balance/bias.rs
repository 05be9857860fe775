//! What the imbalance does to an estimate, as far as the error is linear in φ.

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};
use datafusion_common::Result;
use nalgebra::{Cholesky, DMatrix, DVector, SymmetricEigen};

use super::effect::LEVEL;
use crate::args::{self, Call, Rows, Spec};
use crate::inference::{Spread, jackknife, student_quantile};
use crate::results::{counts, numbers, struct_fields, structs};
use crate::state::{GroupProjection, Projection, ProjectionTerms, Projections, State};
use crate::udaf::Function;
use crate::weights;

/// An estimate whose bias is asked for: what of the error it takes from treated rows.
pub(super) trait Estimate: Debug + PartialEq + Eq + Hash + Send + Sync + 'static {
    const SPEC: &'static Spec;

    /// A query, and what it gives.
    const EXAMPLE: &'static str;

    /// The functions to look at next.
    const RELATED: &'static [&'static str];

    /// What is weighted by `1/p`, from the error and the imputed error.
    fn residual(rows: &Rows<'_>) -> Vec<f64>;
}

/// The aggregate that gives the bias of an estimate.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ImbalanceBias<E>(PhantomData<E>);

impl<E: Estimate> Function for ImbalanceBias<E> {
    const SPEC: &'static Spec = E::SPEC;

    const EXAMPLE: &'static str = E::EXAMPLE;

    const RELATED: &'static [&'static str] = E::RELATED;

    type State = Projections;

    fn terms(rows: &Rows<'_>, _call: &Call) -> ProjectionTerms {
        let weights = args::map2(rows.treated(), rows.propensity(), weights::inverse_propensity);
        // What is not observed is not read.
        let weigh = |x: &[f64], f: fn(f64) -> f64| args::map2(&weights, x, |w, x| if w > 0.0 { w * f(x) } else { 0.0 });
        let weighted = [weigh(&E::residual(rows), |x| x), weigh(rows.error(), f64::abs)];
        ProjectionTerms {
            errors: weights.iter().map(|weight| weight - 1.0).collect(),
            variances: rows.propensity().iter().map(|&p| if p > 0.0 { (1.0 - p) / p } else { 1.0 }).collect(),
            weights,
            weighted,
        }
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Struct(bias_fields())
    }

    fn values(state: &Projections, _call: &Call) -> Result<ArrayRef> {
        let biases: Vec<_> = (0..state.groups()).map(|group| state.get(group).map(|group| Bias::new(&group))).collect();
        let number = |f: fn(&Bias) -> Option<f64>| numbers(biases.iter().map(|bias| bias.as_ref().and_then(f)));
        let columns = vec![
            counts(biases.iter().map(|bias| Some(bias.as_ref()?.n))),
            number(|bias| bias.estimate),
            number(|bias| Some(bias.spread?.error())),
            number(|bias| bias.bound(-1.0)),
            number(|bias| bias.bound(1.0)),
            number(|bias| Some(bias.spread?.degrees)),
            number(|bias| bias.mean_error),
            number(|bias| bias.ess),
        ];
        Ok(structs(bias_fields(), columns, biases.iter().map(Option::is_some).collect()))
    }
}

pub(super) fn bias_fields() -> Fields {
    struct_fields([
        ("n", DataType::UInt64),
        ("estimate", DataType::Float64),
        ("std_error", DataType::Float64),
        ("lower", DataType::Float64),
        ("upper", DataType::Float64),
        ("degrees", DataType::Float64),
        ("mean_error", DataType::Float64),
        ("ess", DataType::Float64),
    ])
}

struct Bias {
    n: u64,
    estimate: Option<f64>,
    spread: Option<Spread>,
    /// The mean absolute error.
    mean_error: Option<f64>,
    ess: Option<f64>,
}

impl Bias {
    fn new(group: &GroupProjection) -> Self {
        let total = &group.total;
        let ess = (group.squares > 0.0).then(|| total.weights().powi(2) / group.squares);
        let mean_error = (total.weights() > 0.0).then(|| total.absolute_errors() / total.weights());
        // Where weights are alike, rounding must not decide.
        let least = 2.0 * group.width() as f64 * (1.0 - 1e-12);
        let fit = Fit::new(total).filter(|_| ess.is_some_and(|ess| ess >= least) && mean_error > Some(0.0));
        let spread = fit.as_ref().and_then(|fit| {
            let scale = total.rows() * mean_error?;
            let implied = group.implied(fit.beta.as_slice()) / scale / scale;
            let spread = Spread::of_ways(group.ways.iter().map(|cells| fit.spread(total, cells)))?;
            Some(spread.at_least(implied))
        });
        let estimate = fit.and_then(|fit| Some(fit.value / total.rows() / mean_error?));
        Self { n: group.count, estimate, spread, mean_error, ess }
    }

    fn bound(&self, sign: f64) -> Option<f64> {
        let spread = self.spread?;
        Some(self.estimate? + sign * student_quantile((1.0 - LEVEL) / 2.0, spread.degrees) * spread.error())
    }
}

/// A weighted regression on Φ.
struct Fit {
    /// Directions in which Φ varies, scaled so that its weighted products are the unit matrix.
    basis: DMatrix<f64>,
    beta: DVector<f64>,
    /// `Σa·Φ` times β.
    value: f64,
}

impl Fit {
    /// The share of the largest eigenvalue below which a direction of the scaled Φ varies by rounding only.
    const CUTOFF: f64 = 1e-8;

    /// By pseudo-inverse, with columns scaled to length 1; `None` without a weight.
    fn new(total: &Projection) -> Option<Self> {
        let width = total.errors().len();
        let length = |k: usize| total.product(k, k).max(0.0).sqrt();
        let used: Vec<usize> = (0..width).filter(|&k| length(k) > 0.0).collect();
        if used.is_empty() {
            return None;
        }
        let scaled = DMatrix::from_fn(used.len(), used.len(), |i, j| {
            total.product(used[i], used[j]) / length(used[i]) / length(used[j])
        });
        let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(scaled);
        let least = Self::CUTOFF * eigenvalues.max();
        let directions = eigenvectors.column_iter().zip(&eigenvalues).filter(|(_, value)| **value > least);
        let columns: Vec<DVector<f64>> = directions
            .map(|(direction, value)| {
                let mut column = DVector::zeros(width);
                direction.iter().zip(&used).for_each(|(x, &k)| column[k] = x / length(k) / value.sqrt());
                column
            })
            .collect();
        let basis = DMatrix::from_columns(&columns);
        let responses = basis.tr_mul(&DVector::from_column_slice(total.responses()));
        let beta = &basis * responses;
        let value = beta.dot(&DVector::from_column_slice(total.errors()));
        Some(Self { basis, beta, value })
    }

    /// The spread of the bias over the mean absolute error, by the groups of one way.
    fn spread(&self, total: &Projection, cells: &[Projection]) -> Option<Spread> {
        let width = total.errors().len();
        let project = |vector: &[f64]| self.basis.tr_mul(&DVector::from_column_slice(vector));
        let (errors, responses) = (project(total.errors()), project(total.responses()));
        let without = |cell: &Projection| {
            let products = DMatrix::from_fn(width, width, |k, l| cell.product(k, l));
            let rest = DMatrix::identity(self.basis.ncols(), self.basis.ncols())
                - self.basis.tr_mul(&(products * &self.basis));
            let (errors, responses) = (&errors - project(cell.errors()), &responses - project(cell.responses()));
            let value = errors.dot(&solve(rest, &responses));
            let rows = total.rows() - cell.rows();
            let mean_error = (total.absolute_errors() - cell.absolute_errors()) / (total.weights() - cell.weights());
            value / rows / mean_error
        };
        jackknife(&cells.iter().map(without).collect::<Vec<_>>())
    }
}

/// `M⁺·b` of a symmetric matrix that is at most the unit matrix.
fn solve(matrix: DMatrix<f64>, b: &DVector<f64>) -> DVector<f64> {
    if let Some(cholesky) = Cholesky::new(matrix.clone())
        && cholesky.l_dirty().diagonal().iter().all(|x| *x * *x > Fit::CUTOFF)
    {
        return cholesky.solve(b);
    }
    let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(matrix);
    let mut solution = DVector::zeros(b.len());
    for (direction, &value) in eigenvectors.column_iter().zip(&eigenvalues) {
        if value > Fit::CUTOFF {
            solution.axpy(direction.dot(b) / value, &direction, 1.0);
        }
    }
    solution
}
