//! Sums over the rows of each group of clusters.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, UInt16Array};
use arrow::datatypes::{DataType, Float64Type, UInt16Type};
use datafusion_common::{Result, exec_err};
use datafusion_expr::EmitTo;

use super::{Retract, State, lists};
use crate::args::{Clustering, MOST_GROUPS, Membership, Rows, Spec};
use crate::inference::{Spread, jackknife};

/// One vector of sums for each key of [`Membership`] that has a row. The first element is the number of rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cells {
    keys: Vec<u16>,
    /// One vector a key, end to end.
    sums: Vec<f64>,
    /// The place of each key among the keys, from 1; empty while the keys are few.
    places: Vec<u16>,
}

impl Cells {
    /// Keys up to which they are searched one after the other.
    const FEW: usize = 16;

    fn find(&self, key: u16) -> Option<usize> {
        match self.places.get(usize::from(key)) {
            Some(place) => usize::from(*place).checked_sub(1),
            None if self.places.is_empty() => self.keys.iter().position(|other| *other == key),
            None => None,
        }
    }

    /// The vector of a key, of zeros where it is new.
    pub(super) fn cell(&mut self, key: u16, width: usize) -> &mut [f64] {
        let place = self.find(key).unwrap_or_else(|| {
            self.keys.push(key);
            self.sums.resize(self.keys.len() * width, 0.0);
            if self.places.is_empty() && self.keys.len() > Self::FEW {
                self.places.resize(MOST_GROUPS, 0);
                let keys = self.keys.iter().zip(1..);
                let largest = self.keys.iter().copied().max().map_or(0, usize::from);
                self.places.resize(self.places.len().max(largest + 1), 0);
                keys.for_each(|(key, place)| self.places[usize::from(*key)] = place);
            } else if !self.places.is_empty() {
                let needed = (usize::from(key) + 1).next_multiple_of(MOST_GROUPS);
                self.places.resize(self.places.len().max(needed), 0);
                self.places[usize::from(key)] = self.keys.len() as u16;
            }
            self.keys.len() - 1
        });
        &mut self.sums[place * width..][..width]
    }

    /// Adds the vectors of others.
    pub(super) fn add(&mut self, keys: &[u16], sums: &[f64]) {
        let width = sums.len().checked_div(keys.len()).unwrap_or_default();
        for (&key, vector) in keys.iter().zip(sums.chunks_exact(width.max(1))) {
            self.cell(key, width).iter_mut().zip(vector).for_each(|(own, other)| *own += other);
        }
    }

    pub(super) fn are_finite(&self) -> bool {
        self.sums.iter().all(|sum| sum.is_finite())
    }

    /// Bytes on the heap.
    fn size(&self) -> usize {
        (self.keys.capacity() + self.places.capacity()) * size_of::<u16>() + self.sums.capacity() * size_of::<f64>()
    }
}

/// The sums of one group of a state by groups of clusters, to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClusterSums<'a> {
    /// Into how many groups the clusters were put.
    pub(crate) groups: u16,
    pub(crate) keys: &'a [u16],
    /// One vector a key, end to end.
    pub(crate) sums: &'a [f64],
}

impl<'a> ClusterSums<'a> {
    /// Elements of a vector.
    pub(crate) fn width(self) -> usize {
        self.sums.len().checked_div(self.keys.len()).unwrap_or_default()
    }

    /// Whether these are sums of vectors of `width` elements, for keys of groups that there are.
    pub(crate) fn fit(self, width: usize) -> bool {
        let is_key =
            |key: u16| usize::from(key) < 3 * MOST_GROUPS && usize::from(key) % MOST_GROUPS < usize::from(self.groups);
        let distinct = self.keys.iter().collect::<std::collections::HashSet<_>>().len() == self.keys.len();
        distinct && self.sums.len() == self.keys.len() * width && self.keys.iter().all(|key| is_key(*key))
    }

    /// The ways in which rows belong together.
    pub(crate) fn ways(self) -> usize {
        self.keys.iter().map(|key| usize::from(*key) / MOST_GROUPS + 1).max().unwrap_or_default()
    }

