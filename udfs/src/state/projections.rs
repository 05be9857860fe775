//! Regressions of the error on φ, and how the weights' own error goes with φ.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, UInt64Array};
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use datafusion_common::Result;
use datafusion_expr::EmitTo;

use super::packed::{FULL_WIDTH, add_products, packed_length, place};
use super::{Clusters, State, Weighted, lists};
use crate::args::{Clustering, Membership, Phi, Rows, Spec};

/// What a batch adds, an entry a row each.
pub(crate) struct ProjectionTerms {
    /// `a = o/p − 1`.
    pub(crate) errors: Vec<f64>,
    /// The mean of `a²`, if the treatment was drawn with the propensity.
    pub(crate) variances: Vec<f64>,
    /// `o/p`.
    pub(crate) weights: Vec<f64>,
    /// `o/p` times what is regressed on φ, and times the absolute error.
    pub(crate) weighted: [Vec<f64>; 2],
}

/// Independent rows are put into so many groups at random.
const RANDOM_GROUPS: u16 = 64;

/// With Φ = (1, y) and y = φ less an origin of the group's, by groups of clusters: the sums of which a regression of the
/// error on Φ over treated rows follows, weighted by `1/p`, and `Σ a·Φ`.
///
/// Of a regression no sum of squares tells how it varies between samples, and so independent rows, too, are put into groups:
/// each into one that its place among the rows decides, as good as at random. Rows are not taken out again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Projections {
    /// Elements of Φ, 0 until the first row.
    width: usize,
    count: Vec<u64>,
    /// `Σ w²` of the weights `o/p`.
    squares: Vec<f64>,
    /// One vector a group, end to end: φ of its first row, behind a 0 for the constant.
    origin: Vec<f64>,
    /// `Σ E[a²]·ΦΦᵀ` of each group, packed, end to end.
    implied: Vec<f64>,
    clusters: Clusters,
    /// Rows that were given a group at random.
    dealt: u64,
}

/// Where the parts of a cluster's vector are, of Φ with `width` elements.
#[derive(Debug, Clone, Copy)]
struct Layout {
    width: usize,
}

impl Layout {
    /// `Σ w·|e|` and `Σ w`, behind the number of rows.
    const SIZES: usize = 1;

    /// `Σ a·Φ`
    const ERRORS: usize = 3;

    /// `Σ w·r·Φ`, with r what is regressed on Φ.
    fn responses(self) -> usize {
        Self::ERRORS + self.width
    }

    /// `Σ w·ΦΦᵀ`, packed.
    fn products(self) -> usize {
        self.responses() + self.width
    }

    fn len(self) -> usize {
        self.products() + packed_length(self.width)
    }

    /// The vector around an origin that lies `by` further from all rows; of the constant, that is 0.
    fn shift(self, vector: &mut [f64], by: &[f64]) {
        let (errors, responses) = (vector[Self::ERRORS], vector[self.responses()]);
        for (k, by) in by.iter().enumerate() {
            vector[Self::ERRORS + k] += by * errors;
            vector[self.responses() + k] += by * responses;
        }
        shift_packed(&mut vector[self.products()..], by);
    }
}

/// A packed `Σ c·ΦΦᵀ` around an origin that lies `by` further from all rows.
fn shift_packed(packed: &mut [f64], by: &[f64]) {
    let width = by.len();
    let weight = packed[place(0, 0)];
    let first: Vec<f64> = (0..width).map(|k| packed[place(0, k)]).collect();
    for k in 0..width {
        for l in 0..=k {
            packed[place(k, l)] += by[l] * first[k] + by[k] * first[l] + by[k] * by[l] * weight;
        }
    }
}

/// What one group of clusters, or all of them together, sum to.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    layout: Layout,
    vector: Vec<f64>,
}

impl Projection {
    pub(crate) fn rows(&self) -> f64 {
        self.vector[0]
    }

