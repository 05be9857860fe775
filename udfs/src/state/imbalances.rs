//! The mean of w·φ, and its moments under true propensities.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::{Result, exec_err};
use datafusion_expr::EmitTo;
use nalgebra::{DMatrix, DMatrixView};

use super::moments::{Moment, Moments};
use super::packed::{add_products, diagonal, is_full, packed_length};
use super::{State, Weighted, lists};
use crate::args::{Rows, Spec};

/// [`Moments`] of `w·φ`, and the sums over rows of its second moments and fourth cumulants, had the treatments been drawn
/// with the propensities: `m φₖφₗ` and `m²(m − 6) φₖ²φₗ²`, with `m = 1/(p(1−p))` the mean of `w²`.
///
/// Both are packed as [`super::packed`] says. Rows are not taken out again: what a heavy row added would leave its
/// rounding error behind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Imbalances {
    moments: Moments,
    second: Vec<f64>,
    fourth: Vec<f64>,
}

/// The imbalance of one group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Imbalance<'a> {
    pub(crate) count: u64,
    pub(crate) mean: &'a [f64],
    /// Σ‖w·φ − mean‖².
    pub(crate) spread: f64,
    pub(crate) second: &'a [f64],
    pub(crate) fourth: &'a [f64],
}

/// What a batch adds.
pub(crate) struct ImbalanceTerms {
    /// `w·φ`.
    pub(crate) imbalance: Weighted,
    /// `√m·φ`.
    pub(crate) expected: Weighted,
    /// `m − 6`, for each row.
    pub(crate) excess: Vec<f64>,
}

impl<'a> Imbalance<'a> {
    /// An imbalance, if its parts fit together.
    pub(crate) fn fitting(self) -> Option<Imbalance<'a>> {
        let (width, length) = (self.mean.len(), packed_length(self.mean.len()));
        let fits = width > 0 && self.second.len() == length && self.fourth.len() == length;
        (fits && self.spread >= 0.0 && (0..width).all(|k| self.second[diagonal(width, k)] >= 0.0)).then_some(self)
    }
}

impl Imbalance<'_> {
    /// Covariance and fourth cumulants of the mean.
    pub(crate) fn moments_of_mean(&self) -> (Vec<f64>, Vec<f64>) {
        let squared = (self.count as f64).powi(2);
        let over = |sums: &[f64], by: f64| sums.iter().map(|sum| sum / by).collect();
        (over(self.second, squared), over(self.fourth, squared * squared))
    }
}

impl Imbalances {
    /// The imbalance of a group, `None` if it has no row.
    pub(crate) fn get(&self, group: usize) -> Option<Imbalance<'_>> {
        let Moment { count, mean, spread } = self.moments.get(group)?;
        let place = self.place(group);
        Some(Imbalance { count, mean, spread, second: &self.second[place.clone()], fourth: &self.fourth[place] })
    }

    /// Adds a group's rows to another.
    ///
    /// # Errors
    /// Where their φ are of two widths, or the sums leave the range of their types.
    pub(crate) fn add_one(&mut self, spec: &Spec, group: usize, other: &Imbalance<'_>) -> Result<()> {
        if self.moments.get(group).is_some_and(|own| own.count.checked_add(other.count).is_none()) {
            return exec_err!("{}: the rows of the states are more than 64 bits can count", spec.name);
        }
        let Imbalance { count, mean, spread, second, fourth } = *other;
        self.moments.add_one(spec, group, &Moment { count, mean, spread })?;
        self.make_room();
        let place = self.place(group);
        add(&mut self.second[place.clone()], second);
        add(&mut self.fourth[place.clone()], fourth);
        if self.is_finite(group) { Ok(()) } else { Err(spec.out_of_range()) }
    }

    fn packed_length(&self) -> usize {
        packed_length(self.moments.width())
    }

    fn place(&self, group: usize) -> std::ops::Range<usize> {
        let length = self.packed_length();
        group * length..(group + 1) * length
    }

    /// Holds as many numbers as the groups and the width need.
    fn make_room(&mut self) {
        let length = self.moments.groups() * self.packed_length();
        self.second.resize(length, 0.0);
        self.fourth.resize(length, 0.0);
    }

    fn is_finite(&self, group: usize) -> bool {
        let width = self.moments.width();
        let (second, fourth) = (&self.second[self.place(group)], &self.fourth[self.place(group)]);
        (0..width).map(|k| diagonal(width, k)).all(|at| second[at].is_finite() && fourth[at].is_finite())
    }
}

fn add(own: &mut [f64], other: &[f64]) {
    own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
}

/// Adds the products of many vectors at a time.
struct Products {
    width: usize,
    second: DMatrix<f64>,
    fourth: DMatrix<f64>,
    weighted: Vec<f64>,
}

