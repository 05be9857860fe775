//! What the alarm keeps of the rows of a day.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, UInt64Array};
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use datafusion_common::{Result, exec_datafusion_err, exec_err};
use datafusion_expr::EmitTo;

use super::clusters::Vectors;
use super::{State, Weighted, lists};
use crate::args::{Rows, Spec};
use crate::inference::{NODES, SHIFTS};

/// Numbers that are kept of a direction.
pub(crate) const DAY_SUMS: usize = NODES + 4;

/// The sums of one direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DaySums<'a>(&'a [f64]);

impl<'a> DaySums<'a> {
    /// Of all directions, end to end.
    pub(crate) fn each(sums: &'a [f64]) -> impl Iterator<Item = Self> {
        sums.chunks_exact(DAY_SUMS).map(Self)
    }

    /// `Σ ln(1 − p + p·eˢᵈ)` for the shifts s of [`SHIFTS`].
    pub(crate) fn normaliser(self) -> &'a [f64] {
        &self.0[..NODES]
    }

    /// `Σ d·o`
    pub(crate) fn outcomes(self) -> f64 {
        self.0[NODES]
    }

    /// `Σ d·(o − p)`
    pub(crate) fn errors(self) -> f64 {
        self.0[NODES + 1]
    }

    /// `Σ d²·p(1 − p)`
    pub(crate) fn variance(self) -> f64 {
        self.0[NODES + 2]
    }

    /// `Σ (1 − p)·d·z`
    pub(crate) fn slope(self) -> f64 {
        self.0[NODES + 3]
    }
}

/// The rows of one group of a state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Day<'a> {
    pub(crate) count: u64,
    /// Mean and standard deviation of each element of φ in the reference period.
    pub(crate) directions: [&'a [f64]; 2],
    /// [`DaySums`] of the constant and of each element of φ, end to end.
    pub(crate) sums: &'a [f64],
}

/// For the constant and each element of φ, the sums of rows along a direction: d = 1 for the constant, else half the
/// standardised φ, `z = (φ − mean)/sd`, within ±1; 0 where sd is. By groups of clusters, `Σ d(o − p)` and `Σ d²p(1 − p)`
/// of each direction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Days {
    /// Elements of φ, 0 until the first row.
    width: usize,
    count: Vec<u64>,
    /// Means, then standard deviations of each group, end to end.
    directions: Vec<f64>,
    /// [`DaySums`] of the directions of each group, end to end.
    sums: Vec<f64>,
}

/// The direction of a row along a standardised element of φ.
fn direction(z: f64) -> f64 {
    (z / 2.0).clamp(-1.0, 1.0)
}

/// The standardised elements of φ; 0 of one that did not vary.
fn standardised<'a>(phi: &'a [f64], [mean, sd]: [&'a [f64]; 2]) -> impl Iterator<Item = f64> + 'a {
    let ratio = |((x, mean), sd): ((&f64, &f64), &f64)| if *sd > 0.0 { (x - mean) / sd } else { x * 0.0 };
    phi.iter().zip(mean).zip(sd).map(ratio)
}

/// Products of the likelihoods of a run of rows of one group, whose logarithms are still to be added: one logarithm for
/// many rows.
struct Pending {
    group: usize,
    rows: usize,
    products: Vec<f64>,
}

impl Pending {
    /// Rows whose product neither overflows nor underflows: the logarithm of one is at most [`crate::inference::REACH`].
    const MOST: usize = 128;
}

impl Days {
    /// The rows of a group, `None` if it has none.
    pub(crate) fn get(&self, group: usize) -> Option<Day<'_>> {
        let (directions, sums) = (2 * self.width, self.sums_length());
        (self.count[group] > 0).then(|| Day {
            count: self.count[group],
            directions: self.directions[group * directions..][..directions].split_at(self.width).into(),
            sums: &self.sums[group * sums..][..sums],
        })
    }

    fn sums_length(&self) -> usize {
        if self.width == 0 { 0 } else { DAY_SUMS * (1 + self.width) }
    }

    fn set_width(&mut self, spec: &Spec, width: usize) -> Result<()> {
        if self.width == 0 {
            self.width = width;
            self.resize(self.count.len());
        } else if self.width != width {
            return Err(spec.two_lengths(self.width, width));
        }
        Ok(())
    }

    /// Counts rows of these directions in.
    ///
    /// # Errors
    /// Where the group has rows of others.
    fn join(&mut self, spec: &Spec, group: usize, count: u64, directions: [&[f64]; 2]) -> Result<()> {
        let own = &mut self.directions[group * 2 * self.width..][..2 * self.width];
        let (mean, sd) = own.split_at_mut(self.width);
        if self.count[group] == 0 {
            mean.copy_from_slice(directions[0]);
            sd.copy_from_slice(directions[1]);
        } else if mean != directions[0] || sd != directions[1] {
            return exec_err!(
                "{}: argument 3 (directions) is of two references within one state: give all rows of a group what one call \
                 of alarm_directions gave",
                spec.name
            );
        }
        let total = self.count[group].checked_add(count);
        self.count[group] =
            total.ok_or_else(|| exec_datafusion_err!("{}: more rows than 64 bits can count", spec.name))?;
        Ok(())
    }

    fn flush(&mut self, pending: &mut Pending) {
        let length = self.sums_length();
        let sums = self.sums[pending.group * length..][..length].chunks_exact_mut(DAY_SUMS);
        for (sums, products) in sums.zip(pending.products.chunks_exact_mut(NODES)) {
            sums.iter_mut().zip(products.iter()).for_each(|(sum, product)| *sum += product.ln());
            products.fill(1.0);
        }
        pending.rows = 0;
    }

    fn add_rows(&mut self, rows: &Rows<'_>, phi: &Weighted, group: impl Fn(usize) -> usize) -> Result<()> {
        let width = rows.phi.width();
        self.set_width(rows.spec, width)?;
        let length = self.sums_length();
        let (treated, propensity) = (rows.treated(), rows.propensity());
        let mut pending = Pending { group: group(0), rows: 0, products: vec![1.0; NODES * (1 + width)] };
        let mut fault = None;
        phi.for_each_run(rows, |start, vectors| {
            for (row, phi) in (start..).zip(vectors.chunks_exact(width)) {
                let (o, p, directions) = (treated[row], propensity[row], rows.directions(row));
                let group = group(row);
                if fault.is_none() {
                    fault = self.join(rows.spec, group, 1, directions).err();
                }
                if pending.group != group || pending.rows == Pending::MOST {
                    self.flush(&mut pending);
                    pending.group = group;
                }
                pending.rows += 1;
                let sums = self.sums[group * length..][..length].chunks_exact_mut(DAY_SUMS);
                let along = std::iter::once((1.0, 1.0));
                let along = along.chain(standardised(phi, directions).map(|z| (direction(z), z)));
                for ((sums, products), (d, z)) in sums.zip(pending.products.chunks_exact_mut(NODES)).zip(along) {
                    // Of NaN, too.
                    if !z.is_finite() {
                        fault = fault.take().or_else(|| Some(rows.not_finite()));
                    }
                    if d == 0.0 {
                        continue;
                    }
                    sums[NODES] += d * o;
                    sums[NODES + 1] += d * (o - p);
                    sums[NODES + 2] += d * d * p * (1.0 - p);
                    sums[NODES + 3] += (1.0 - p) * d * z;
                    let (ups, downs) = products.split_at_mut(NODES / 2);
                    for ((shift, up), down) in SHIFTS.iter().zip(ups).zip(downs.iter_mut().rev()) {
                        let odds = (shift * d).exp();
                        *up *= 1.0 - p + p * odds;
                        *down *= 1.0 - p + p / odds;
                    }
                }
            }
        });
        self.flush(&mut pending);
        let fault = fault.or_else(|| (!self.sums.iter().all(|sum| sum.is_finite())).then(|| rows.not_finite()));
        fault.map_or(Ok(()), Err)
    }
}

