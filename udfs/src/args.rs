//! Arguments of the aggregates: their meaning by position, their types, and the rows that count.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Field, Float64Type};
use datafusion_common::{DataFusionError, Result, exec_datafusion_err, plan_err};
use datafusion_expr::Signature;

use crate::phi::Phi;

/// What a positional argument means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Treated,
    Propensity,
    Error,
    ImputedError,
    Lambda,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Treated => "treated",
            Role::Propensity => "propensity",
            Role::Error => "error",
            Role::ImputedError => "imputed_error",
            Role::Lambda => "lambda",
        }
    }

    fn expects(self) -> &'static str {
        match self {
            Role::Treated => "a boolean, or a number that is 0 or 1",
            Role::Propensity => "a number from 0 to 1",
            Role::Error | Role::ImputedError => "a number",
            Role::Lambda => "a literal number, 0 or more",
        }
    }
}

const PHI_EXPECTS: &str =
    "any count of numeric columns, or one List, LargeList or FixedSizeList of numbers, or nothing (phi = 1)";

/// The name of an aggregate and what it takes.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) roles: &'static [Role],
    /// Whether φ follows the roles; such functions weigh untreated rows by `1 / (1 − p)` too.
    pub(crate) phi: bool,
}

impl Spec {
    /// The call as it is written, e.g. `bmse(treated, propensity [, phi, ...])`.
    pub(crate) fn syntax(&self) -> String {
        let names: Vec<_> = self.roles.iter().map(|role| role.name()).collect();
        let phi = if self.phi { " [, phi, ...]" } else { "" };
        format!("{}({}{phi})", self.name, names.join(", "))
    }

    fn usage(&self) -> String {
        let mut arguments: Vec<_> =
            self.roles.iter().map(|role| format!("{} is {}", role.name(), role.expects())).collect();
        if self.phi {
            arguments.push(format!("phi is {PHI_EXPECTS}"));
        }
        format!("{}, where {}", self.syntax(), arguments.join("; "))
    }

    pub(crate) fn parameter_names(&self) -> Vec<&'static str> {
        let roles = self.roles.iter().map(|role| role.name());
        roles.chain(self.phi.then_some("phi")).collect()
    }

    /// A signature whose arguments can also be given by name.
    pub(crate) fn signature(&self) -> Signature {
        Signature::user_defined(datafusion_expr::Volatility::Immutable)
            .with_parameter_names(self.parameter_names())
            .expect("role names are distinct")
    }

    /// The types the arguments are cast to before they reach an accumulator: scalars become
    /// `Float64` (a boolean `treated` stays), float lists stay as they are.
    pub(crate) fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let fixed = self.roles.len();
        if types.len() < fixed || (types.len() > fixed && !self.phi) {
            let least = if self.phi { "at least " } else { "" };
            return plan_err!(
                "{} takes {least}{fixed} arguments, not {}; usage: {}",
                self.name,
                types.len(),
                self.usage()
            );
        }
        let refuse = |at: usize, name: &str, expects: &str| {
            plan_err!(
                "argument {} ({name}) of {} must be {expects}, not {}; usage: {}",
                at + 1,
                self.name,
                types[at],
                self.usage()
            )
        };
        let mut coerced = Vec::with_capacity(types.len());
        for (at, (&role, data_type)) in self.roles.iter().zip(types).enumerate() {
            match data_type {
                DataType::Boolean if role == Role::Treated => coerced.push(DataType::Boolean),
                t if is_number(t) => coerced.push(DataType::Float64),
                _ => return refuse(at, role.name(), role.expects()),
            }
        }
        match &types[fixed..] {
            [list] if coerce_list(list).is_some() => coerced.extend(coerce_list(list)),
            columns => {
                for (at, data_type) in columns.iter().enumerate() {
                    if !is_number(data_type) && data_type != &DataType::Boolean {
                        return refuse(fixed + at, "phi", PHI_EXPECTS);
                    }
                    coerced.push(DataType::Float64);
                }
            }
        }
        Ok(coerced)
    }

    /// Place of λ, if the function takes one.
    pub(crate) fn lambda(&self) -> Option<usize> {
        self.position(Role::Lambda)
    }

    fn position(&self, role: Role) -> Option<usize> {
        self.roles.iter().position(|&r| r == role)
    }

    /// Fails on the first row whose `treated` is not 0 or 1, or whose propensity is not a
    /// probability or would be divided by as 0. Functions without a propensity pass none.
    pub(crate) fn check(&self, treated: &[f64], propensity: &[f64]) -> Result<()> {
        let binary = |o: f64| (o == 0.0) | (o == 1.0);
        if !treated.iter().fold(true, |ok, &o| ok & binary(o)) {
            let other = treated.iter().copied().find(|&o| !binary(o));
            return Err(self.error(
                Role::Treated,
                other.unwrap_or(f64::NAN),
                "it must be 0 or 1; write a condition such as `clicks > 0`",
            ));
        }
        let rows = || treated.iter().copied().zip(propensity.iter().copied());
        let fine = |o: f64, p: f64| {
            let by_zero = ((o == 1.0) & (p == 0.0)) | (self.phi & (o == 0.0) & (p == 1.0));
            (0.0..=1.0).contains(&p) & !by_zero
        };
        if rows().fold(true, |ok, (o, p)| ok & fine(o, p)) {
            return Ok(());
        }
        let other = rows().find(|&(o, p)| !fine(o, p)).map(|(_, p)| p);
        let cure = match other {
            Some(0.0) => {
                "a treated row cannot have propensity 0; clip first, \
                 e.g. clip_propensity(propensity, 0.01, 1)"
            }
            Some(1.0) => {
                "an untreated row cannot have propensity 1; clip first, \
                 e.g. clip_propensity(propensity, 0, 0.99)"
            }
            _ => "it must be a probability, from 0 to 1",
        };
        Err(self.error(Role::Propensity, other.unwrap_or(f64::NAN), cure))
    }

    /// An execution error about one argument: its name, its value and what to do.
    pub(crate) fn error(&self, role: Role, value: f64, cure: &str) -> DataFusionError {
        let place = self.position(role).map_or(0, |at| at + 1);
        let role = role.name();
        exec_datafusion_err!("{}: argument {place} ({role}) is {value}: {cure}", self.name)
    }

    pub(crate) fn phi_error(&self, what: impl std::fmt::Display) -> DataFusionError {
        let place = self.roles.len() + 1;
        exec_datafusion_err!("{}: argument {place} (phi) {what}", self.name)
    }
}

