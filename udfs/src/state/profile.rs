//! What a column of propensities looks like, whatever is in it.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, UInt64Array};
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use datafusion_common::Result;
use datafusion_expr::EmitTo;

use super::sum::Sum;
use super::{State, Trimmed, lists};
use crate::args::{Rows, Spec};

/// The bounds beyond which propensities are counted.
pub(crate) struct Bounds {
    pub(crate) lower: f64,
    pub(crate) upper: f64,
}

/// Below this a treated row's weight `1/p` counts as a division by 0: so large a weight has a square whose sums would
/// leave the range of a float.
pub(crate) const LEAST_TREATED: f64 = 1e-100;

/// Counts of rows by what they are; the propensities' sum, extremes and histogram; and the sums of the weights `1/p`.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) counts: Counts,
    propensity: Sum,
    weight: Sum,
    square: Sum,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) max_weight: f64,
    buckets: Trimmed<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Rows that are neither missing nor invalid; all other numbers are about these.
    pub(crate) valid: u64,
    pub(crate) treated: u64,
    pub(crate) below: u64,
    pub(crate) above: u64,
    pub(crate) missing: u64,
    pub(crate) invalid: u64,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            counts: Counts::default(),
            propensity: Sum::default(),
            weight: Sum::default(),
            square: Sum::default(),
            min: 1.0,
            max: 0.0,
            max_weight: 0.0,
            buckets: Trimmed::default(),
        }
    }
}

impl Profile {
    /// Whether no row has come, good or bad.
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.valid + self.counts.missing + self.counts.invalid == 0
    }

    /// Σp
    pub(crate) fn propensity(&self) -> f64 {
        self.propensity.value()
    }

    /// Kish's effective sample size of the weights of treated rows.
    pub(crate) fn ess(&self) -> Option<f64> {
        let sum = self.weight.value();
        (self.counts.treated > 0).then(|| sum * (sum / self.square.value()))
    }

    /// A propensity close to the one of rank `⌊share·(n − 1)⌋`, counted from 0.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let rank = (share * self.counts.valid.checked_sub(1)? as f64) as u64;
        let mut seen = 0;
        let mut reached = self.buckets.iter().filter_map(|(at, count)| {
            seen += count;
            (seen > rank).then_some(at)
        });
        reached.next().map(|at| middle(at).clamp(self.min, self.max))
    }

    fn add(&mut self, bounds: &Bounds, treated: f64, p: f64) {
        let is_treated = treated == 1.0;
        let valid = (is_treated | (treated == 0.0)) & (0.0..=1.0).contains(&p) & !(is_treated & (p < LEAST_TREATED));
        if !valid {
            self.counts.invalid += 1;
            return;
        }
        self.counts.valid += 1;
        self.counts.below += u64::from(p < bounds.lower);
        self.counts.above += u64::from(p > bounds.upper);
        self.propensity.add(p);
        self.min = self.min.min(p);
        self.max = self.max.max(p);
        *self.buckets.cell(bucket(p)) += 1;
        if is_treated {
            self.counts.treated += 1;
            let weight = 1.0 / p;
            self.weight.add(weight);
            self.square.add(weight * weight);
            self.max_weight = self.max_weight.max(weight);
        }
    }
}

/// Relative accuracy of quantiles.
const ACCURACY: f64 = 0.01;

/// Quotient of the bounds of a bucket: all its numbers are within [`ACCURACY`] of its middle.
const GROWTH: f64 = (1.0 + ACCURACY) / (1.0 - ACCURACY);

/// Numbers below have a bucket together.
const LEAST: f64 = 1e-12;

/// How many buckets are below 1: `⌈ln(1/LEAST) / ln(GROWTH)⌉`.
const BUCKETS: usize = 1382;

/// The bucket of a propensity: those in the `i`-th but the first are above `GROWTH^(i − 1 − BUCKETS)`, up to `GROWTH`
/// times that.
fn bucket(p: f64) -> usize {
    if p < LEAST { 0 } else { (BUCKETS as f64 + (p.ln() / GROWTH.ln()).ceil()).max(1.0) as usize }
}

/// The number from which those in a bucket differ least, relative to themselves.
fn middle(bucket: usize) -> f64 {
    match bucket {
        0 => 0.0,
        i => 2.0 / (GROWTH + 1.0) * GROWTH.powi(i as i32 - BUCKETS as i32),
    }
}

/// The profile of each group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Profiles {
    groups: Vec<Profile>,
}

impl Profiles {
    pub(crate) fn get(&self, group: usize) -> &Profile {
        &self.groups[group]
    }