    /// `Σ w·|e|`
    pub(crate) fn absolute_errors(&self) -> f64 {
        self.vector[Layout::SIZES]
    }

    /// `Σ w`
    pub(crate) fn weights(&self) -> f64 {
        self.vector[Layout::SIZES + 1]
    }

    /// `Σ a·Φ`
    pub(crate) fn errors(&self) -> &[f64] {
        &self.vector[Layout::ERRORS..][..self.layout.width]
    }

    /// `Σ w·r·Φ`
    pub(crate) fn responses(&self) -> &[f64] {
        &self.vector[self.layout.responses()..][..self.layout.width]
    }

    /// `Σ w·ΦₖΦₗ`
    pub(crate) fn product(&self, k: usize, l: usize) -> f64 {
        self.vector[self.layout.products() + place(k, l)]
    }
}

/// What is known of one group, around the mean of φ that is weighted by w.
pub(crate) struct GroupProjection {
    pub(crate) count: u64,
    /// `Σ w²`
    pub(crate) squares: f64,
    pub(crate) total: Projection,
    /// Those of each group of clusters, for each way of putting rows into groups.
    pub(crate) ways: Vec<Vec<Projection>>,
    implied: Vec<f64>,
}

impl GroupProjection {
    /// Elements of Φ.
    pub(crate) fn width(&self) -> usize {
        self.total.layout.width
    }

    /// `Σ E[a²]·(βᵀΦ)²`
    pub(crate) fn implied(&self, beta: &[f64]) -> f64 {
        let pairs = (0..beta.len()).flat_map(|k| (0..beta.len()).map(move |l| (k, l)));
        pairs.map(|(k, l)| beta[k] * beta[l] * self.implied[place(k, l)]).sum()
    }
}

impl Projections {
    /// What is known of a group, `None` if it has no row.
    pub(crate) fn get(&self, group: usize) -> Option<GroupProjection> {
        let cells = self.clusters.get(group)?;
        let layout = Layout { width: self.width };
        let sum = |way: usize| {
            let mut total = vec![0.0; layout.len()];
            cells.of_way(way).for_each(|cell| total.iter_mut().zip(cell).for_each(|(sum, x)| *sum += x));
            total
        };
        let mut total = sum(0);
        let weight = total[Layout::SIZES + 1];
        let by: Vec<f64> = (0..self.width)
            .map(|k| if k == 0 || weight == 0.0 { 0.0 } else { -total[layout.products() + place(0, k)] / weight })
            .collect();
        /// What rounding leaves of a square that should be 0, of what it is around another origin.
        const ROUNDING: f64 = 1e-13;
        let square = |k: usize| layout.products() + place(k, k);
        let rounding: Vec<f64> = (0..self.width).map(|k| ROUNDING * total[square(k)]).collect();
        layout.shift(&mut total, &by);
        for (k, rounding) in rounding.into_iter().enumerate().skip(1) {
            if total[square(k)] <= rounding {
                total[square(k)] = 0.0;
            }
        }
        let shifted = |cell: &[f64]| {
            let mut vector = cell.to_vec();
            layout.shift(&mut vector, &by);
            Projection { layout, vector }
        };
        let ways = (0..cells.ways()).map(|way| cells.of_way(way).map(shifted).collect()).collect();
        let packed = packed_length(self.width);
        let mut implied = self.implied[group * packed..][..packed].to_vec();
        shift_packed(&mut implied, &by);
        let total = Projection { layout, vector: total };
        Some(GroupProjection { count: self.count[group], squares: self.squares[group], total, ways, implied })
    }

    fn set_width(&mut self, spec: &Spec, width: usize) -> Result<()> {
        if width > FULL_WIDTH {
            return Err(spec.phi_error(format_args!(
                "has {} elements, and this function keeps all their products: give at most {}",
                width - 1,
                FULL_WIDTH - 1
            )));
        }
        if self.width == 0 {
            self.width = width;
            self.resize(self.count.len());
        } else if self.width != width {
            return Err(spec.two_widths(self.width, width));
        }
        Ok(())
    }

