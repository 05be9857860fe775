//! States of [`alarm_state`](crate::alarm_state_udaf) in a column, and what the alarm keeps of them.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray, StructArray};
use arrow::datatypes::{Float64Type, UInt16Type, UInt64Type};
use datafusion_common::{Result, exec_err};

use crate::args::Spec;
use crate::state::{ClusterSums, DAY_SUMS, DaySums};

/// Sums by groups of clusters.
#[derive(Debug, Clone)]
pub(super) struct Clusters {
    pub(super) groups: u16,
    pub(super) keys: Vec<u16>,
    /// Of each key, the rows, and for each direction `Σ d(o − p)` and `Σ d²p(1 − p)`.
    pub(super) sums: Vec<f64>,
}

/// What is kept of a day.
#[derive(Debug, Clone)]
pub(super) struct Day {
    pub(super) count: f64,
    /// [`DaySums`] of each direction, end to end.
    pub(super) sums: Vec<f64>,
    /// Of each direction, over the groups of clusters, the sums of `S²`, `SV` and `V²`, with `S = Σ d(o − p)` and
    /// `V = Σ d²p(1 − p)`; where rows share either of two clusters, those by each of the two, less those by both. None of
    /// independent rows.
    pub(super) squares: Vec<f64>,
    /// Of days that may be in the reference.
    pub(super) clusters: Option<Clusters>,
}

/// Numbers in [`Day::squares`] for each direction.
pub(super) const SQUARES: usize = 3;

/// What two ways of belonging together say, less what both at once say; or what one way says.
pub(super) fn over_ways<const N: usize>(ways: usize, of_way: impl Fn(usize) -> [f64; N]) -> [f64; N] {
    let mut total = [0.0; N];
    for way in 0..ways {
        let sign = if way == 2 { -1.0 } else { 1.0 };
        total.iter_mut().zip(of_way(way)).for_each(|(total, x)| *total += sign * x);
    }
    total
}

/// `S` and `V` of direction `k` in the sums of a group of clusters.
pub(super) fn parts(cell: &[f64], k: usize) -> [f64; 2] {
    [cell[1 + 2 * k], cell[2 + 2 * k]]
}

impl Clusters {
    pub(super) fn as_sums(&self) -> ClusterSums<'_> {
        ClusterSums { groups: self.groups, keys: &self.keys, sums: &self.sums }
    }

    fn squares(&self, directions: usize) -> Vec<f64> {
        let sums = self.as_sums();
        let of_way = |way: usize, k: usize| {
            sums.of_way(way)
                .map(|cell| parts(cell, k))
                .fold([0.0; SQUARES], |[a, b, c], [s, v]| [a + s * s, b + s * v, c + v * v])
        };
        (0..directions).flat_map(|k| over_ways(sums.ways(), |way| of_way(way, k))).collect()
    }
}

impl Day {
    /// Bytes on the heap.
    pub(super) fn size(&self) -> usize {
        let clusters = self.clusters.as_ref();
        let clusters = clusters.map_or(0, |clusters| clusters.keys.capacity() * 2 + clusters.sums.capacity() * 8);
        (self.sums.capacity() + self.squares.capacity()) * size_of::<f64>() + clusters
    }
}

/// Means, then standard deviations of the elements of φ.
pub(super) type Frozen = Vec<f64>;

/// Reads the state in a row; `None` where it is NULL or saw no row.
///
/// # Errors
/// Where it is no state.
pub(super) fn read(spec: &Spec, array: &ArrayRef, row: usize) -> Result<Option<(Frozen, Day)>> {
    let states: &StructArray = array.as_struct();
    let columns = states.columns();
    if states.is_null(row) || columns.iter().all(|column| column.is_null(row)) {
        return Ok(None);
    }
    let list = |at: usize| {
        let lists: &ListArray = columns[at].as_list();
        let offsets = lists.value_offsets();
        let place = offsets[row] as usize..offsets[row + 1] as usize;
        let values: &Float64Array = lists.values().as_primitive::<Float64Type>();
        let is_whole = place.clone().all(|at| values.is_valid(at) && values.value(at).is_finite());
        is_whole.then(|| values.values()[place].to_vec())
    };
    let parse = || {
        if columns[..4].iter().any(|column| column.is_null(row)) {
            return None;
        }
        let count = columns[0].as_primitive::<UInt64Type>().value(row);
        let (mean, sd, sums) = (list(1)?, list(2)?, list(3)?);
        let directions = 1 + mean.len();
        let is_sound = |sums: DaySums<'_>| sums.variance() >= 0.0;
        let fits = count > 0 && mean.len() == sd.len() && sd.iter().all(|sd| *sd >= 0.0);
        let fits = fits && sums.len() == directions * DAY_SUMS && DaySums::each(&sums).all(is_sound);
        let clusters = match columns[4..].iter().any(|column| column.is_valid(row)) {
            false => None,
            true => {
                let lists: &ListArray = columns[5].as_list();
                let keys = lists.value(row);
                let keys = keys.as_primitive::<UInt16Type>();
                let is_whole = columns[4..].iter().all(|column| column.is_valid(row)) && keys.null_count() == 0;
                let groups = columns[4].as_primitive::<UInt16Type>().value(row);
                let clusters = Clusters { groups, keys: keys.values().to_vec(), sums: list(6)? };
                let fits = is_whole && !clusters.keys.is_empty() && clusters.as_sums().fit(1 + 2 * directions);
                Some(fits.then_some(clusters)?)
            }
        };
        let squares = clusters.as_ref().map(|clusters| clusters.squares(directions)).unwrap_or_default();
        let frozen = [mean, sd].concat();
        fits.then_some((frozen, Day { count: count as f64, sums, squares, clusters }))
    };
    match parse() {
        Some(state) => Ok(Some(state)),
        None => exec_err!(
            "{}: argument 2 (state) is no state of alarm_state: its parts must fit together, and hold no NULL or infinity; \
             store the value as it comes",
            spec.name
        ),
    }
}
