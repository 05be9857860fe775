//! How φ goes with the error of the weights.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, UInt64Array};
use arrow::datatypes::{DataType, Float64Type, UInt16Type, UInt64Type};
use datafusion_common::Result;
use datafusion_expr::EmitTo;

use super::{ClusterSums, Clusters, State, Weighted, lists};
use crate::args::{Clustering, Membership, Phi, Rows, Spec};

/// What a batch adds, an entry a row each: the error of its weight, and the moments and the bounds that this has if the
/// treatment was drawn with the propensity.
pub(crate) struct EffectTerms {
    /// `a`, such as `o/p − 1`, whose mean is 0 then.
    pub(crate) errors: Vec<f64>,
    /// The means of `a²`, `a³` and `a⁴`.
    pub(crate) moments: [Vec<f64>; 3],
    /// The largest that `a` and `−a` can be.
    pub(crate) bounds: [Vec<f64>; 2],
}

/// The sums of `c·yʲ` that are kept of each element, for the factors c = 1, a, a² and the means of a², a³ and a⁴: how many
/// powers j, from 0. `y` is φ less an origin of the group's; of the constant, it is 0.
const POWERS: [usize; 6] = [5, 4, 3, 3, 4, 5];

/// Sums of an element.
const SUMS: usize = 24;

/// Where the sums of each factor start.
const STARTS: [usize; 6] = [0, 5, 9, 12, 15, 19];

/// Numbers in a cluster's vector that are not of an element: rows, `Σa` and the sum of the means of a².
const LEADS: usize = 3;

/// For each element of φ, behind the constant: sums of the powers of φ, with and without the error of the weight; and by
/// groups of clusters the sums of which the effect is a function.
///
/// Rows are not taken out again: they would leave rounding errors of their weight behind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Effects {
    /// Elements with the constant, 0 until the first row.
    width: usize,
    count: Vec<u64>,
    /// One vector a group, end to end: φ of its first row, and 0 for the constant.
    origin: Vec<f64>,
    /// [`SUMS`] vectors a group, end to end.
    sums: Vec<f64>,
    bounds: Vec<Bounds>,
    clusters: Clusters,
}

/// The smallest and the largest φ of rows whose weights may err about as much, four ranges an octave.
#[derive(Debug, Clone, Default)]
struct Bounds {
    /// The ranges that have a row, in order.
    ranges: Vec<u16>,
    /// Of each range: the largest bounds of `a` and of `−a`, then the smallest, then the largest of each element.
    values: Vec<f64>,
}

impl Bounds {
    fn range(&mut self, range: u16, elements: usize) -> &mut [f64] {
        let stride = 2 + 2 * elements;
        let place = self.ranges.binary_search(&range).unwrap_or_else(|place| {
            self.ranges.insert(place, range);
            let smallest = std::iter::repeat_n(f64::INFINITY, elements);
            let empty = [0.0, 0.0].into_iter().chain(smallest).chain(std::iter::repeat_n(f64::NEG_INFINITY, elements));
            self.values.splice(place * stride..place * stride, empty);
            place
        });
        &mut self.values[place * stride..][..stride]
    }

    fn merge(&mut self, ranges: &[u16], values: &[f64]) {
        let stride = values.len().checked_div(ranges.len()).unwrap_or_default();
        for (&range, values) in ranges.iter().zip(values.chunks_exact(stride.max(1))) {
            let elements = stride / 2 - 1;
            let own = self.range(range, elements);
            for (at, (own, other)) in own.iter_mut().zip(values).enumerate() {
                let is_smallest = (2..2 + elements).contains(&at);
                *own = if is_smallest { own.min(*other) } else { own.max(*other) };
            }
        }
    }

    /// The largest that `a·x` and `−a·x` can be, for `x` an element of φ less an origin and the mean distance to it, or 1.
    fn largest(&self, elements: usize, element: Option<(usize, f64, f64)>) -> [f64; 2] {
        let of_range = |values: &[f64]| {
            let (up, down) = (values[0], values[1]);
            let Some((k, origin, mean)) = element else { return [up, down] };
            let (above, below) = (values[2 + elements + k] - origin - mean, mean - (values[2 + k] - origin));
            [(above * up).max(below * down), (above * down).max(below * up)]
        };
        let ranges = self.values.chunks_exact(2 + 2 * elements).map(of_range);
        ranges.fold([0.0, 0.0], |most, of_range| [0, 1].map(|side| f64::max(most[side], of_range[side])))
    }

