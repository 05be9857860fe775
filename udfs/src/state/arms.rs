//! Means and variances of the covariates of treated and untreated rows, plain and weighted.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::Result;
use datafusion_expr::EmitTo;

use super::{State, Weighted, lists};
use crate::args::{Rows, Spec};

/// Weighted Welford moments of four samples a group: untreated and treated rows, each plain and weighted.
///
/// Rows are not taken out again: they would leave rounding errors of their weight behind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arms {
    /// Covariates, 0 until the first row.
    width: usize,
    groups: usize,
    /// Σw and Σw² of each sample.
    weight: Vec<f64>,
    square: Vec<f64>,
    /// One vector a group, end to end: the covariates of its first row. Means are less it, so that they keep their digits
    /// where covariates lie far from 0 beside how much they vary.
    origin: Vec<f64>,
    /// One vector a sample, end to end.
    mean: Vec<f64>,
    spread: Vec<f64>,
}

/// What is known of one covariate in one sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Less an origin that the samples of a group share.
    pub(crate) mean: f64,
    /// With `Σw − Σw²/Σw` in place of `n − 1`, which it is where all weights are 1; `None` where that is 0.
    pub(crate) variance: Option<f64>,
}

/// The covariates of a batch, and the weight of each row.
pub(crate) struct Covariates {
    pub(crate) values: Weighted,
    pub(crate) weights: Vec<f64>,
}

const SAMPLES: usize = 4;

impl Arms {
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Covariate `k` of the treated or the untreated rows of a group, plain or weighted; `None` without such a row.
    pub(crate) fn get(&self, group: usize, treated: bool, weighted: bool, k: usize) -> Option<Sample> {
        let sample = sample(group, treated, weighted);
        let weight = self.weight[sample];
        let degrees = weight - self.square[sample] / weight;
        (weight > 0.0).then(|| Sample {
            mean: self.mean[sample * self.width + k],
            variance: (degrees > 1e-12 * weight).then(|| self.spread[sample * self.width + k] / degrees),
        })
    }

    fn has_rows(&self, group: usize) -> bool {
        self.weight[group * SAMPLES..][..SAMPLES].iter().any(|weight| *weight > 0.0)
    }

    fn set_width(&mut self, spec: &Spec, width: usize) -> Result<()> {
        if self.width == 0 {
            self.width = width;
            self.resize(self.groups);
        } else if self.width != width {
            return Err(spec.two_widths(self.width, width));
        }
        Ok(())
    }

    /// Adds a sample of total weight `weight` to another.
    fn add_sample(&mut self, at: usize, weight: f64, square: f64, means: &[f64], spreads: Option<&[f64]>) {
        if weight == 0.0 {
            return;
        }
        let before = self.weight[at];
        self.weight[at] += weight;
        self.square[at] += square;
        let fraction = weight / self.weight[at];
        let cells = at * self.width..(at + 1) * self.width;
        let own = self.mean[cells.clone()].iter_mut().zip(&mut self.spread[cells]);
        for (k, (mean, spread)) in own.enumerate() {
            let delta = means[k] - *mean;
            *mean += delta * fraction;
            *spread += delta * delta * fraction * before + spreads.map_or(0.0, |spreads| spreads[k]);
        }
    }

    fn is_finite(&self, at: usize) -> bool {
        self.spread[at * self.width..][..self.width].iter().sum::<f64>().is_finite()
    }

    fn add_rows(&mut self, rows: &Rows<'_>, terms: &Covariates, group: impl Fn(usize) -> usize) -> Result<()> {
        let width = terms.values.width(rows);
        self.set_width(rows.spec, width)?;
        let mut finite = true;
        terms.values.for_each_run(rows, |start, vectors| {
            for (i, vector) in vectors.chunks_exact_mut(width).enumerate() {
                let (row, weight) = (start + i, terms.weights[start + i]);
                let has_rows = self.has_rows(group(row));
                let origin = &mut self.origin[group(row) * width..][..width];
                if !has_rows {
                    origin.copy_from_slice(vector);
                }
                vector.iter_mut().zip(&*origin).for_each(|(x, origin)| *x -= origin);
                let treated = rows.treated()[row] == 1.0;
                for (weighted, weight) in [(false, 1.0), (true, weight)] {
                    let at = sample(group(row), treated, weighted);
                    self.add_sample(at, weight, weight * weight, vector, None);
                    finite &= self.is_finite(at);
                }
            }
        });
        if finite { Ok(()) } else { Err(rows.not_finite()) }
    }
}

