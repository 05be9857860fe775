//! The rows of a batch that count.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::Float64Type;
use datafusion_common::{DataFusionError, Result};

use super::directions::Directions;
use super::phi::Phi;
use super::role::Role;
use super::spec::Spec;
use super::treatment::{Membership, Treatment};

/// The rows of one batch that count, checked: NULLs and filtered rows are left out, every
/// `treated` is 0 or 1, and no row divides by a propensity of 0. For a lenient function all rows
/// count that the filter passes.
///
/// Columns hold the rows that count, one after the other.
pub(crate) struct Rows<'a> {
    pub(crate) spec: &'static Spec,
    columns: Vec<Cow<'a, [f64]>>,
    pub(crate) phi: Phi<'a>,
    treatment: Treatment<'a>,
    directions: Option<Directions<'a>>,
    /// Places in the batch of the rows that count; `None` when all do.
    selection: Option<Vec<usize>>,
    len: usize,
    /// Rows of the batch without a NULL, for a lenient function.
    whole: Option<NullBuffer>,
}

impl<'a> Rows<'a> {
    /// Reads the arguments of a call; `None` if no row counts.
    pub(crate) fn read(
        spec: &'static Spec,
        values: &'a [ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Option<Self>> {
        let (scalars, phi) = values.split_at(spec.roles.len().min(values.len()));
        let mut phi = Phi::read(phi)?;
        let passing = filter.map(passing);
        let treatment = Treatment::read(&scalars[0]);
        let whole = whole(spec, treatment, scalars, &phi);
        let (valid, whole) = match spec.is_lenient() {
            true => (passing, whole),
            false => (NullBuffer::union(passing.as_ref(), whole.as_ref()), None),
        };
        let valid = valid.filter(|valid| valid.null_count() > 0);
        let selection: Option<Vec<usize>> = valid.map(|valid| valid.valid_indices().collect());
        let Some(first) =
            selection.as_deref().map_or((!scalars[0].is_empty()).then_some(0), |rows| rows.first().copied())
        else {
            return Ok(None);
        };
        phi.measure(spec, selection.as_deref(), first)?;
        let columns = spec
            .roles
            .iter()
            .zip(scalars)
            .map(|(role, array)| match role.literal() {
                Some(_) => Cow::Borrowed(&[][..]),
                None if *role == Role::Treated => read_column(treatment.treated(), selection.as_deref()),
                None if *role == Role::Directions => Cow::Borrowed(&[][..]),
                None => read_column(array, selection.as_deref()),
            })
            .collect();
        let len = selection.as_ref().map_or(scalars[0].len(), Vec::len);
        let directions = spec.position(Role::Directions).map(|place| {
            let places: Box<dyn Iterator<Item = usize>> = match &selection {
                None => Box::new(0..len),
                Some(rows) => Box::new(rows.iter().copied()),
            };
            Directions::read(spec, &scalars[place], places, phi.width())
        });
        let directions = directions.transpose()?;
        let rows = Self { spec, columns, phi, treatment, directions, selection, len, whole };
        if !spec.is_lenient() {
            spec.check(rows.treated(), rows.propensity())?;
            spec.check_propensity(Role::PropensityBefore, rows.treated(), rows.propensity_before())?;
        }
        Ok(Some(rows))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether an argument of the `i`-th row is NULL.
    pub(crate) fn is_missing(&self, i: usize) -> bool {
        let place = || self.selection().map_or(i, |selection| selection[i]);
        self.whole.as_ref().is_some_and(|whole| whole.is_null(place()))
    }

    pub(crate) fn treated(&self) -> &[f64] {
        self.column(Role::Treated)
    }

    pub(crate) fn propensity(&self) -> &[f64] {
        self.column(Role::Propensity)
    }

    pub(crate) fn propensity_before(&self) -> &[f64] {
        self.column(Role::PropensityBefore)
    }

    pub(crate) fn error(&self) -> &[f64] {
        self.column(Role::Error)
    }

    pub(crate) fn imputed_error(&self) -> &[f64] {
        self.column(Role::ImputedError)
    }

    pub(crate) fn covariate(&self) -> &[f64] {
        self.column(Role::Covariate)
    }

    pub(crate) fn selection(&self) -> Option<&[usize]> {
        self.selection.as_deref()
    }

    /// Mean and standard deviation of each element of φ, as the directions of the `i`-th row have them; none for a function
    /// that takes no directions.
    pub(crate) fn directions(&self, i: usize) -> [&'a [f64]; 2] {
        let place = self.selection().map_or(i, |selection| selection[i]);
        self.directions.map_or([&[]; 2], |directions| directions.of(place))
    }

    /// Where the rows belong; `None` where they are independent.
    ///
    /// # Errors
    /// Where their clusters were not put into the same groups.
    pub(crate) fn membership(&self) -> Result<Option<Membership>> {
        self.treatment.membership(self.spec.name, self.selection())
    }

    /// Of one entry a row of the batch, those of the rows that count.
    pub(crate) fn keep<'b>(&self, entries: &'b [usize]) -> Cow<'b, [usize]> {
        match &self.selection {
            None => Cow::Borrowed(entries),
            Some(selection) => selection.iter().map(|&row| entries[row]).collect(),
        }
    }

    fn column(&self, role: Role) -> &[f64] {
        self.spec.position(role).map_or(&[], |place| &self.columns[place])
    }

    /// The error to report when a term of these rows, or their sum, is not finite.
    pub(crate) fn not_finite(&self) -> DataFusionError {
        const CURE: &str = "it must be finite; leave such rows out with FILTER (WHERE ...)";
        let treated = self.treated().iter().zip(self.error());
        let untamed = treated.filter(|(o, _)| **o == 1.0).map(|(_, e)| e);
        let bad = |v: &&f64| !v.is_finite();
        if let Some(&e) = untamed.into_iter().find(bad) {
            return self.spec.error(Role::Error, e, CURE);
        }
        if let Some(&e) = self.imputed_error().iter().find(bad) {
            return self.spec.error(Role::ImputedError, e, CURE);
        }
        if let Some(&x) = self.covariate().iter().find(bad) {
            return self.spec.error(Role::Covariate, x, CURE);
        }
        if let Some(value) = self.phi.find_not_finite(self.selection(), self.len()) {
            return self.spec.phi_error(format_args!("holds {value}: {CURE}"));
        }
        self.spec.out_of_range()
    }
}