    /// The vectors of one way.
    pub(crate) fn of_way(self, way: usize) -> impl Iterator<Item = &'a [f64]> + Clone {
        let vectors = self.keys.iter().zip(self.sums.chunks_exact(self.width().max(1)));
        vectors.filter(move |(key, _)| usize::from(**key) / MOST_GROUPS == way).map(|(_, vector)| vector)
    }

    /// The number of groups of clusters that have a row; of two kinds of clusters, the smaller one.
    pub(crate) fn count(self) -> u64 {
        (0..self.ways().min(2)).map(|way| self.of_way(way).count() as u64).min().unwrap_or_default()
    }

    /// The spread of a function of the sums of all rows. `None` for fewer than two groups of clusters, and where the
    /// function has no value without one of them.
    pub(crate) fn spread(self, figure: impl Fn(&[f64]) -> f64) -> Option<Spread> {
        let of_way = |way: usize| {
            let mut rest = vec![0.0; self.width()];
            self.of_way(way).for_each(|cell| rest.iter_mut().zip(cell).for_each(|(sum, x)| *sum += x));
            let total = rest.clone();
            let without = self.of_way(way).map(|cell| {
                rest.iter_mut().zip(&total).zip(cell).for_each(|((rest, total), x)| *rest = total - x);
                figure(&rest)
            });
            jackknife(&without.collect::<Vec<_>>())
        };
        Spread::of_ways((0..self.ways()).map(of_way))
    }
}

/// [`Cells`] of each group of a state; none where they are not kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clusters {
    is_kept: bool,
    /// Into how many groups the clusters of a group's rows were put, 0 without a row.
    groups: Vec<u16>,
    cells: Vec<Cells>,
}

impl Clusters {
    pub(crate) fn new(is_kept: bool) -> Self {
        Self { is_kept, ..Self::default() }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
    }

    pub(super) fn fields() -> Vec<(&'static str, DataType)> {
        vec![
            ("groups", DataType::UInt16),
            ("keys", lists::list_of::<UInt16Type>()),
            ("cells", lists::list_of::<Float64Type>()),
        ]
    }

    pub(super) fn fields_if(is_kept: bool) -> Vec<(&'static str, DataType)> {
        if is_kept { Self::fields() } else { Vec::new() }
    }

    /// The sums of a group of the state; `None` where none are kept.
    pub(crate) fn get(&self, group: usize) -> Option<ClusterSums<'_>> {
        let cells = self.cells.get(group).filter(|cells| !cells.keys.is_empty())?;
        Some(ClusterSums { groups: self.groups[group], keys: &cells.keys, sums: &cells.sums })
    }

    pub(super) fn resize(&mut self, groups: usize) {
        if self.is_kept {
            self.groups.resize(groups, 0);
            self.cells.resize_with(groups, Cells::default);
        }
    }

    /// The cells of a group of the state, to add rows whose clusters were put into `groups` groups.
    ///
    /// # Errors
    /// Where it has rows whose clusters were put into another number of groups.
    pub(crate) fn join(&mut self, spec: &Spec, group: usize, groups: u16) -> Result<&mut Cells> {
        let own = &mut self.groups[group];
        if *own != 0 && *own != groups && [*own, groups].contains(&NO_CLUSTERS) {
            return exec_err!(
                "{}: some rows have clusters and others have none: give treatment(treated, cluster) for all of them",
                spec.name
            );
        }
        if *own != 0 && *own != groups {
            return exec_err!(
                "{}: the clusters of some rows are in {own} groups, those of others in {groups}: call treatment() with the \
                 same number of groups for all rows",
                spec.name
            );
        }
        *own = groups;
        Ok(&mut self.cells[group])
    }

    /// The cells of a group of the state.
    pub(super) fn cells_mut(&mut self, group: usize) -> &mut Cells {
        &mut self.cells[group]
    }

    /// Reads what [`Clusters::arrays`] gave: the number of groups, the keys and the sums.
    pub(super) fn read(states: &[ArrayRef]) -> impl Iterator<Item = (u16, &[u16], &[f64])> {
        let groups = states[0].as_primitive::<UInt16Type>().values().iter().copied();
        let cells = lists::read::<UInt16Type>(&states[1]).zip(lists::read::<Float64Type>(&states[2]));
        groups.zip(cells).map(|(groups, (keys, sums))| (groups, keys, sums))
    }

    pub(super) fn take(&mut self, emit_to: EmitTo) -> Self {
        if !self.is_kept {
            return Self::default();
        }
        let (groups, cells) = (emit_to.take_needed(&mut self.groups), emit_to.take_needed(&mut self.cells));
        Self { is_kept: true, groups, cells }
    }

    pub(super) fn arrays(self) -> Vec<ArrayRef> {
        if !self.is_kept {
            return Vec::new();
        }
        let cells = || self.cells.iter();
        vec![
            Arc::new(UInt16Array::from(self.groups.clone())),
            lists::write::<UInt16Type>(cells().map(|cells| cells.keys.iter().copied())),
            lists::write::<Float64Type>(cells().map(|cells| cells.sums.iter().copied())),
        ]
    }

    pub(super) fn size(&self) -> usize {
        let cells: usize = self.cells.iter().map(Cells::size).sum();
        self.groups.capacity() * size_of::<u16>() + self.cells.capacity() * size_of::<Cells>() + cells
    }
}

