//! Propensities and treatments in bins: of equal width as rows come, of equal mass when all have come.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, UInt64Array};
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use datafusion_common::{Result, internal_err};
use datafusion_expr::EmitTo;

use super::sum::Sum;
use super::{Retract, Sample, Samples, State, Trimmed, lists};
use crate::args::{Rows, Spec};

/// What each row adds: its bin of equal width, or all of its own, to sort it into a bin of equal mass in the end.
pub(crate) enum BinnedTerms {
    Width(Vec<usize>),
    Mass(Vec<Sample>),
}

/// Rows of one bin.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bin {
    pub(crate) count: u64,
    pub(crate) treated: u64,
    propensity: Sum,
}

impl Bin {
    /// Σp
    pub(crate) fn propensity(&self) -> f64 {
        self.propensity.value()
    }

    /// Adds `count` rows of one propensity.
    pub(crate) fn add_many(&mut self, count: u64, treated: u64, propensity: f64) {
        self.count += count;
        self.treated += treated;
        self.propensity.add(count as f64 * propensity);
    }

    fn add(&mut self, treated: bool, propensity: f64) {
        self.count += 1;
        self.treated += u64::from(treated);
        self.propensity.add(propensity);
    }

    fn retract(&mut self, treated: bool, propensity: f64) {
        self.count -= 1;
        self.treated -= u64::from(treated);
        self.propensity.add(-propensity);
        if self.count == 0 {
            *self = Self::default();
        }
    }
}

/// Bins of each group; of a call, only those of equal width or only the samples are filled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Binned {
    bins: Vec<Trimmed<Bin>>,
    samples: Samples,
}

impl Binned {
    /// The bins of equal width of a group.
    pub(crate) fn bins(&self, group: usize) -> &Trimmed<Bin> {
        &self.bins[group]
    }

    /// The samples of a group, for bins of equal mass.
    pub(crate) fn samples(&self, group: usize) -> Vec<Sample> {
        self.samples.sorted(group)
    }

    fn each(rows: &Rows<'_>, bins: &[usize], mut visit: impl FnMut(usize, usize, bool, f64)) {
        for (i, ((&bin, &o), &p)) in bins.iter().zip(rows.treated()).zip(rows.propensity()).enumerate() {
            visit(i, bin, o == 1.0, p);
        }
    }

    /// Of bins of equal width.
    fn retract(&mut self, rows: &Rows<'_>, terms: &BinnedTerms) -> Result<()> {
        let BinnedTerms::Width(bins) = terms else {
            return internal_err!("samples for bins of equal mass are not taken out again");
        };
        Self::each(rows, bins, |_, bin, o, p| self.bins[0].cell(bin).retract(o, p));
        Ok(())
    }
}

impl State for Binned {
    type Terms = BinnedTerms;

    const RETRACT: Option<Retract<Self>> = Some(Self::retract);

    fn fields() -> Vec<(&'static str, DataType)> {
        let bins = [
            ("first", DataType::UInt64),
            ("count", lists::list_of::<UInt64Type>()),
            ("treated", lists::list_of::<UInt64Type>()),
            ("propensity", lists::list_of::<Float64Type>()),
        ];
        bins.into_iter().chain(Samples::fields()).collect()
    }

    fn resize(&mut self, groups: usize) {
        self.bins.resize_with(groups, Trimmed::default);
        self.samples.resize(groups);
    }

    fn groups(&self) -> usize {
        self.bins.len()
    }

    fn add(&mut self, rows: &Rows<'_>, terms: &BinnedTerms) -> Result<()> {
        match terms {
            BinnedTerms::Width(bins) => Self::each(rows, bins, |_, bin, o, p| self.bins[0].cell(bin).add(o, p)),
            BinnedTerms::Mass(samples) => self.samples.add(rows, samples)?,
        }
        Ok(())
    }

    fn add_grouped(&mut self, rows: &Rows<'_>, terms: &BinnedTerms, groups: &[usize]) -> Result<()> {
        match terms {
            BinnedTerms::Width(bins) => {
                Self::each(rows, bins, |i, bin, o, p| self.bins[groups[i]].cell(bin).add(o, p));
            }
            BinnedTerms::Mass(samples) => self.samples.add_grouped(rows, samples, groups)?,
        }
        Ok(())
    }

    fn merge(&mut self, spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let (bins, samples) = states.split_at(4);
        let firsts = bins[0].as_primitive::<UInt64Type>().values().iter();
        let counts = lists::read::<UInt64Type>(&bins[1]).zip(lists::read::<UInt64Type>(&bins[2]));
        let bins = firsts.zip(counts).zip(lists::read::<Float64Type>(&bins[3]));
        for (i, ((&first, (counts, treated)), propensities)) in bins.enumerate() {
            let own = &mut self.bins[group(i)];
            for at in (0..counts.len()).filter(|&at| counts[at] > 0) {
                let bin = own.cell(first as usize + at);
                bin.count += counts[at];
                bin.treated += treated[at];
                bin.propensity.add(propensities[at]);
            }
        }
        self.samples.merge(spec, samples, group)
    }

    fn take(&mut self, emit_to: EmitTo) -> Self {
        Self { bins: emit_to.take_needed(&mut self.bins), samples: self.samples.take(emit_to) }
    }

    fn arrays(self) -> Vec<ArrayRef> {
        let counts =
            |f: fn(&Bin) -> u64| lists::write::<UInt64Type>(self.bins.iter().map(|bins| bins.cells().iter().map(f)));
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(self.bins.iter().map(Trimmed::first))),
            counts(|bin| bin.count),
            counts(|bin| bin.treated),
            lists::write::<Float64Type>(self.bins.iter().map(|bins| bins.cells().iter().map(Bin::propensity))),
        ];
        arrays.extend(self.samples.arrays());
        arrays
    }

    fn size(&self) -> usize {
        let cells: usize = self.bins.iter().map(Trimmed::size).sum();
        self.bins.capacity() * size_of::<Trimmed<Bin>>() + cells + self.samples.size()
    }
}
