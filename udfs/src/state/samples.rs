//! The values of treated and untreated rows, all of them.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::Result;
use datafusion_expr::EmitTo;

use super::{State, lists};
use crate::args::{Rows, Spec};

/// A row's value, and how much it weighs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) value: f64,
    /// Above 0 where the row is treated, below where it is not.
    signed_weight: f64,
}

impl Sample {
    pub(crate) fn new(value: f64, treated: f64, weight: f64) -> Self {
        Self { value, signed_weight: if treated == 1.0 { weight } else { -weight } }
    }

    pub(crate) fn is_treated(&self) -> bool {
        self.signed_weight > 0.0
    }

    pub(crate) fn weight(&self) -> f64 {
        self.signed_weight.abs()
    }
}

/// The samples of each group, in no order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples {
    groups: Vec<Vec<Sample>>,
}

impl Samples {
    /// The samples of a group by value; of one value, by weight, so that sums do not depend on the order of rows.
    pub(crate) fn sorted(&self, group: usize) -> Vec<Sample> {
        let mut samples = self.groups[group].clone();
        samples.sort_unstable_by(|a, b| {
            a.value.total_cmp(&b.value).then_with(|| a.signed_weight.total_cmp(&b.signed_weight))
        });
        samples
    }
}

/// Counts of the untreated and of the treated among some samples.
pub(crate) fn arms(samples: &[Sample]) -> [u64; 2] {
    let treated = samples.iter().filter(|sample| sample.is_treated()).count();
    [(samples.len() - treated) as u64, treated as u64]
}

/// Runs of equal values of sorted samples.
pub(crate) fn ties(sorted: &[Sample]) -> impl Iterator<Item = &[Sample]> {
    sorted.chunk_by(|a, b| a.value == b.value)
}

fn check(rows: &Rows<'_>, samples: &[Sample]) -> Result<()> {
    let finite = samples.iter().fold(true, |ok, s| ok & s.value.is_finite() & s.signed_weight.is_finite());
    if finite { Ok(()) } else { Err(rows.not_finite()) }
}

impl State for Samples {
    type Terms = Vec<Sample>;

    fn fields() -> Vec<(&'static str, DataType)> {
        vec![("value", lists::list_of::<Float64Type>()), ("signed_weight", lists::list_of::<Float64Type>())]
    }

    fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, Vec::new);
    }

    fn groups(&self) -> usize {
        self.groups.len()
    }

    fn add(&mut self, rows: &Rows<'_>, terms: &Vec<Sample>) -> Result<()> {
        check(rows, terms)?;
        self.groups[0].extend_from_slice(terms);
        Ok(())
    }

    fn add_grouped(&mut self, rows: &Rows<'_>, terms: &Vec<Sample>, groups: &[usize]) -> Result<()> {
        check(rows, terms)?;
        for (&sample, &group) in terms.iter().zip(groups) {
            self.groups[group].push(sample);
        }
        Ok(())
    }

    fn merge(&mut self, _spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let values = lists::read::<Float64Type>(&states[0]);
        let weights = lists::read::<Float64Type>(&states[1]);
        for (i, (values, weights)) in values.zip(weights).enumerate() {
            let samples = values.iter().zip(weights).map(|(&value, &signed_weight)| Sample { value, signed_weight });
            self.groups[group(i)].extend(samples);
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Self {
        Self { groups: emit_to.take_needed(&mut self.groups) }
    }

    fn arrays(self) -> Vec<ArrayRef> {
        let column = |f: fn(&Sample) -> f64| lists::write::<Float64Type>(self.groups.iter().map(|g| g.iter().map(f)));
        vec![column(|sample| sample.value), column(|sample| sample.signed_weight)]
    }

    fn size(&self) -> usize {
        let samples: usize = self.groups.iter().map(Vec::capacity).sum();
        self.groups.capacity() * size_of::<Vec<Sample>>() + samples * size_of::<Sample>()
    }
}
