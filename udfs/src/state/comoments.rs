//! Mean and covariance of a vector.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, UInt64Array};
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use datafusion_common::Result;
use datafusion_expr::EmitTo;
use nalgebra::{DMatrix, DMatrixView};

use super::clusters::Vectors;
use super::packed::{add_products, diagonal, is_full, packed_length, place};
use super::{State, Weighted, lists};
use crate::args::{Rows, Spec};

/// Count, mean vector and comoments (sums of products of distances to the mean), by Welford's and Chan's updates.
///
/// Comoments are packed as [`super::packed`] says. Rows are not taken out again: an element that is 0 in all rows left
/// would keep rounding errors, a mean infinitely many standard errors from 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct Comoments {
    /// Elements of a vector, 0 until the first row.
    width: usize,
    count: Vec<u64>,
    /// One vector a group, end to end.
    mean: Vec<f64>,
    /// [`packed_length`] numbers a group, end to end.
    comoment: Vec<f64>,
}

/// Comoments of one group, or of one batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comoment<'a> {
    pub(crate) count: u64,
    pub(crate) mean: &'a [f64],
    comoment: &'a [f64],
}

impl Comoment<'_> {
    /// Sum of the squared distances of element `k` to its mean.
    pub(crate) fn square(&self, k: usize) -> f64 {
        self.comoment[diagonal(self.mean.len(), k)]
    }

    /// Sum of products of the distances of elements `i` and `j` to their means; needs the whole matrix.
    pub(crate) fn product(&self, i: usize, j: usize) -> f64 {
        self.comoment[place(i, j)]
    }
}

impl Comoments {
    /// The comoments of a group, `None` if it has no row.
    pub(crate) fn get(&self, group: usize) -> Option<Comoment<'_>> {
        let (count, packed) = (self.count[group], packed_length(self.width));
        (count > 0).then(|| Comoment {
            count,
            mean: &self.mean[group * self.width..][..self.width],
            comoment: &self.comoment[group * packed..][..packed],
        })
    }

    /// Elements of a vector, once there is one.
    pub(crate) fn width(&self) -> Option<usize> {
        (self.width > 0).then_some(self.width)
    }

    fn set_width(&mut self, spec: &Spec, width: usize) -> Result<()> {
        if self.width == 0 {
            self.width = width;
            self.mean.resize(self.count.len() * width, 0.0);
            self.comoment.resize(self.count.len() * packed_length(width), 0.0);
        } else if self.width != width {
            return Err(spec.two_widths(self.width, width));
        }
        Ok(())
    }

    fn put(&mut self, group: usize, other: &Comoment<'_>) {
        let (width, packed) = (self.width, packed_length(self.width));
        let before = self.count[group];
        self.count[group] += other.count;
        let fraction = other.count as f64 / self.count[group] as f64;
        let mean = &mut self.mean[group * width..][..width];
        let comoment = &mut self.comoment[group * packed..][..packed];
        let delta: Vec<f64> = mean.iter().zip(other.mean).map(|(mean, other)| other - mean).collect();
        mean.iter_mut().zip(&delta).for_each(|(mean, delta)| *mean += delta * fraction);
        comoment.iter_mut().zip(other.comoment).for_each(|(own, other)| *own += other);
        add_products(comoment, &delta, fraction * before as f64);
    }

    fn batch(&self, rows: &Rows<'_>, terms: &Weighted) -> (Vec<f64>, Vec<f64>) {
        let near = self.get(0).map(|group| group.mean);
        if is_full(self.width) { full_moments(terms, rows, near) } else { terms.moments(rows, near) }
    }

    fn is_finite(&self, group: usize) -> bool {
        let packed = packed_length(self.width);
        let comoment = &self.comoment[group * packed..][..packed];
        (0..self.width).all(|k| comoment[diagonal(self.width, k)].is_finite())
    }
}

