//! Sums of short vectors and of the products of their elements: estimates and their variances.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, FixedSizeListArray, Float64Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Float64Type, UInt64Type};
use datafusion_common::Result;
use datafusion_expr::EmitTo;

use super::clusters::Vectors;
use super::sum::Sum;
use super::{Retract, State};
use crate::args::{Rows, Spec};

/// What the rows of one group sum to. The first element of a row is the weight of what it tells.
///
/// Sums and products carry their rounding errors, so that the variance of a ratio of large numbers survives the
/// differences it is computed from, and a window forgets a huge weight that has left it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Totals<const N: usize> {
    pub(crate) count: u64,
    /// Rows with a weight other than 0.
    pub(crate) weighted: u64,
    sums: [Sum; N],
    /// Sums of products; only those of an element with itself and with earlier ones are kept.
    products: [[Sum; N]; N],
}

impl<const N: usize> Totals<N> {
    const EMPTY: Self = Self { count: 0, weighted: 0, sums: [Sum::ZERO; N], products: [[Sum::ZERO; N]; N] };

    pub(crate) fn sum(&self, k: usize) -> f64 {
        self.sums[k].value()
    }

    pub(crate) fn mean(&self, k: usize) -> f64 {
        self.sum(k) / self.count as f64
    }

    pub(crate) fn sum_of_squares(&self, k: usize) -> f64 {
        self.products[k][k].value()
    }

    /// Variance over samples of the mean of `Σ factors[k] · x[k]`; needs two rows.
    pub(crate) fn variance_of_mean(&self, factors: [f64; N]) -> f64 {
        let n = self.count as f64;
        let (mut sum, mut squares) = (Sum::ZERO, Sum::ZERO);
        for i in 0..N {
            sum.add_sum(self.sums[i].scaled(factors[i]));
            for j in 0..=i {
                let twice = if i == j { 1.0 } else { 2.0 };
                squares.add_sum(self.products[i][j].scaled(factors[i]).scaled(twice * factors[j]));
            }
        }
        let mut spread = squares.scaled(n);
        spread.add_sum(sum.squared().scaled(-1.0));
        spread.value().max(0.0) / n / n / (n - 1.0)
    }

    fn add(&mut self, row: [f64; N], sign: f64) {
        for i in 0..N {
            let x = sign * row[i];
            self.sums[i].add(x);
            for (product, y) in self.products[i].iter_mut().zip(&row[..=i]) {
                product.add_product(x, *y);
            }
        }
    }

    fn kept(&self) -> impl Iterator<Item = &Sum> {
        self.sums.iter().chain(self.products.iter().enumerate().flat_map(|(i, products)| &products[..=i]))
    }

    fn kept_mut(&mut self) -> impl Iterator<Item = &mut Sum> {
        self.sums.iter_mut().chain(self.products.iter_mut().enumerate().flat_map(|(i, products)| &mut products[..=i]))
    }

    fn is_finite(&self) -> bool {
        self.kept().all(|sum| sum.value().is_finite())
    }
}

/// [`Totals`] of every group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Products<const N: usize> {
    groups: Vec<Totals<N>>,
}

impl<const N: usize> Products<N> {
    /// Numbers in the stored sums of a group: two for each.
    const STORED: usize = N * (N + 3);

    /// The totals of all groups, `None` for one without a row.
    pub(crate) fn totals(&self) -> impl Iterator<Item = Option<&Totals<N>>> {
        self.groups.iter().map(|totals| (totals.count > 0).then_some(totals))
    }

    fn element() -> Arc<Field> {
        Arc::new(Field::new_list_field(DataType::Float64, false))
    }

    fn retract(&mut self, rows: &Rows<'_>, terms: &[Vec<f64>; N]) -> Result<()> {
        let group = &mut self.groups[0];
        group.count -= rows.len() as u64;
        group.weighted -= weighted(terms);
        (0..rows.len()).for_each(|row| group.add(terms.each_ref().map(|column| column[row]), -1.0));
        if group.count == 0 {
            *group = Totals::EMPTY;
        }
        Ok(())
    }
}

impl<const N: usize> State for Products<N> {
    /// One column for each element.
    type Terms = [Vec<f64>; N];

    const RETRACT: Option<Retract<Self>> = Some(Self::retract);

    fn fields() -> Vec<(&'static str, DataType)> {
        vec![
            ("count", DataType::UInt64),
            ("weighted", DataType::UInt64),
            ("sums", DataType::FixedSizeList(Self::element(), Self::STORED as i32)),
        ]
    }

    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, Totals::EMPTY);
    }

    fn groups(&self) -> usize {
        self.groups.len()
    }

    fn add(&mut self, rows: &Rows<'_>, terms: &Self::Terms) -> Result<()> {
        let group = &mut self.groups[0];
        group.count += rows.len() as u64;
        group.weighted += weighted(terms);
        (0..rows.len()).for_each(|row| group.add(terms.each_ref().map(|column| column[row]), 1.0));
        if group.is_finite() { Ok(()) } else { Err(rows.not_finite()) }
    }

    fn add_grouped(&mut self, rows: &Rows<'_>, terms: &Self::Terms, groups: &[usize]) -> Result<()> {
        let mut finite = true;
        for (row, &group) in groups.iter().enumerate() {
            let vector = terms.each_ref().map(|column| column[row]);
            let group = &mut self.groups[group];
            group.count += 1;
            group.weighted += u64::from(vector[0] != 0.0);
            group.add(vector, 1.0);
            finite &= group.is_finite();
        }
        if finite { Ok(()) } else { Err(rows.not_finite()) }
    }

    fn merge(&mut self, spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let counts = states[0].as_primitive::<UInt64Type>().values();
        let weighted = states[1].as_primitive::<UInt64Type>().values();
        let stored = states[2].as_fixed_size_list();
        let stored = stored.values().as_primitive::<Float64Type>().values().as_chunks::<2>().0;
        for (i, sums) in stored.chunks_exact(Self::STORED / 2).enumerate() {
            let group = &mut self.groups[group(i)];
            group.count += counts[i];
            group.weighted += weighted[i];
            group.kept_mut().zip(sums).for_each(|(own, &[high, low])| own.add_sum(Sum { high, low }));
            if !group.is_finite() {
                return Err(spec.out_of_range());
            }
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Self {
        Self { groups: emit_to.take_needed(&mut self.groups) }
    }

    fn arrays(self) -> Vec<ArrayRef> {
        let groups = || self.groups.iter();
        let counts =
            |f: fn(&Totals<N>) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(groups().map(f))) };
        let mut stored = Vec::with_capacity(self.groups.len() * Self::STORED);
        groups().flat_map(Totals::kept).for_each(|sum| stored.extend([sum.high, sum.low]));
        let stored = Arc::new(Float64Array::from(stored));
        vec![
            counts(|group| group.count),
            counts(|group| group.weighted),
            Arc::new(FixedSizeListArray::new(Self::element(), Self::STORED as i32, stored, None)),
        ]
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<Totals<N>>()
    }
}

impl<const N: usize> Vectors for Products<N> {
    fn for_each_vector(rows: &Rows<'_>, terms: &[Vec<f64>; N], mut visit: impl FnMut(usize, &[f64])) {
        (0..rows.len()).for_each(|row| visit(row, &terms.each_ref().map(|column| column[row])));
    }
}

fn weighted<const N: usize>(terms: &[Vec<f64>; N]) -> u64 {
    terms[0].iter().filter(|&&weight| weight != 0.0).count() as u64
}