    fn size(&self) -> usize {
        self.ranges.capacity() * size_of::<u16>() + self.values.capacity() * size_of::<f64>()
    }
}

/// Four ranges an octave.
fn range_of(bound: f64) -> u16 {
    const MANTISSA_BITS: u32 = 52;
    (bound.to_bits() >> (MANTISSA_BITS - 2)) as u16 & 0x1fff
}

/// Of one element of one group: sums of `c·yʲ`, with `y` its distance to the mean, and what else is known of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effect {
    sums: [f64; SUMS],
    /// `Σ y²` with y the distance to another φ, of which rounding errors are a share.
    pub(crate) unrounded: f64,
    /// The largest that one row's part in `Σ a·y` can be, and in its negative, if its treatment is drawn with its
    /// propensity.
    pub(crate) largest: [f64; 2],
}

impl Effect {
    /// `Σ yʲ`
    pub(crate) fn powers(&self, j: usize) -> f64 {
        self.sums[STARTS[0] + j]
    }

    /// `Σ aⁱ·yʲ` for i = 1 or 2.
    pub(crate) fn errors(&self, i: usize, j: usize) -> f64 {
        self.sums[STARTS[i] + j]
    }

    /// `Σ E[aⁱ]·yʲ` for i from 2 to 4.
    pub(crate) fn moments(&self, i: usize, j: usize) -> f64 {
        self.sums[STARTS[i + 1] + j]
    }
}

/// What is known of one group.
pub(crate) struct GroupEffects<'a> {
    pub(crate) count: u64,
    /// Of the constant, whose `y` is 1 in `powers` and the like at j = 0, and of the elements of φ.
    pub(crate) effects: Vec<Effect>,
    /// Vectors of rows, `Σa`, the sum of the means of a², and for each element of φ in turn `Σ a·y`, `Σ y` and `Σ y²`.
    pub(crate) clusters: Option<ClusterSums<'a>>,
}