/// Means and comoments of a batch, from products of distances to `near`, a vector close to the mean.
fn full_moments(terms: &Weighted, rows: &Rows<'_>, near: Option<&[f64]>) -> (Vec<f64>, Vec<f64>) {
    let width = terms.width(rows);
    let mut near = near.map(<[f64]>::to_vec);
    let mut sum = vec![0.0; width];
    let mut products = DMatrix::<f64>::zeros(width, width);
    terms.for_each_run(rows, |_, vectors| {
        let near = near.get_or_insert_with(|| vectors[..width].to_vec());
        for vector in vectors.chunks_exact_mut(width) {
            for ((x, near), sum) in vector.iter_mut().zip(&*near).zip(&mut sum) {
                *x -= near;
                *sum += *x;
            }
        }
        let distances = DMatrixView::from_slice(vectors, width, vectors.len() / width);
        products.gemm(1.0, &distances, &distances.transpose(), 1.0);
    });
    let count = rows.len() as f64;
    let mut comoment: Vec<f64> = (0..width).flat_map(|i| (0..=i).map(move |j| (i, j))).map(|at| products[at]).collect();
    add_products(&mut comoment, &sum, -1.0 / count);
    for k in 0..width {
        let spread = &mut comoment[diagonal(width, k)];
        if *spread < 0.0 {
            *spread = 0.0;
        }
    }
    let near = near.unwrap_or_else(|| vec![0.0; width]);
    (sum.iter().zip(near).map(|(sum, near)| near + sum / count).collect(), comoment)
}

impl State for Comoments {
    type Terms = Weighted;

    fn fields() -> Vec<(&'static str, DataType)> {
        let list = lists::list_of::<Float64Type>;
        vec![("count", DataType::UInt64), ("mean", list()), ("comoment", list())]
    }

    fn resize(&mut self, groups: usize) {
        self.count.resize(groups, 0);
        self.mean.resize(groups * self.width, 0.0);
        self.comoment.resize(groups * packed_length(self.width), 0.0);
    }

    fn groups(&self) -> usize {
        self.count.len()
    }

    fn add(&mut self, rows: &Rows<'_>, terms: &Weighted) -> Result<()> {
        self.set_width(rows.spec, terms.width(rows))?;
        let (mean, comoment) = self.batch(rows, terms);
        self.put(0, &Comoment { count: rows.len() as u64, mean: &mean, comoment: &comoment });
        if self.is_finite(0) { Ok(()) } else { Err(rows.not_finite()) }
    }

    fn add_grouped(&mut self, rows: &Rows<'_>, terms: &Weighted, groups: &[usize]) -> Result<()> {
        let width = terms.width(rows);
        self.set_width(rows.spec, width)?;
        let packed = packed_length(width);
        terms.for_each_run(rows, |start, vectors| {
            for (vector, &group) in vectors.chunks_exact_mut(width).zip(&groups[start..]) {
                self.count[group] += 1;
                let step = 1.0 / self.count[group] as f64;
                let mean = &mut self.mean[group * width..][..width];
                for (x, mean) in vector.iter_mut().zip(mean) {
                    *x -= *mean;
                    *mean += *x * step;
                }
                add_products(&mut self.comoment[group * packed..][..packed], vector, 1.0 - step);
            }
        });
        if groups.iter().all(|&group| self.is_finite(group)) { Ok(()) } else { Err(rows.not_finite()) }
    }

    fn merge(&mut self, spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let counts = states[0].as_primitive::<UInt64Type>().values();
        let lists = lists::read::<Float64Type>(&states[1]).zip(lists::read::<Float64Type>(&states[2]));
        for (i, (&count, (mean, comoment))) in
            counts.iter().zip(lists).enumerate().filter(|(_, (count, _))| **count > 0)
        {
            self.set_width(spec, mean.len())?;
            self.put(group(i), &Comoment { count, mean, comoment });
            if !self.is_finite(group(i)) {
                return Err(spec.out_of_range());
            }
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Self {
        Self {
            width: self.width,
            count: emit_to.take_needed(&mut self.count),
            mean: lists::take_rows(emit_to, self.width, &mut self.mean),
            comoment: lists::take_rows(emit_to, packed_length(self.width), &mut self.comoment),
        }
    }

    fn arrays(self) -> Vec<ArrayRef> {
        let groups = self.count.len();
        vec![
            Arc::new(UInt64Array::from(self.count)),
            lists::write_rows(groups, self.width, self.mean),
            lists::write_rows(groups, packed_length(self.width), self.comoment),
        ]
    }

    fn size(&self) -> usize {
        (self.count.capacity() + self.mean.capacity() + self.comoment.capacity()) * size_of::<f64>()
    }
}

impl Vectors for Comoments {
    fn for_each_vector(rows: &Rows<'_>, terms: &Weighted, visit: impl FnMut(usize, &[f64])) {
        terms.for_each_vector(rows, visit);
    }
}