/// Stands for the number of groups where rows are independent.
pub(super) const NO_CLUSTERS: u16 = 1;

/// A state whose rows add a vector each, of whose sums its statistic is a function.
pub(crate) trait Vectors: State {
    /// Hands out the vector of each row, with its place.
    fn for_each_vector(rows: &Rows<'_>, terms: &Self::Terms, visit: impl FnMut(usize, &[f64]));
}

/// A state of rows, and where these belong together the sums of their vectors by groups of clusters, behind the number of
/// rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clustered<S> {
    pub(crate) rows: S,
    clusters: Clusters,
}

impl<S: Vectors> Clustered<S> {
    /// The sums of a group by groups of clusters; `None` where rows are independent.
    pub(crate) fn sums(&self, group: usize) -> Option<ClusterSums<'_>> {
        self.clusters.get(group)
    }

    /// Adds the sums of rows to a group, of independent rows `None`, where the state keeps such sums.
    ///
    /// # Errors
    /// Where the clusters of its rows were put into another number of groups.
    pub(crate) fn add_sums(&mut self, spec: &Spec, group: usize, sums: Option<ClusterSums<'_>>) -> Result<()> {
        match sums {
            Some(sums) => self.clusters.join(spec, group, sums.groups)?.add(sums.keys, sums.sums),
            None => drop(self.clusters.join(spec, group, NO_CLUSTERS)?),
        }
        Ok(())
    }

    fn add_vectors(&mut self, rows: &Rows<'_>, terms: &S::Terms, group: impl Fn(usize) -> usize) -> Result<()> {
        let Some(Membership { groups, keys }) = rows.membership()?.filter(|_| self.clusters.is_kept) else {
            return Ok(());
        };
        for row in 0..rows.len() {
            self.clusters.join(rows.spec, group(row), groups)?;
        }
        S::for_each_vector(rows, terms, |row, vector| {
            let cells = self.clusters.cells_mut(group(row));
            for keys in &keys {
                let cell = cells.cell(keys[row], 1 + vector.len());
                cell[0] += 1.0;
                cell[1..].iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
            }
        });
        Ok(())
    }

    fn retract(&mut self, rows: &Rows<'_>, terms: &S::Terms) -> Result<()> {
        match S::RETRACT {
            Some(retract) => retract(&mut self.rows, rows, terms),
            None => Ok(()),
        }
    }
}

impl<S: Vectors> State for Clustered<S> {
    type Terms = S::Terms;

    const RETRACT: Option<Retract<Self>> = match S::RETRACT {
        Some(_) => Some(Self::retract),
        None => None,
    };

    fn new(clustering: Clustering) -> Self {
        Self { rows: S::default(), clusters: Clusters::new(clustering != Clustering::Independent) }
    }

    fn fields() -> Vec<(&'static str, DataType)> {
        S::fields()
    }

    fn cluster_fields(clustering: Clustering) -> Vec<(&'static str, DataType)> {
        Clusters::fields_if(clustering != Clustering::Independent)
    }

    fn resize(&mut self, groups: usize) {
        self.rows.resize(groups);
        self.clusters.resize(groups);
    }

    fn groups(&self) -> usize {
        self.rows.groups()
    }

    fn add(&mut self, rows: &Rows<'_>, terms: &Self::Terms) -> Result<()> {
        self.rows.add(rows, terms)?;
        self.add_vectors(rows, terms, |_| 0)
    }

    fn add_grouped(&mut self, rows: &Rows<'_>, terms: &Self::Terms, groups: &[usize]) -> Result<()> {
        self.rows.add_grouped(rows, terms, groups)?;
        self.add_vectors(rows, terms, |row| groups[row])
    }

    fn merge(&mut self, spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let (rows, clusters) = states.split_at(S::fields().len());
        self.rows.merge(spec, rows, &group)?;
        if self.clusters.is_kept {
            for (i, (groups, keys, sums)) in
                Clusters::read(clusters).enumerate().filter(|(_, (groups, ..))| *groups > 0)
            {
                self.clusters.join(spec, group(i), groups)?.add(keys, sums);
            }
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Self {
        Self { rows: self.rows.take(emit_to), clusters: self.clusters.take(emit_to) }
    }

    fn arrays(self) -> Vec<ArrayRef> {
        let mut arrays = self.rows.arrays();
        arrays.extend(self.clusters.arrays());
        arrays
    }

    fn size(&self) -> usize {
        self.rows.size() + self.clusters.size()
    }
}