    fn add_rows(&mut self, rows: &Rows<'_>, bounds: &Bounds, group: impl Fn(usize) -> usize) {
        for (i, (&o, &p)) in rows.treated().iter().zip(rows.propensity()).enumerate() {
            let profile = &mut self.groups[group(i)];
            match rows.is_missing(i) {
                true => profile.counts.missing += 1,
                false => profile.add(bounds, o, p),
            }
        }
    }
}

type Count = (&'static str, fn(&mut Counts) -> &mut u64);

const COUNTS: [Count; 6] = [
    ("valid", |counts| &mut counts.valid),
    ("treated", |counts| &mut counts.treated),
    ("below", |counts| &mut counts.below),
    ("above", |counts| &mut counts.above),
    ("missing", |counts| &mut counts.missing),
    ("invalid", |counts| &mut counts.invalid),
];

type Number = (&'static str, fn(&Profile) -> f64, fn(&mut Profile, f64));

const NUMBERS: [Number; 6] = [
    ("propensity", |profile| profile.propensity.value(), |profile, other| profile.propensity.add(other)),
    ("weight", |profile| profile.weight.value(), |profile, other| profile.weight.add(other)),
    ("square", |profile| profile.square.value(), |profile, other| profile.square.add(other)),
    ("min", |profile| profile.min, |profile, other| profile.min = profile.min.min(other)),
    ("max", |profile| profile.max, |profile, other| profile.max = profile.max.max(other)),
    ("max_weight", |profile| profile.max_weight, |profile, other| profile.max_weight = profile.max_weight.max(other)),
];

impl State for Profiles {
    type Terms = Bounds;

    fn fields() -> Vec<(&'static str, DataType)> {
        let counts = COUNTS.map(|(name, _)| (name, DataType::UInt64));
        let numbers = NUMBERS.map(|(name, ..)| (name, DataType::Float64));
        let buckets = [("first", DataType::UInt64), ("buckets", lists::list_of::<UInt64Type>())];
        counts.into_iter().chain(numbers).chain(buckets).collect()
    }

    fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, Profile::default);
    }

    fn groups(&self) -> usize {
        self.groups.len()
    }

    fn add(&mut self, rows: &Rows<'_>, bounds: &Bounds) -> Result<()> {
        self.add_rows(rows, bounds, |_| 0);
        Ok(())
    }

    fn add_grouped(&mut self, rows: &Rows<'_>, bounds: &Bounds, groups: &[usize]) -> Result<()> {
        self.add_rows(rows, bounds, |row| groups[row]);
        Ok(())
    }

    fn merge(&mut self, _spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let (counts, rest) = states.split_at(COUNTS.len());
        let (numbers, buckets) = rest.split_at(NUMBERS.len());
        let counts = COUNTS.iter().zip(counts).map(|((_, count), array)| (count, array.as_primitive::<UInt64Type>()));
        for (count, array) in counts {
            array.values().iter().enumerate().for_each(|(i, other)| *count(&mut self.groups[group(i)].counts) += other);
        }
        for ((_, _, merge), array) in NUMBERS.iter().zip(numbers) {
            let array = array.as_primitive::<Float64Type>();
            array.values().iter().enumerate().for_each(|(i, &other)| merge(&mut self.groups[group(i)], other));
        }
        let firsts = buckets[0].as_primitive::<UInt64Type>().values().iter();
        for (i, (&first, counts)) in firsts.zip(lists::read::<UInt64Type>(&buckets[1])).enumerate() {
            let own = &mut self.groups[group(i)].buckets;
            counts.iter().enumerate().for_each(|(at, count)| *own.cell(first as usize + at) += count);
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Self {
        Self { groups: emit_to.take_needed(&mut self.groups) }
    }

    fn arrays(mut self) -> Vec<ArrayRef> {
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for (_, count) in COUNTS {
            let counts = self.groups.iter_mut().map(|profile| *count(&mut profile.counts));
            arrays.push(Arc::new(UInt64Array::from_iter_values(counts)));
        }
        for (_, number, _) in NUMBERS {
            arrays.push(Arc::new(Float64Array::from_iter_values(self.groups.iter().map(number))));
        }
        let buckets = self.groups.iter().map(|profile| &profile.buckets);
        arrays.push(Arc::new(UInt64Array::from_iter_values(buckets.clone().map(Trimmed::first))));
        arrays.push(lists::write::<UInt64Type>(buckets.map(|buckets| buckets.cells().iter().copied())));
        arrays
    }

    fn size(&self) -> usize {
        let buckets: usize = self.groups.iter().map(|profile| profile.buckets.size()).sum();
        self.groups.capacity() * size_of::<Profile>() + buckets
    }
}