impl Effects {
    /// What is known of a group, `None` if it has no row.
    pub(crate) fn get(&self, group: usize) -> Option<GroupEffects<'_>> {
        let count = self.count[group];
        if count == 0 {
            return None;
        }
        let (width, all) = (self.width, &self.sums[group * self.width * SUMS..][..self.width * SUMS]);
        let origin = &self.origin[group * width..][..width];
        let effect = |k: usize| {
            let mut sums: [f64; SUMS] = std::array::from_fn(|s| all[s * width + k]);
            let (mean, unrounded) = (sums[1] / sums[0], sums[2]);
            shift(&mut sums, -mean);
            let element = (k > 0).then(|| (k - 1, origin[k], mean));
            Effect { sums, unrounded, largest: self.bounds[group].largest(width - 1, element) }
        };
        let effects = (0..width).map(effect).collect();
        Some(GroupEffects { count, effects, clusters: self.clusters.get(group) })
    }

    fn set_width(&mut self, spec: &Spec, width: usize) -> Result<()> {
        if self.width == 0 {
            self.width = width;
            self.resize(self.count.len());
        } else if self.width != width {
            return Err(spec.two_widths(self.width, width));
        }
        Ok(())
    }

    fn add_rows(&mut self, rows: &Rows<'_>, terms: &EffectTerms, group: impl Fn(usize) -> usize) -> Result<()> {
        let elements = if matches!(rows.phi, Phi::One) { 0 } else { rows.phi.width() };
        let width = 1 + elements;
        self.set_width(rows.spec, width)?;
        let membership = rows.membership()?;
        if let Some(Membership { groups, .. }) = &membership {
            for row in 0..rows.len() {
                self.clusters.join(rows.spec, group(row), *groups)?;
            }
        }
        let phi = match elements {
            0 => Weighted::leads([vec![0.0; rows.len()]]),
            _ => Weighted { leads: vec![vec![0.0; rows.len()]], weights: vec![vec![1.0; rows.len()]] },
        };
        let [second, third, fourth] = &terms.moments;
        let mut scratch = vec![0.0; 5 * width];
        let mut finite = true;
        phi.for_each_run(rows, |start, vectors| {
            for (row, y) in (start..).zip(vectors.chunks_exact_mut(width)) {
                let (group, a) = (group(row), terms.errors[row]);
                let bounds = [terms.bounds[0][row], terms.bounds[1][row]];
                let range = self.bounds[group].range(range_of(bounds[0].max(bounds[1])), elements);
                for (own, bound) in range.iter_mut().zip(bounds) {
                    *own = own.max(bound);
                }
                let (smallest, largest) = range[2..].split_at_mut(elements);
                smallest.iter_mut().zip(&y[1..]).for_each(|(own, phi)| *own = own.min(*phi));
                largest.iter_mut().zip(&y[1..]).for_each(|(own, phi)| *own = own.max(*phi));

                let origin = &mut self.origin[group * width..][..width];
                if self.count[group] == 0 {
                    origin.copy_from_slice(y);
                }
                self.count[group] += 1;
                y.iter_mut().zip(&*origin).for_each(|(y, origin)| *y -= origin);
                let sums = &mut self.sums[group * width * SUMS..][..width * SUMS];
                add_powers(sums, y, &mut scratch, [1.0, a, a * a, second[row], third[row], fourth[row]]);
                finite &= (0..width).all(|k| sums[4 * width + k].is_finite() & sums[23 * width + k].is_finite());

                if let Some(Membership { keys, .. }) = &membership {
                    for keys in keys {
                        let cell = self.clusters.cells_mut(group).cell(keys[row], LEADS + 3 * elements);
                        cell[0] += 1.0;
                        cell[1] += a;
                        cell[2] += second[row];
                        for (sums, y) in cell[LEADS..].chunks_exact_mut(3).zip(&y[1..]) {
                            sums[0] += a * y;
                            sums[1] += y;
                            sums[2] += y * y;
                        }
                    }
                }
            }
        });
        if finite { Ok(()) } else { Err(rows.not_finite()) }
    }
}

/// Adds a row to the sums of each element, which lie in vectors of one sum each.
fn add_powers(sums: &mut [f64], y: &[f64], powers: &mut [f64], factors: [f64; 6]) {
    let width = y.len();
    powers[..width].fill(1.0);
    for j in 1..5 {
        let (before, power) = powers.split_at_mut(j * width);
        let before = &before[(j - 1) * width..];
        power[..width].iter_mut().zip(before).zip(y).for_each(|((power, before), y)| *power = before * y);
    }
    for ((factor, start), count) in factors.into_iter().zip(STARTS).zip(POWERS) {
        let sums = &mut sums[start * width..][..count * width];
        sums.iter_mut().zip(&*powers).for_each(|(sum, power)| *sum += factor * power);
    }
}

/// The sums of an element around an origin that lies `by` further from all rows, of those around another.
fn shift(sums: &mut [f64; SUMS], by: f64) {
    for (start, count) in STARTS.into_iter().zip(POWERS) {
        let family = &mut sums[start..][..count];
        // Horner's scheme for a shift by `by`: after pass i, the last entries hold binomial sums.
        for pass in 1..count {
            for j in (pass..count).rev() {
                family[j] += by * family[j - 1];
            }
        }
    }
}

/// The same of a cluster's vector, for all elements.
fn shift_cell(cell: &mut [f64], by: &[f64]) {
    let (rows, errors) = (cell[0], cell[1]);
    for (sums, by) in cell[LEADS..].chunks_exact_mut(3).zip(by) {
        sums[0] += by * errors;
        sums[2] += by * (2.0 * sums[1] + by * rows);
        sums[1] += by * rows;
    }
}

impl State for Effects {
    type Terms = EffectTerms;

    fn new(clustering: Clustering) -> Self {
        Self { clusters: Clusters::new(clustering != Clustering::Independent), ..Self::default() }
    }

    fn fields() -> Vec<(&'static str, DataType)> {
        let list = lists::list_of::<Float64Type>;
        vec![
            ("count", DataType::UInt64),
            ("origin", list()),
            ("sums", list()),
            ("ranges", lists::list_of::<UInt16Type>()),
            ("bounds", list()),
        ]
    }