fn sample(group: usize, treated: bool, weighted: bool) -> usize {
    group * SAMPLES + 2 * usize::from(treated) + usize::from(weighted)
}

impl State for Arms {
    type Terms = Covariates;

    fn fields() -> Vec<(&'static str, DataType)> {
        let list = lists::list_of::<Float64Type>;
        vec![("weight", list()), ("square", list()), ("origin", list()), ("mean", list()), ("spread", list())]
    }

    fn resize(&mut self, groups: usize) {
        self.groups = groups;
        let samples = groups * SAMPLES;
        self.weight.resize(samples, 0.0);
        self.square.resize(samples, 0.0);
        self.origin.resize(groups * self.width, 0.0);
        self.mean.resize(samples * self.width, 0.0);
        self.spread.resize(samples * self.width, 0.0);
    }

    fn groups(&self) -> usize {
        self.groups
    }

    fn add(&mut self, rows: &Rows<'_>, terms: &Covariates) -> Result<()> {
        self.add_rows(rows, terms, |_| 0)
    }

    fn add_grouped(&mut self, rows: &Rows<'_>, terms: &Covariates, groups: &[usize]) -> Result<()> {
        self.add_rows(rows, terms, |row| groups[row])
    }

    fn merge(&mut self, spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let list = |part: usize| lists::read::<Float64Type>(&states[part]);
        let rows = list(0).zip(list(1)).zip(list(2)).zip(list(3)).zip(list(4)).enumerate();
        for (row, ((((weight, square), origin), mean), spread)) in rows.filter(|(_, ((_, mean), _))| !mean.is_empty()) {
            let width = origin.len();
            self.set_width(spec, width)?;
            let group = group(row);
            let has_rows = self.has_rows(group);
            let own = &mut self.origin[group * width..][..width];
            if !has_rows {
                own.copy_from_slice(origin);
            }
            let by: Vec<f64> = origin.iter().zip(&*own).map(|(other, own)| other - own).collect();
            for sample in 0..SAMPLES {
                let cells = sample * width..(sample + 1) * width;
                let at = group * SAMPLES + sample;
                let mean: Vec<f64> = mean[cells.clone()].iter().zip(&by).map(|(mean, by)| mean + by).collect();
                self.add_sample(at, weight[sample], square[sample], &mean, Some(&spread[cells]));
                if !self.is_finite(at) {
                    return Err(spec.out_of_range());
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Self {
        let emitted = match emit_to {
            EmitTo::All => self.groups,
            EmitTo::First(groups) => groups,
        };
        let first = |values: &mut Vec<f64>, width: usize| lists::take_rows(emit_to, SAMPLES * width, values);
        self.groups -= emitted;
        Self {
            width: self.width,
            groups: emitted,
            weight: first(&mut self.weight, 1),
            square: first(&mut self.square, 1),
            origin: lists::take_rows(emit_to, self.width, &mut self.origin),
            mean: first(&mut self.mean, self.width),
            spread: first(&mut self.spread, self.width),
        }
    }

    fn arrays(self) -> Vec<ArrayRef> {
        let lists = |width: usize, values| lists::write_rows(self.groups, SAMPLES * width, values);
        vec![
            lists(1, self.weight),
            lists(1, self.square),
            lists::write_rows(self.groups, self.width, self.origin),
            lists(self.width, self.mean),
            lists(self.width, self.spread),
        ]
    }

    fn size(&self) -> usize {
        let numbers = self.weight.capacity() + self.square.capacity() + self.origin.capacity();
        let numbers = numbers + self.mean.capacity() + self.spread.capacity();
        numbers * size_of::<f64>()
    }
}
