//! A numerator and a denominator, summed: means and ratios.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, UInt64Array};
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use datafusion_common::Result;
use datafusion_expr::EmitTo;

use super::sum::Sum;
use super::{Retract, State};
use crate::args::{Rows, Spec};

/// What each row adds. A row whose denominator is 0 has numerator 0.
pub(crate) struct Terms {
    pub(crate) numerators: Vec<f64>,
    /// `None` for a plain mean: every denominator is 1.
    pub(crate) denominators: Option<Vec<f64>>,
}

impl Terms {
    /// Terms of a mean over all rows.
    pub(crate) fn mean(numerators: Vec<f64>) -> Self {
        Self { numerators, denominators: None }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Group {
    /// Rows with a denominator other than 0.
    count: u64,
    numerator: Sum,
    denominator: Sum,
}

impl Group {
    fn is_finite(&self) -> bool {
        self.numerator.value().is_finite() & self.denominator.value().is_finite()
    }
}

/// Compensated sums of numerators and denominators.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sums {
    groups: Vec<Group>,
}

impl Sums {
    /// Numerator and denominator of a group, `None` if no row had a denominator.
    pub(crate) fn get(&self, group: usize) -> Option<(f64, f64)> {
        let Group { count, numerator, denominator } = self.groups[group];
        (count > 0).then(|| (numerator.value(), denominator.value()))
    }

    pub(crate) fn ratio(&self, group: usize) -> Option<f64> {
        self.get(group).map(|(numerator, denominator)| numerator / denominator)
    }

    fn shift(group: &mut Group, terms: &Terms, sign: f64) -> u64 {
        group.numerator.add_all(&terms.numerators, sign);
        match &terms.denominators {
            None => {
                let rows = terms.numerators.len();
                group.denominator.add(sign * rows as f64);
                rows as u64
            }
            Some(denominators) => {
                group.denominator.add_all(denominators, sign);
                denominators.iter().filter(|&&d| d != 0.0).count() as u64
            }
        }
    }

    fn retract(&mut self, _rows: &Rows<'_>, terms: &Terms) -> Result<()> {
        let group = &mut self.groups[0];
        group.count -= Self::shift(group, terms, -1.0);
        if group.count == 0 {
            *group = Group::default();
        }
        Ok(())
    }
}

impl State for Sums {
    type Terms = Terms;

    const RETRACT: Option<Retract<Self>> = Some(Self::retract);

    fn fields() -> Vec<(&'static str, DataType)> {
        vec![("count", DataType::UInt64), ("numerator", DataType::Float64), ("denominator", DataType::Float64)]
    }

    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, Group::default());
    }

    fn groups(&self) -> usize {
        self.groups.len()
    }

    fn add(&mut self, rows: &Rows<'_>, terms: &Terms) -> Result<()> {
        let group = &mut self.groups[0];
        group.count += Self::shift(group, terms, 1.0);
        if group.is_finite() { Ok(()) } else { Err(rows.not_finite()) }
    }

    fn add_grouped(&mut self, rows: &Rows<'_>, terms: &Terms, groups: &[usize]) -> Result<()> {
        let mut finite = true;
        let mut add = |group: usize, numerator, denominator| {
            let group = &mut self.groups[group];
            group.count += u64::from(denominator != 0.0);
            group.numerator.add(numerator);
            group.denominator.add(denominator);
            finite &= group.is_finite();
        };
        let rows_of_groups = groups.iter().zip(&terms.numerators);
        match &terms.denominators {
            None => rows_of_groups.for_each(|(&group, &numerator)| add(group, numerator, 1.0)),
            Some(denominators) => {
                rows_of_groups.zip(denominators).for_each(|((&group, &numerator), &d)| add(group, numerator, d))
            }
        }
        if finite { Ok(()) } else { Err(rows.not_finite()) }
    }

    fn merge(&mut self, spec: &Spec, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let counts = states[0].as_primitive::<UInt64Type>().values();
        let numerators = states[1].as_primitive::<Float64Type>().values();
        let denominators = states[2].as_primitive::<Float64Type>().values();
        for (i, count) in counts.iter().enumerate() {
            let group = &mut self.groups[group(i)];
            group.count += count;
            group.numerator.add(numerators[i]);
            group.denominator.add(denominators[i]);
            if !group.is_finite() {
                return Err(spec.out_of_range());
            }
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Self {
        Self { groups: emit_to.take_needed(&mut self.groups) }
    }

    fn arrays(self) -> Vec<ArrayRef> {
        let groups = || self.groups.iter();
        let sums = |f: fn(&Group) -> Sum| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(groups().map(|group| f(group).value())))
        };
        vec![
            Arc::new(UInt64Array::from_iter_values(groups().map(|g| g.count))),
            sums(|group| group.numerator),
            sums(|group| group.denominator),
        ]
    }

    fn size(&self) -> usize {
        self.groups.capacity() * size_of::<Group>()
    }
}