pub(crate) fn is_number(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null => true,
        DataType::Dictionary(_, values) => values.is_numeric(),
        other => other.is_numeric(),
    }
}

/// The list type φ is read as, or `None` if `data_type` is not a list of numbers.
fn coerce_list(data_type: &DataType) -> Option<DataType> {
    let element = |field: &Arc<Field>| match field.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Some(Arc::clone(field)),
        t if is_number(t) => Some(Arc::new(field.as_ref().clone().with_data_type(DataType::Float64))),
        _ => None,
    };
    match data_type {
        DataType::List(field) => element(field).map(DataType::List),
        DataType::LargeList(field) => element(field).map(DataType::LargeList),
        DataType::FixedSizeList(field, length) => element(field).map(|field| DataType::FixedSizeList(field, *length)),
        _ => None,
    }
}

/// The rows of one batch that count, checked: NULLs and filtered rows are left out, every
/// `treated` is 0 or 1, and no row divides by a propensity of 0.
///
/// Columns hold the rows that count, one after the other.
pub(crate) struct Rows<'a> {
    pub(crate) spec: &'static Spec,
    columns: Vec<Cow<'a, [f64]>>,
    pub(crate) phi: Phi<'a>,
    /// Places in the batch of the rows that count; `None` when all do.
    selection: Option<Vec<usize>>,
}

impl<'a> Rows<'a> {
    /// Reads the arguments of a call; `None` if no row counts.
    pub(crate) fn read(
        spec: &'static Spec,
        values: &'a [ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Option<Self>> {
        let (scalars, phi) = values.split_at(spec.roles.len());
        let mut phi = Phi::read(phi)?;
        let selection = select(spec, scalars, &phi, filter);
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
            .map(|(role, array)| match role {
                Role::Lambda => Cow::Borrowed(&[][..]),
                _ => read_column(array, selection.as_deref()),
            })
            .collect();
        let rows = Self { spec, columns, phi, selection };
        spec.check(rows.treated(), rows.propensity())?;
        Ok(Some(rows))
    }

    pub(crate) fn len(&self) -> usize {
        self.treated().len()
    }

    pub(crate) fn treated(&self) -> &[f64] {
        self.column(Role::Treated)
    }

    pub(crate) fn propensity(&self) -> &[f64] {
        self.column(Role::Propensity)
    }

    pub(crate) fn error(&self) -> &[f64] {
        self.column(Role::Error)
    }

    pub(crate) fn imputed_error(&self) -> &[f64] {
        self.column(Role::ImputedError)
    }

    pub(crate) fn selection(&self) -> Option<&[usize]> {
        self.selection.as_deref()
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
        if let Some(value) = self.phi.find_not_finite(self.selection(), self.len()) {
            return self.spec.phi_error(format_args!("holds {value}: {CURE}"));
        }
        exec_datafusion_err!(
            "{}: the sums leave the range of a 64-bit float; rescale the arguments or clip \
             propensities further from 0 and 1",
            self.spec.name
        )
    }
}

/// Maps three columns of equal length to one.
pub(crate) fn map3(a: &[f64], b: &[f64], c: &[f64], f: impl Fn(f64, f64, f64) -> f64) -> Vec<f64> {
    let len = a.len();
    let (b, c) = (&b[..len], &c[..len]);
    (0..len).map(|i| f(a[i], b[i], c[i])).collect()
}

/// Maps two columns of equal length to one.
pub(crate) fn map2(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()
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

/// The rows that pass `filter` and have every argument; a NULL error counts as missing only
/// where the row is treated.
fn select(spec: &Spec, scalars: &[ArrayRef], phi: &Phi<'_>, filter: Option<&BooleanArray>) -> Option<Vec<usize>> {
    let filter = filter.map(|filter| {
        NullBuffer::new(match filter.nulls() {
            Some(nulls) => filter.values() & nulls.inner(),
            None => filter.values().clone(),
        })
    });
    let error = spec.position(Role::Error).and_then(|place| {
        let nulls = scalars[place].nulls().filter(|nulls| nulls.null_count() > 0)?;
        Some(NullBuffer::new(nulls.inner() | &!&treated_bits(&scalars[0])))
    });
    let others = spec.roles.iter().zip(scalars);
    let others = others.filter(|(role, _)| !matches!(role, Role::Error | Role::Lambda)).map(|(_, array)| array.nulls());
    let valid = NullBuffer::union_many(others.chain([error.as_ref(), filter.as_ref()]));
    let valid = NullBuffer::union(valid.as_ref(), phi.nulls().as_ref())?;
    (valid.null_count() > 0).then(|| valid.valid_indices().collect())
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
