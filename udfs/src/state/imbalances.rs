//! The mean of w·φ, and its moments under true propensities.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::{Result, exec_err};
use datafusion_expr::EmitTo;

use super::clusters::Vectors;
use super::moments::{Moment, Moments};
use super::packed::is_full;
use super::pivoted::{Batch, Layout, MeanMoments};
use super::{ClusterSums, Clustered, State, Weighted, lists};
use crate::args::{Rows, Spec};

/// [`Moments`] of `w·φ`, and the sums of which its moments follow, had the treatments been drawn with the propensities:
/// those of [`super::pivoted`], with `m = 1/(p(1−p))` the mean of `w²` and `f = m²(m − 6)` the fourth cumulant of `w`.
///
/// The origin of a group is φ of its first row. Rows are not taken out again: what a heavy row added would leave its
/// rounding error behind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Imbalances {
    moments: Moments,
    /// φ of the first row of each group, end to end.
    origin: Vec<f64>,
    /// The sums of each group, end to end.
    sums: Vec<f64>,
}

/// The imbalance of one group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Imbalance<'a> {
    pub(crate) count: u64,
    pub(crate) mean: &'a [f64],
    /// Σ‖w·φ − mean‖².
    pub(crate) spread: f64,
    pub(crate) origin: &'a [f64],
    pub(crate) sums: &'a [f64],
    /// Of rows that belong together, the sums of `w·φ` by groups of clusters.
    pub(crate) clusters: Option<ClusterSums<'a>>,
}

/// What a batch adds.
pub(crate) struct ImbalanceTerms {
    /// `w·φ`.
    pub(crate) imbalance: Weighted,
    /// `φ`.
    pub(crate) phi: Weighted,
    /// `m`, `w` and `f`, for each row.
    pub(crate) weights: [Vec<f64>; 3],
}

impl<'a> Imbalance<'a> {
    /// An imbalance, if its parts fit together.
    pub(crate) fn fitting(self) -> Option<Imbalance<'a>> {
        let (width, layout) = (self.mean.len(), Layout::new(self.mean.len()));
        let fits = width > 0 && self.origin.len() == width && self.sums.len() == layout.len();
        let fits = fits && self.clusters.is_none_or(|clusters| clusters.fit(1 + width));
        (fits && self.spread >= 0.0 && self.sums[0] > 0.0 && layout.is_sound(self.sums)).then_some(self)
    }
}

impl Imbalance<'_> {
    /// Moments of the mean of `w·φ`.
    pub(crate) fn moments_of_mean(&self) -> MeanMoments {
        MeanMoments::new(self.count, self.origin, self.sums)
    }
}

impl Imbalances {
    /// The imbalance of a group, `None` if it has no row.
    pub(crate) fn get(&self, group: usize) -> Option<Imbalance<'_>> {
        let Moment { count, mean, spread } = self.moments.get(group)?;
        let (origin, sums) = (&self.origin[self.origin_of(group)], &self.sums[self.sums_of(group)]);
        Some(Imbalance { count, mean, spread, origin, sums, clusters: None })
    }

    /// Adds a group's rows to another.
    ///
    /// # Errors
    /// Where their φ are of two widths, or the sums leave the range of their types.
    pub(crate) fn add_one(&mut self, spec: &Spec, group: usize, other: &Imbalance<'_>) -> Result<()> {
        let own = self.moments.get(group).map(|own| own.count);
        if own.is_some_and(|own| own.checked_add(other.count).is_none()) {
            return exec_err!("{}: the rows of the states are more than 64 bits can count", spec.name);
        }
        let Imbalance { count, mean, spread, origin, sums, .. } = *other;
        self.moments.add_one(spec, group, &Moment { count, mean, spread })?;
        self.make_room();
        let (own_origin, own_sums) = (self.origin_of(group), self.sums_of(group));
        if own.is_none() {
            self.origin[own_origin].copy_from_slice(origin);
            self.sums[own_sums.clone()].copy_from_slice(sums);
        } else {
            let by: Vec<f64> = origin.iter().zip(&self.origin[own_origin]).map(|(other, own)| other - own).collect();
            let others = self.layout().shifted(sums, &by);
            self.sums[own_sums.clone()].iter_mut().zip(others).for_each(|(own, other)| *own += other);
        }
        if self.layout().is_sound(&self.sums[own_sums]) { Ok(()) } else { Err(spec.out_of_range()) }
    }

    fn layout(&self) -> Layout {
        Layout::new(self.moments.width())
    }

    fn origin_of(&self, group: usize) -> std::ops::Range<usize> {
        let width = self.moments.width();
        group * width..(group + 1) * width
    }

    fn sums_of(&self, group: usize) -> std::ops::Range<usize> {
        let length = self.sums_length();
        group * length..(group + 1) * length
    }

    /// Sums of a group; none before there is a row.
    fn sums_length(&self) -> usize {
        if self.moments.width() == 0 { 0 } else { self.layout().len() }
    }

    /// Holds as many numbers as the groups and the width need.
    fn make_room(&mut self) {
        self.origin.resize(self.moments.groups() * self.moments.width(), 0.0);
        self.sums.resize(self.moments.groups() * self.sums_length(), 0.0);
    }

    fn is_sound(&self, group: usize) -> bool {
        self.layout().is_sound(&self.sums[self.sums_of(group)])
    }
}

