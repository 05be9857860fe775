//! Bins of rows with alike propensities.

use crate::args::{Call, Role, Rows};
use crate::state::{Bin, Binned, BinnedTerms, Sample, arms, ties};

/// A bin that is not empty, and the propensities it is for.
pub(super) struct Calibrated {
    pub(super) lower: f64,
    pub(super) upper: f64,
    pub(super) bin: Bin,
}

impl Calibrated {
    pub(super) fn mean_propensity(&self) -> f64 {
        self.bin.propensity() / self.bin.count as f64
    }

    pub(super) fn treated_rate(&self) -> f64 {
        self.bin.treated as f64 / self.bin.count as f64
    }
}

fn of_equal_mass(call: &Call) -> bool {
    call.literal(Role::Binning) == 1.0
}

pub(super) fn retracts(call: &Call) -> bool {
    !of_equal_mass(call)
}

pub(super) fn terms(rows: &Rows<'_>, call: &Call) -> BinnedTerms {
    let bins = call.literal(Role::Bins);
    if of_equal_mass(call) {
        return BinnedTerms::Mass(propensity_samples(rows));
    }
    BinnedTerms::Width(rows.propensity().iter().map(|&p| bin_of(p, bins)).collect())
}

/// The propensity of each row.
pub(super) fn propensity_samples(rows: &Rows<'_>) -> Vec<Sample> {
    rows.treated().iter().zip(rows.propensity()).map(|(&o, &p)| Sample::new(p, o, 1.0)).collect()
}

/// The number k of the bin from `k/bins` up to `(k + 1)/bins`; the last one is closed.
fn bin_of(p: f64, bins: f64) -> usize {
    let near = (p * bins).floor();
    // The product is rounded, and may have crossed a bound.
    let bin = match near {
        k if p < k / bins => k - 1.0,
        k if p >= (k + 1.0) / bins => k + 1.0,
        k => k,
    };
    bin.min(bins - 1.0) as usize
}

/// The bins of a group that are not empty, in order.
pub(super) fn calibration(state: &Binned, group: usize, call: &Call) -> Vec<Calibrated> {
    let bins = call.literal(Role::Bins);
    if of_equal_mass(call) {
        return equal_masses(&state.samples(group), bins as usize);
    }
    let used = state.bins(group).iter().filter(|(_, bin)| bin.count > 0);
    used.map(|(k, &bin)| Calibrated { lower: k as f64 / bins, upper: (k + 1) as f64 / bins, bin }).collect()
}

/// Cuts sorted samples into `bins` of as many rows each; rows of one propensity stay together, in the bin that the
/// middle of them falls into.
fn equal_masses(sorted: &[Sample], bins: usize) -> Vec<Calibrated> {
    let mut result: Vec<Calibrated> = Vec::new();
    let (mut start, mut last) = (0, None);
    for tie in ties(sorted) {
        let k = (2 * start + tie.len()) * bins / (2 * sorted.len());
        start += tie.len();
        let p = tie[0].value;
        if last != Some(k) {
            result.push(Calibrated { lower: p, upper: p, bin: Bin::default() });
            last = Some(k);
        }
        if let Some(current) = result.last_mut() {
            current.upper = p;
            let [_, treated] = arms(tie);
            current.bin.add_many(tie.len() as u64, treated, p);
        }
    }
    result
}