    fn cluster_fields(clustering: Clustering) -> Vec<(&'static str, DataType)> {
        Clusters::fields_if(clustering != Clustering::Independent)
    }

    fn resize(&mut self, groups: usize) {
        self.count.resize(groups, 0);
        self.origin.resize(groups * self.width, 0.0);
        self.sums.resize(groups * self.width * SUMS, 0.0);
        self.bounds.resize_with(groups, Bounds::default);
        self.clusters.resize(groups);
    }

    fn groups(&self) -> usize {
        self.count.len()
    }

    fn add(&mut self, rows: &Rows<'_>, terms: &EffectTerms) -> Result<()> {
        self.add_rows(rows, terms, |_| 0)
    }

    fn add_grouped(&mut self, rows: &Rows<'_>, terms: &EffectTerms, groups: &[usize]) -> Result<()> {
        self.add_rows(rows, terms, |row| groups[row])
    }

    fn merge(&mut self, spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let counts = states[0].as_primitive::<UInt64Type>().values().iter();
        let list = |at: usize| lists::read::<Float64Type>(&states[at]);
        let bounds = lists::read::<UInt16Type>(&states[3]).zip(list(4));
        let mut clusters = self.clusters.is_kept().then(|| Clusters::read(&states[5..]));
        for (i, (((&count, origin), sums), (ranges, bounds))) in
            counts.zip(list(1)).zip(list(2)).zip(bounds).enumerate()
        {
            let cells = clusters.as_mut().and_then(Iterator::next);
            if count == 0 {
                continue;
            }
            let width = origin.len();
            self.set_width(spec, width)?;
            let group = group(i);
            let own = &mut self.origin[group * width..][..width];
            if self.count[group] == 0 {
                own.copy_from_slice(origin);
            }
            self.count[group] += count;
            let by: Vec<f64> = origin.iter().zip(&*own).map(|(other, own)| other - own).collect();
            let own = &mut self.sums[group * width * SUMS..][..width * SUMS];
            for (k, by) in by.iter().enumerate() {
                let mut others: [f64; SUMS] = std::array::from_fn(|s| sums[s * width + k]);
                shift(&mut others, *by);
                (0..SUMS).for_each(|s| own[s * width + k] += others[s]);
            }
            if !own.iter().all(|sum| sum.is_finite()) {
                return Err(spec.out_of_range());
            }
            self.bounds[group].merge(ranges, bounds);
            if let Some((groups, keys, sums)) = cells {
                let mut sums = sums.to_vec();
                let stride = sums.len().checked_div(keys.len()).unwrap_or_default();
                sums.chunks_exact_mut(stride.max(1)).for_each(|cell| shift_cell(cell, &by[1..]));
                self.clusters.join(spec, group, groups)?.add(keys, &sums);
            }
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Self {
        Self {
            width: self.width,
            count: emit_to.take_needed(&mut self.count),
            origin: lists::take_rows(emit_to, self.width, &mut self.origin),
            sums: lists::take_rows(emit_to, self.width * SUMS, &mut self.sums),
            bounds: emit_to.take_needed(&mut self.bounds),
            clusters: self.clusters.take(emit_to),
        }
    }

    fn arrays(self) -> Vec<ArrayRef> {
        let groups = self.count.len();
        let bounds = || self.bounds.iter();
        let ranges = lists::write::<UInt16Type>(bounds().map(|bounds| bounds.ranges.iter().copied()));
        let values = lists::write::<Float64Type>(bounds().map(|bounds| bounds.values.iter().copied()));
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(self.count)),
            lists::write_rows(groups, self.width, self.origin),
            lists::write_rows(groups, self.width * SUMS, self.sums),
            ranges,
            values,
        ];
        arrays.extend(self.clusters.arrays());
        arrays
    }

    fn size(&self) -> usize {
        let bounds: usize = self.bounds.iter().map(Bounds::size).sum();
        let numbers = self.count.capacity() + self.origin.capacity() + self.sums.capacity();
        numbers * size_of::<f64>() + self.bounds.capacity() * size_of::<Bounds>() + bounds + self.clusters.size()
    }
}