impl State for Imbalances {
    type Terms = ImbalanceTerms;

    fn fields() -> Vec<(&'static str, DataType)> {
        let list = lists::list_of::<Float64Type>;
        let mut fields = Moments::fields();
        fields.extend([("origin", list()), ("sums", list())]);
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
        let is_first = self.moments.get(0).is_none();
        self.moments.add(rows, &terms.imbalance)?;
        self.make_room();
        let (width, layout, [m, w, f]) = (self.moments.width(), self.layout(), &terms.weights);
        let (origin, sums) = (&mut self.origin[..], &mut self.sums[..]);
        let mut batch = is_full(width).then(|| Batch::new(width));
        terms.phi.for_each_run(rows, |start, vectors| {
            if is_first && start == 0 {
                origin.copy_from_slice(&vectors[..width]);
            }
            let count = vectors.len() / width;
            for vector in vectors.chunks_exact_mut(width) {
                vector.iter_mut().zip(&*origin).for_each(|(x, origin)| *x -= origin);
            }
            match &mut batch {
                Some(batch) => batch.add(sums, vectors, [m, w, f].map(|weights| &weights[start..][..count])),
                None => {
                    for (row, vector) in (start..).zip(vectors.chunks_exact_mut(width)) {
                        layout.add_row(sums, vector, [m[row], w[row], f[row]]);
                    }
                }
            }
        });
        if let Some(batch) = batch {
            batch.finish(sums);
        }
        if self.is_sound(0) { Ok(()) } else { Err(rows.not_finite()) }
    }

    fn add_grouped(&mut self, rows: &Rows<'_>, terms: &ImbalanceTerms, groups: &[usize]) -> Result<()> {
        let mut has_rows: Vec<bool> = (0..self.groups()).map(|group| self.moments.get(group).is_some()).collect();
        self.moments.add_grouped(rows, &terms.imbalance, groups)?;
        self.make_room();
        let (width, layout, length) = (self.moments.width(), self.layout(), self.sums_length());
        let [m, w, f] = &terms.weights;
        terms.phi.for_each_run(rows, |start, vectors| {
            for ((row, vector), &group) in (start..).zip(vectors.chunks_exact_mut(width)).zip(&groups[start..]) {
                let origin = &mut self.origin[group * width..][..width];
                if !std::mem::replace(&mut has_rows[group], true) {
                    origin.copy_from_slice(vector);
                }
                vector.iter_mut().zip(&*origin).for_each(|(x, origin)| *x -= origin);
                layout.add_row(&mut self.sums[group * length..][..length], vector, [m[row], w[row], f[row]]);
            }
        });
        if groups.iter().all(|&group| self.is_sound(group)) { Ok(()) } else { Err(rows.not_finite()) }
    }

    fn merge(&mut self, spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let lists = lists::read::<Float64Type>(&states[3]).zip(lists::read::<Float64Type>(&states[4]));
        for (i, (moment, (origin, sums))) in Moments::read(states).zip(lists).enumerate() {
            let Moment { count, mean, spread } = moment;
            if count > 0 {
                self.add_one(spec, group(i), &Imbalance { count, mean, spread, origin, sums, clusters: None })?;
            }
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Self {
        let (width, length) = (self.moments.width(), self.sums_length());
        Self {
            moments: self.moments.take(emit_to),
            origin: lists::take_rows(emit_to, width, &mut self.origin),
            sums: lists::take_rows(emit_to, length, &mut self.sums),
        }
    }

    fn arrays(self) -> Vec<ArrayRef> {
        let (groups, width, length) = (self.moments.groups(), self.moments.width(), self.sums_length());
        let mut arrays = self.moments.arrays();
        arrays.extend(
            [(width, self.origin), (length, self.sums)].map(|(of, values)| lists::write_rows(groups, of, values)),
        );
        arrays
    }

    fn size(&self) -> usize {
        self.moments.size() + (self.origin.capacity() + self.sums.capacity()) * size_of::<f64>()
    }
}

impl Vectors for Imbalances {
    fn for_each_vector(rows: &Rows<'_>, terms: &ImbalanceTerms, visit: impl FnMut(usize, &[f64])) {
        terms.imbalance.for_each_vector(rows, visit);
    }
}

impl Clustered<Imbalances> {
    /// The imbalance of a group, `None` if it has no row.
    pub(crate) fn get(&self, group: usize) -> Option<Imbalance<'_>> {
        Some(Imbalance { clusters: self.sums(group), ..self.rows.get(group)? })
    }
}