impl Products {
    fn new(width: usize) -> Self {
        let zeros = || DMatrix::zeros(width, width);
        Self { width, second: zeros(), fourth: zeros(), weighted: Vec::new() }
    }

    /// `vectors` are `√m·φ`, end to end; they are squared.
    fn add(&mut self, vectors: &mut [f64], excess: &[f64]) {
        let (width, count) = (self.width, vectors.len() / self.width);
        let plain = DMatrixView::from_slice(vectors, width, count);
        self.second.gemm(1.0, &plain, &plain.transpose(), 1.0);
        vectors.iter_mut().for_each(|x| *x *= *x);
        self.weighted.clear();
        for (vector, excess) in vectors.chunks_exact(width).zip(excess) {
            self.weighted.extend(vector.iter().map(|square| excess * square));
        }
        let weighted = DMatrixView::from_slice(&self.weighted, width, count);
        self.fourth.gemm(1.0, &weighted, &DMatrixView::from_slice(vectors, width, count).transpose(), 1.0);
    }
}

impl State for Imbalances {
    type Terms = ImbalanceTerms;

    fn fields() -> Vec<(&'static str, DataType)> {
        let list = lists::list_of::<Float64Type>;
        let mut fields = Moments::fields();
        fields.extend([("second", list()), ("fourth", list())]);
        fields
    }

    fn resize(&mut self, groups: usize) {
        self.moments.resize(groups);
        self.make_room();
    }

    fn groups(&self) -> usize {
        self.moments.groups()
    }

    fn add(&mut self, rows: &Rows<'_>, terms: &ImbalanceTerms) -> Result<()> {
        self.moments.add(rows, &terms.imbalance)?;
        self.make_room();
        let width = self.moments.width();
        let (second, fourth) = (&mut self.second[..], &mut self.fourth[..]);
        if is_full(width) {
            let mut products = Products::new(width);
            terms.expected.for_each_run(rows, |start, vectors| products.add(vectors, &terms.excess[start..]));
            let triangle = |matrix: &DMatrix<f64>| -> Vec<f64> {
                (0..width).flat_map(|i| (0..=i).map(move |j| (i, j))).map(|at| matrix[at]).collect()
            };
            add(second, &triangle(&products.second));
            add(fourth, &triangle(&products.fourth));
        } else {
            terms.expected.for_each_run(rows, |start, vectors| {
                for (vector, excess) in vectors.chunks_exact_mut(width).zip(&terms.excess[start..]) {
                    add_row(second, fourth, vector, *excess);
                }
            });
        }
        if self.is_finite(0) { Ok(()) } else { Err(rows.not_finite()) }
    }

    fn add_grouped(&mut self, rows: &Rows<'_>, terms: &ImbalanceTerms, groups: &[usize]) -> Result<()> {
        self.moments.add_grouped(rows, &terms.imbalance, groups)?;
        self.make_room();
        let (width, length) = (self.moments.width(), self.packed_length());
        terms.expected.for_each_run(rows, |start, vectors| {
            let excess = &terms.excess[start..];
            for ((vector, &group), &excess) in vectors.chunks_exact_mut(width).zip(&groups[start..]).zip(excess) {
                let second = &mut self.second[group * length..][..length];
                add_row(second, &mut self.fourth[group * length..][..length], vector, excess);
            }
        });
        if groups.iter().all(|&group| self.is_finite(group)) { Ok(()) } else { Err(rows.not_finite()) }
    }

    fn merge(&mut self, spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let lists = lists::read::<Float64Type>(&states[3]).zip(lists::read::<Float64Type>(&states[4]));
        for (i, (moment, (second, fourth))) in Moments::read(states).zip(lists).enumerate() {
            let Moment { count, mean, spread } = moment;
            if count > 0 {
                self.add_one(spec, group(i), &Imbalance { count, mean, spread, second, fourth })?;
            }
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Self {
        let length = self.packed_length();
        Self {
            moments: self.moments.take(emit_to),
            second: lists::take_rows(emit_to, length, &mut self.second),
            fourth: lists::take_rows(emit_to, length, &mut self.fourth),
        }
    }

    fn arrays(self) -> Vec<ArrayRef> {
        let (groups, length) = (self.moments.groups(), self.packed_length());
        let mut arrays = self.moments.arrays();
        arrays.extend([self.second, self.fourth].map(|values| lists::write_rows(groups, length, values)));
        arrays
    }

    fn size(&self) -> usize {
        self.moments.size() + (self.second.capacity() + self.fourth.capacity()) * size_of::<f64>()
    }
}

/// Adds one row; `vector` is `√m·φ`, and is squared.
fn add_row(second: &mut [f64], fourth: &mut [f64], vector: &mut [f64], excess: f64) {
    add_products(second, vector, 1.0);
    vector.iter_mut().for_each(|x| *x *= *x);
    add_products(fourth, vector, excess);
}