    /// Rows that are dealt to groups at random: by their place among all rows, and by what they hold, so that neither an
    /// order of the rows nor batches of a few rows decide.
    fn deal(&mut self, terms: &ProjectionTerms, rows: usize) -> Membership {
        let key = |row: usize| {
            let numbers = [terms.errors[row], terms.variances[row], terms.weighted[0][row]].map(f64::to_bits);
            let numbers = [self.dealt + row as u64].into_iter().chain(numbers);
            // The finaliser of SplitMix64.
            let mixed = numbers.fold(0u64, |state, number| {
                let x = (state ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
                let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                x ^ (x >> 31)
            });
            (mixed % u64::from(RANDOM_GROUPS)) as u16
        };
        let keys = (0..rows).map(key).collect();
        self.dealt += rows as u64;
        Membership { groups: RANDOM_GROUPS, keys: vec![keys] }
    }

    fn add_rows(&mut self, rows: &Rows<'_>, terms: &ProjectionTerms, group: impl Fn(usize) -> usize) -> Result<()> {
        let elements = if matches!(rows.phi, Phi::One) { 0 } else { rows.phi.width() };
        let width = 1 + elements;
        self.set_width(rows.spec, width)?;
        let (layout, packed) = (Layout { width }, packed_length(width));
        let Membership { groups, keys } = match rows.membership()? {
            Some(membership) => membership,
            None => self.deal(terms, rows.len()),
        };
        let constant = vec![vec![1.0; rows.len()]];
        let weights = if elements == 0 { Vec::new() } else { constant.clone() };
        let mut problem = None;
        let mut finite = true;
        Weighted { leads: constant, weights }.for_each_run(rows, |start, vectors| {
            for (row, y) in (start..).zip(vectors.chunks_exact_mut(width)) {
                let group = group(row);
                let cells = match self.clusters.join(rows.spec, group, groups) {
                    Ok(cells) => cells,
                    Err(error) => return problem = Some(error),
                };
                let origin = &mut self.origin[group * width..][..width];
                if self.count[group] == 0 {
                    origin[1..].copy_from_slice(&y[1..]);
                }
                y.iter_mut().zip(&*origin).for_each(|(y, origin)| *y -= origin);
                let (a, w) = (terms.errors[row], terms.weights[row]);
                let [response, error] = [0, 1].map(|at| terms.weighted[at][row]);
                self.count[group] += 1;
                self.squares[group] += w * w;
                let implied = &mut self.implied[group * packed..][..packed];
                add_products(implied, y, terms.variances[row]);
                for keys in &keys {
                    let cell = cells.cell(keys[row], layout.len());
                    cell[0] += 1.0;
                    cell[Layout::SIZES] += error;
                    cell[Layout::SIZES + 1] += w;
                    cell[Layout::ERRORS..][..width].iter_mut().zip(&*y).for_each(|(sum, y)| *sum += a * y);
                    if w != 0.0 {
                        let responses = &mut cell[layout.responses()..][..width];
                        responses.iter_mut().zip(&*y).for_each(|(sum, y)| *sum += response * y);
                        add_products(&mut cell[layout.products()..], y, w);
                        finite &= cell[Layout::SIZES].is_finite() & cell[layout.responses()].is_finite();
                        finite &= (0..width).all(|k| cell[layout.products() + place(k, k)].is_finite());
                    }
                }
                finite &= (0..width).all(|k| implied[place(k, k)].is_finite());
            }
        });
        match problem {
            Some(error) => Err(error),
            None if finite => Ok(()),
            None => Err(rows.not_finite()),
        }
    }
}

impl State for Projections {
    type Terms = ProjectionTerms;

    fn new(_clustering: Clustering) -> Self {
        Self { clusters: Clusters::new(true), ..Self::default() }
    }