fn read_column<'a>(array: &'a ArrayRef, selection: Option<&[usize]>) -> Cow<'a, [f64]> {
    match (array.as_boolean_opt(), selection) {
        (Some(bits), None) => bits.values().iter().map(f64::from).collect(),
        (Some(bits), Some(rows)) => rows.iter().map(|&i| f64::from(bits.value(i))).collect(),
        (None, None) => Cow::Borrowed(array.as_primitive::<Float64Type>().values()),
        (None, Some(rows)) => {
            let values = array.as_primitive::<Float64Type>().values();
            rows.iter().map(|&i| values[i]).collect()
        }
    }
}

/// The rows for which `filter` is true.
fn passing(filter: &BooleanArray) -> NullBuffer {
    NullBuffer::new(match filter.nulls() {
        Some(nulls) => filter.values() & nulls.inner(),
        None => filter.values().clone(),
    })
}

/// The rows that have every argument; a NULL error counts as missing only where the row is treated.
fn whole(spec: &Spec, treatment: Treatment<'_>, scalars: &[ArrayRef], phi: &Phi<'_>) -> Option<NullBuffer> {
    let error = spec.position(Role::Error).and_then(|place| {
        let nulls = scalars[place].nulls().filter(|nulls| nulls.null_count() > 0)?;
        Some(NullBuffer::new(nulls.inner() | &!&treated_bits(treatment.treated())))
    });
    let others = spec.roles.iter().zip(scalars);
    let others = others.filter(|(role, _)| **role != Role::Error && role.literal().is_none());
    let others = others.flat_map(|(role, array)| match role {
        Role::Treated => treatment.columns(),
        _ => std::slice::from_ref(array),
    });
    let others = others.map(|array| array.nulls());
    let valid = NullBuffer::union_many(others.chain([error.as_ref()]));
    NullBuffer::union(valid.as_ref(), phi.nulls().as_ref())
}

fn treated_bits(array: &ArrayRef) -> BooleanBuffer {
    match array.as_boolean_opt() {
        Some(bits) => bits.values().clone(),
        None => {
            let values = array.as_primitive::<Float64Type>().values();
            BooleanBuffer::collect_bool(values.len(), |i| values[i] != 0.0)
        }
    }
}