impl State for Days {
    type Terms = Weighted;

    fn fields() -> Vec<(&'static str, DataType)> {
        let list = lists::list_of::<Float64Type>;
        vec![("count", DataType::UInt64), ("directions", list()), ("sums", list())]
    }

    fn resize(&mut self, groups: usize) {
        self.count.resize(groups, 0);
        self.directions.resize(groups * 2 * self.width, 0.0);
        self.sums.resize(groups * self.sums_length(), 0.0);
    }

    fn groups(&self) -> usize {
        self.count.len()
    }

    fn add(&mut self, rows: &Rows<'_>, terms: &Weighted) -> Result<()> {
        self.add_rows(rows, terms, |_| 0)
    }

    fn add_grouped(&mut self, rows: &Rows<'_>, terms: &Weighted, groups: &[usize]) -> Result<()> {
        self.add_rows(rows, terms, |row| groups[row])
    }

    fn merge(&mut self, spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let counts = states[0].as_primitive::<UInt64Type>().values();
        let lists = lists::read::<Float64Type>(&states[1]).zip(lists::read::<Float64Type>(&states[2]));
        for (i, (&count, (directions, sums))) in
            counts.iter().zip(lists).enumerate().filter(|(_, (count, _))| **count > 0)
        {
            let group = group(i);
            let (mean, sd) = directions.split_at(directions.len() / 2);
            self.set_width(spec, mean.len())?;
            self.join(spec, group, count, [mean, sd])?;
            let length = self.sums_length();
            let own = &mut self.sums[group * length..][..length];
            own.iter_mut().zip(sums).for_each(|(own, other)| *own += other);
            if !own.iter().all(|sum| sum.is_finite()) {
                return Err(spec.out_of_range());
            }
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Self {
        let (directions, sums) = (2 * self.width, self.sums_length());
        Self {
            width: self.width,
            count: emit_to.take_needed(&mut self.count),
            directions: lists::take_rows(emit_to, directions, &mut self.directions),
            sums: lists::take_rows(emit_to, sums, &mut self.sums),
        }
    }

    fn arrays(self) -> Vec<ArrayRef> {
        let (groups, directions, sums) = (self.count.len(), 2 * self.width, self.sums_length());
        vec![
            Arc::new(UInt64Array::from(self.count)),
            lists::write_rows(groups, directions, self.directions),
            lists::write_rows(groups, sums, self.sums),
        ]
    }

    fn size(&self) -> usize {
        (self.count.capacity() + self.directions.capacity() + self.sums.capacity()) * size_of::<f64>()
    }
}

impl Vectors for Days {
    fn for_each_vector(rows: &Rows<'_>, terms: &Weighted, mut visit: impl FnMut(usize, &[f64])) {
        let (treated, propensity) = (rows.treated(), rows.propensity());
        let mut vector = Vec::new();
        terms.for_each_vector(rows, |row, phi| {
            let (o, p) = (treated[row], propensity[row]);
            let along = std::iter::once(1.0).chain(standardised(phi, rows.directions(row)).map(direction));
            vector.clear();
            vector.extend(along.flat_map(|d| [d * (o - p), d * d * p * (1.0 - p)]));
            visit(row, &vector);
        });
    }
}
