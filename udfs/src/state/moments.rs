//! Mean and spread of a vector: the imbalance, and its noise.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, UInt64Array};
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use datafusion_common::Result;
use datafusion_expr::EmitTo;

use super::{Retract, State, Weighted, lists};
use crate::args::{Rows, Spec};

/// Count, mean vector and total squared distance to it, by Welford's and Chan's updates.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moments {
    /// Elements of a vector, 0 until the first row.
    width: usize,
    count: Vec<u64>,
    /// One vector a group, end to end.
    mean: Vec<f64>,
    spread: Vec<f64>,
}

/// Moments of one group, or of one batch.
pub(crate) struct Moment<'a> {
    pub(crate) count: u64,
    pub(crate) mean: &'a [f64],
    /// Σ‖x − mean‖²
    pub(crate) spread: f64,
}

impl Moments {
    /// The moments of a group, `None` if it has no row.
    pub(crate) fn get(&self, group: usize) -> Option<Moment<'_>> {
        let count = self.count[group];
        (count > 0).then(|| Moment {
            count,
            mean: &self.mean[group * self.width..][..self.width],
            spread: self.spread[group],
        })
    }

    /// Elements of a vector, 0 until the first row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Adds a group's rows to another.
    ///
    /// # Errors
    /// Where their vectors are of two widths, or the sums leave the range of a float.
    pub(super) fn add_one(&mut self, spec: &Spec, group: usize, other: &Moment<'_>) -> Result<()> {
        self.set_width(spec, other.mean.len())?;
        self.merge_one(group, other);
        if self.spread[group].is_finite() { Ok(()) } else { Err(spec.out_of_range()) }
    }

    /// Reads what [`State::arrays`] gave.
    pub(super) fn read(states: &[ArrayRef]) -> impl Iterator<Item = Moment<'_>> {
        let counts = states[0].as_primitive::<UInt64Type>().values();
        let spreads = states[2].as_primitive::<Float64Type>().values();
        let means = lists::read::<Float64Type>(&states[1]);
        counts.iter().zip(means).zip(spreads).map(|((&count, mean), &spread)| Moment { count, mean, spread })
    }

    fn set_width(&mut self, spec: &Spec, width: usize) -> Result<()> {
        if self.width == 0 {
            self.width = width;
            self.mean.resize(self.count.len() * width, 0.0);
        } else if self.width != width {
            return Err(spec.two_widths(self.width, width));
        }
        Ok(())
    }

    fn merge_one(&mut self, group: usize, other: &Moment<'_>) {
        let total = self.count[group] + other.count;
        let fraction = other.count as f64 / total as f64;
        let mean = &mut self.mean[group * self.width..][..self.width];
        let mut distance = 0.0;
        for (mean, other) in mean.iter_mut().zip(other.mean) {
            let delta = other - *mean;
            distance += delta * delta;
            *mean += delta * fraction;
        }
        self.spread[group] += other.spread + distance * fraction * self.count[group] as f64;
        self.count[group] = total;
    }

    fn unmerge_one(&mut self, group: usize, other: &Moment<'_>) {
        let left = self.count[group] - other.count;
        let mean = &mut self.mean[group * self.width..][..self.width];
        if left == 0 {
            mean.fill(0.0);
            self.spread[group] = 0.0;
        } else {
            let fraction = other.count as f64 / left as f64;
            let mut distance = 0.0;
            for (mean, other) in mean.iter_mut().zip(other.mean) {
                let delta = *mean - other;
                distance += delta * delta;
                *mean += delta * fraction;
            }
            let between = distance * fraction * self.count[group] as f64;
            self.spread[group] = (self.spread[group] - other.spread - between).max(0.0);
        }
        self.count[group] = left;
    }

    fn retract(&mut self, rows: &Rows<'_>, terms: &Weighted) -> Result<()> {
        let (mean, spreads) = terms.moments(rows, self.get(0).map(|group| group.mean));
        let batch = Moment { count: rows.len() as u64, mean: &mean, spread: spreads.iter().sum() };
        self.unmerge_one(0, &batch);
        Ok(())
    }
}

impl State for Moments {
    type Terms = Weighted;

    const RETRACT: Option<Retract<Self>> = Some(Self::retract);

    fn fields() -> Vec<(&'static str, DataType)> {
        let mean = lists::list_of::<Float64Type>();
        vec![("count", DataType::UInt64), ("mean", mean), ("spread", DataType::Float64)]
    }

    fn resize(&mut self, groups: usize) {
        self.count.resize(groups, 0);
        self.mean.resize(groups * self.width, 0.0);
        self.spread.resize(groups, 0.0);
    }

    fn groups(&self) -> usize {
        self.count.len()
    }

    fn add(&mut self, rows: &Rows<'_>, terms: &Weighted) -> Result<()> {
        self.set_width(rows.spec, terms.width(rows))?;
        let (mean, spreads) = terms.moments(rows, self.get(0).map(|group| group.mean));
        let batch = Moment { count: rows.len() as u64, mean: &mean, spread: spreads.iter().sum() };
        self.merge_one(0, &batch);
        if self.spread[0].is_finite() { Ok(()) } else { Err(rows.not_finite()) }
    }

    fn add_grouped(&mut self, rows: &Rows<'_>, terms: &Weighted, groups: &[usize]) -> Result<()> {
        let width = terms.width(rows);
        self.set_width(rows.spec, width)?;
        let mut finite = true;
        terms.for_each_run(rows, |start, vectors| {
            for (vector, &group) in vectors.chunks_exact(width).zip(&groups[start..]) {
                self.count[group] += 1;
                let step = 1.0 / self.count[group] as f64;
                let mean = &mut self.mean[group * width..][..width];
                let distance = approach(mean, vector, step);
                self.spread[group] += distance * (1.0 - step);
                finite &= self.spread[group].is_finite();
            }
        });
        if finite { Ok(()) } else { Err(rows.not_finite()) }
    }

    fn merge(&mut self, spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        for (i, moment) in Self::read(states).enumerate().filter(|(_, moment)| moment.count > 0) {
            self.add_one(spec, group(i), &moment)?;
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Self {
        Self {
            width: self.width,
            count: emit_to.take_needed(&mut self.count),
            mean: lists::take_rows(emit_to, self.width, &mut self.mean),
            spread: emit_to.take_needed(&mut self.spread),
        }
    }

    fn arrays(self) -> Vec<ArrayRef> {
        let groups = self.count.len();
        vec![
            Arc::new(UInt64Array::from(self.count)),
            lists::write_rows(groups, self.width, self.mean),
            Arc::new(Float64Array::from(self.spread)),
        ]
    }

    fn size(&self) -> usize {
        (self.count.capacity() + self.mean.capacity() + self.spread.capacity()) * size_of::<f64>()
    }
}

/// Moves `mean` towards `vector` by the fraction `step`; returns their squared distance before.
fn approach(mean: &mut [f64], vector: &[f64], step: f64) -> f64 {
    const LANES: usize = 4;
    let mut distance = [0.0; LANES];
    let (means, mean_rest) = mean.as_chunks_mut::<LANES>();
    let (vectors, vector_rest) = vector.as_chunks::<LANES>();
    for (mean, vector) in means.iter_mut().zip(vectors) {
        for k in 0..LANES {
            let delta = vector[k] - mean[k];
            distance[k] += delta * delta;
            mean[k] += delta * step;
        }
    }
    let mut rest = 0.0;
    for (mean, vector) in mean_rest.iter_mut().zip(vector_rest) {
        let delta = vector - *mean;
        rest += delta * delta;
        *mean += delta * step;
    }
    distance.iter().sum::<f64>() + rest
}