    fn fields() -> Vec<(&'static str, DataType)> {
        let list = lists::list_of::<Float64Type>;
        let fields =
            [("count", DataType::UInt64), ("squares", DataType::Float64), ("origin", list()), ("implied", list())];
        fields.into_iter().chain(Clusters::fields_if(true)).collect()
    }

    fn resize(&mut self, groups: usize) {
        self.count.resize(groups, 0);
        self.squares.resize(groups, 0.0);
        self.origin.resize(groups * self.width, 0.0);
        let packed = if self.width == 0 { 0 } else { packed_length(self.width) };
        self.implied.resize(groups * packed, 0.0);
        self.clusters.resize(groups);
    }

    fn groups(&self) -> usize {
        self.count.len()
    }

    fn add(&mut self, rows: &Rows<'_>, terms: &ProjectionTerms) -> Result<()> {
        self.add_rows(rows, terms, |_| 0)
    }

    fn add_grouped(&mut self, rows: &Rows<'_>, terms: &ProjectionTerms, groups: &[usize]) -> Result<()> {
        self.add_rows(rows, terms, |row| groups[row])
    }

    fn merge(&mut self, spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let counts = states[0].as_primitive::<UInt64Type>().values().iter();
        let squares = states[1].as_primitive::<Float64Type>().values().iter();
        let lists = lists::read::<Float64Type>(&states[2]).zip(lists::read::<Float64Type>(&states[3]));
        let parts = counts.zip(squares).zip(lists).zip(Clusters::read(&states[4..])).enumerate();
        for (i, (((&count, squares), (origin, implied)), (groups, keys, sums))) in parts {
            if count == 0 {
                continue;
            }
            let (group, width) = (group(i), origin.len());
            self.set_width(spec, width)?;
            let own = &mut self.origin[group * width..][..width];
            if self.count[group] == 0 {
                own.copy_from_slice(origin);
            }
            let by: Vec<f64> = origin.iter().zip(&*own).map(|(other, own)| other - own).collect();
            self.count[group] += count;
            self.squares[group] += squares;
            let (layout, mut implied) = (Layout { width }, implied.to_vec());
            shift_packed(&mut implied, &by);
            let own = &mut self.implied[group * implied.len()..][..implied.len()];
            own.iter_mut().zip(implied).for_each(|(own, other)| *own += other);
            let mut finite = own.iter().all(|sum| sum.is_finite());
            let mut sums = sums.to_vec();
            sums.chunks_exact_mut(layout.len()).for_each(|vector| layout.shift(vector, &by));
            let cells = self.clusters.join(spec, group, groups)?;
            cells.add(keys, &sums);
            finite &= cells.are_finite();
            if !finite {
                return Err(spec.out_of_range());
            }
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Self {
        let packed = if self.width == 0 { 0 } else { packed_length(self.width) };
        Self {
            width: self.width,
            count: emit_to.take_needed(&mut self.count),
            squares: emit_to.take_needed(&mut self.squares),
            origin: lists::take_rows(emit_to, self.width, &mut self.origin),
            implied: lists::take_rows(emit_to, packed, &mut self.implied),
            clusters: self.clusters.take(emit_to),
            dealt: self.dealt,
        }
    }

    fn arrays(self) -> Vec<ArrayRef> {
        let groups = self.count.len();
        let packed = if self.width == 0 { 0 } else { packed_length(self.width) };
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(self.count)),
            Arc::new(Float64Array::from(self.squares)),
            lists::write_rows(groups, self.width, self.origin),
            lists::write_rows(groups, packed, self.implied),
        ];
        arrays.extend(self.clusters.arrays());
        arrays
    }

    fn size(&self) -> usize {
        let numbers =
            self.count.capacity() + self.squares.capacity() + self.origin.capacity() + self.implied.capacity();
        numbers * size_of::<f64>() + self.clusters.size()
    }
}
