//! The name of an aggregate, what it takes, and what it says of what it does not take.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion_common::{DataFusionError, Result, exec_datafusion_err, plan_err};
use datafusion_expr::{Signature, Volatility};

use super::day_state::{day_state_fields, is_day_state};
use super::directions::{directions_fields, is_directions};
use super::role::{Kind, Literal, Role};
use super::treatment::is_treatment;

const PHI_EXPECTS: &str = "any count of numeric columns, or one column of lists of numbers";

/// Which rows a function divides by the propensity of what happened to them: that must not be 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Divides {
    Neither,
    Treated,
    Both,
}

/// The name of an aggregate and what it takes.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) roles: &'static [Role],
    /// Whether φ follows the roles.
    pub(crate) phi: bool,
    /// What φ is called.
    pub(crate) vector: &'static str,
    /// Whether φ must be given.
    needs_vector: bool,
    /// Elements that the state's vectors have in front of φ's.
    leads: usize,
    divides: Divides,
    /// Whether rows with NULLs and bad values reach the function too, instead of being skipped or failing the query.
    lenient: bool,
}

impl Spec {
    /// A function that weighs treated rows by `1 / p`; where it takes no `treated`, every row.
    pub(crate) const fn new(name: &'static str, roles: &'static [Role]) -> Self {
        Self {
            name,
            roles,
            phi: false,
            vector: "phi",
            needs_vector: false,
            leads: 0,
            divides: Divides::Treated,
            lenient: false,
        }
    }

    /// The function takes φ after its roles, and weighs untreated rows by `1 / (1 − p)` too.
    pub(crate) const fn with_phi(self) -> Self {
        Self { phi: true, divides: Divides::Both, ..self }
    }

    /// The function takes covariates after its roles, at least one, and weighs untreated rows by `1 / (1 − p)` too.
    pub(crate) const fn with_covariates(self) -> Self {
        Self { vector: "covariate", needs_vector: true, ..self.with_phi() }
    }

    /// The function's vectors come in an argument of another name.
    pub(crate) const fn with_vector(self, name: &'static str) -> Self {
        Self { vector: name, ..self }
    }

    pub(crate) const fn with_leads(self, leads: usize) -> Self {
        Self { leads, ..self }
    }

    pub(crate) const fn divides(self, divides: Divides) -> Self {
        Self { divides, ..self }
    }

    /// The function sorts out NULLs and bad values itself.
    pub(crate) const fn lenient(self) -> Self {
        Self { lenient: true, ..self }
    }

    pub(crate) fn is_lenient(&self) -> bool {
        self.lenient
    }

    pub(crate) fn divides_both(&self) -> bool {
        self.divides == Divides::Both
    }

    pub(crate) fn divides_neither(&self) -> bool {
        self.divides == Divides::Neither
    }

    /// The call as it is written, e.g. `bmse(treated, propensity [, phi, ...])`.
    pub(crate) fn syntax(&self) -> String {
        let mut syntax = format!("{}(", self.name);
        for (at, role) in self.roles.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            syntax += &match role.is_optional() {
                true => format!(" [{comma}{}]", role.name()),
                false => format!("{comma}{}", role.name()),
            };
        }
        syntax
            + match (self.phi, self.needs_vector) {
                (true, true) => ", covariate, ...)",
                (true, false) => " [, phi, ...])",
                (false, _) => ")",
            }
    }

    fn usage(&self) -> String {
        let mut arguments: Vec<_> =
            self.roles.iter().map(|role| format!("{} is {}", role.name(), role.expects())).collect();
        if self.phi {
            let or_nothing = if self.needs_vector { "" } else { ", or nothing (phi = 1)" };
            arguments.push(format!("{} is {PHI_EXPECTS}{or_nothing}", self.vector));
        }
        format!("{}, where {}", self.syntax(), arguments.join("; "))
    }

    pub(crate) fn parameter_names(&self) -> Vec<&'static str> {
        let roles = self.roles.iter().map(|role| role.name());
        roles.chain(self.phi.then_some(self.vector)).collect()
    }

    /// A signature whose arguments can also be given by name.
    pub(crate) fn signature(&self) -> Signature {
        named_signature(self.parameter_names())
    }

    /// The types the arguments are cast to before they reach an accumulator: scalars become
    /// `Float64` (a boolean `treated` and a treatment stay), float lists stay as they are.
    pub(crate) fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let most = self.roles.len();
        let needed = self.roles.iter().filter(|role| !role.is_optional()).count();
        let least = needed + usize::from(self.needs_vector);
        let fixed = most.min(types.len());
        if types.len() < least || (types.len() > most && !self.phi) {
            let takes = match (self.phi, least == most) {
                (true, _) => format!("at least {least}"),
                (false, true) => most.to_string(),
                (false, false) => format!("{least} to {most}"),
            };
            return plan_err!("{} takes {takes} arguments, not {}; usage: {}", self.name, types.len(), self.usage());
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
            let is_choice = matches!(role.literal(), Some(Literal { kind: Kind::Choice(_), .. }));
            match data_type {
                t if is_choice && t.is_string() => coerced.push(DataType::Utf8),
                t if role == Role::Treated && is_treatment(t) => coerced.push(t.clone()),
                DataType::Boolean if matches!(role, Role::Treated | Role::Covariate) => coerced.push(match role {
                    Role::Treated => DataType::Boolean,
                    _ => DataType::Float64,
                }),
                t if role == Role::Directions && is_directions(t) => {
                    coerced.push(DataType::Struct(directions_fields()))
                }
                t if role == Role::Day && is_day(t) => coerced.push(t.clone()),
                t if role == Role::DayState && is_day_state(t) => coerced.push(DataType::Struct(day_state_fields())),
                _ if matches!(role, Role::Directions | Role::Day | Role::DayState) => {
                    return refuse(at, role.name(), role.expects());
                }
                t if is_number(t) && !is_choice => coerced.push(DataType::Float64),
                _ => return refuse(at, role.name(), role.expects()),
            }
        }
        match &types[fixed..] {
            [list] if coerce_list(list).is_some() => coerced.extend(coerce_list(list)),
            columns => {
                for (at, data_type) in columns.iter().enumerate() {
                    if !is_number(data_type) && data_type != &DataType::Boolean {
                        return refuse(fixed + at, self.vector, PHI_EXPECTS);
                    }
                    coerced.push(DataType::Float64);
                }
            }
        }
        Ok(coerced)
    }

    pub(crate) fn takes(&self, role: Role) -> bool {
        self.position(role).is_some()
    }

    pub(super) fn position(&self, role: Role) -> Option<usize> {
        self.roles.iter().position(|&r| r == role)
    }

    /// Fails on the first row whose `treated` is not 0 or 1, or whose propensity is not a
    /// probability or would be divided by as 0. Functions without one of the two pass none.
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
        self.check_propensity(Role::Propensity, treated, propensity)
    }

    /// [`Spec::check`] of the propensities in the argument `role`.
    pub(super) fn check_propensity(&self, role: Role, treated: &[f64], propensity: &[f64]) -> Result<()> {
        let treated = match self.takes(Role::Treated) {
            true => Cow::Borrowed(treated),
            false => Cow::Owned(vec![1.0; propensity.len()]),
        };
        let rows = || treated.iter().copied().zip(propensity.iter().copied());
        let (one, both) = (self.divides != Divides::Neither, self.divides == Divides::Both);
        let fine = |o: f64, p: f64| {
            let by_zero = (one & (o == 1.0) & (p == 0.0)) | (both & (o == 0.0) & (p == 1.0));
            (0.0..=1.0).contains(&p) & !by_zero
        };
        if rows().fold(true, |ok, (o, p)| ok & fine(o, p)) {
            return Ok(());
        }
        let other = rows().find(|&(o, p)| !fine(o, p)).map(|(_, p)| p);
        let cure = match other {
            Some(0.0) if !self.takes(Role::Treated) => {
                "it cannot be 0, for it is divided by; clip first, e.g. clip_propensity(propensity, 0.01, 1)"
            }
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
        Err(self.error(role, other.unwrap_or(f64::NAN), cure))
    }

    /// An execution error about one argument: its name, its value and what to do.
    pub(crate) fn error(&self, role: Role, value: f64, cure: &str) -> DataFusionError {
        let place = self.position(role).map_or(0, |at| at + 1);
        let role = role.name();
        exec_datafusion_err!("{}: argument {place} ({role}) is {value}: {cure}", self.name)
    }

    /// [`Spec::two_lengths`], by the widths of the state's vectors.
    pub(crate) fn two_widths(&self, first: usize, second: usize) -> DataFusionError {
        self.two_lengths(first - self.leads, second - self.leads)
    }

    /// The error for lists of two lengths within one query.
    pub(crate) fn two_lengths(&self, first: usize, second: usize) -> DataFusionError {
        self.phi_error(format_args!("has lists of {first} and of {second} elements: all must be of one length"))
    }

    /// The error where sums of finite terms are not finite.
    pub(crate) fn out_of_range(&self) -> DataFusionError {
        exec_datafusion_err!(
            "{}: the sums leave the range of a 64-bit float; rescale the arguments or clip \
             propensities further from 0 and 1",
            self.name
        )
    }

    pub(crate) fn phi_error(&self, what: impl std::fmt::Display) -> DataFusionError {
        let place = self.roles.len() + 1;
        exec_datafusion_err!("{}: argument {place} ({}) {what}", self.name, self.vector)
    }
}

pub(crate) fn is_number(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null => true,
        DataType::Dictionary(_, values) => values.is_numeric(),
        other => other.is_numeric(),
    }
}

/// Whether values of this type can stand for days.
fn is_day(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_string()
        || matches!(data_type, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..))
}

/// The list type φ is read as, or `None` if `data_type` is not a list of numbers.
fn coerce_list(data_type: &DataType) -> Option<DataType> {
    let element = |field: &Arc<Field>| match field.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Some(Arc::clone(field)),
        t if is_number(t) => Some(Arc::new(field.as_ref().clone().with_data_type(DataType::Float64))),
        _ => None,
    };
    match data_type {
        DataType::List(field) | DataType::ListView(field) => element(field).map(DataType::List),
        DataType::LargeList(field) | DataType::LargeListView(field) => element(field).map(DataType::LargeList),
        DataType::FixedSizeList(field, length) => element(field).map(|field| DataType::FixedSizeList(field, *length)),
        _ => None,
    }
}

/// The signature of a function that looks at the types of its arguments itself.
///
/// # Panics
/// Where two parameters have one name.
pub(crate) fn named_signature(parameters: Vec<impl Into<String>>) -> Signature {
    Signature::user_defined(Volatility::Immutable)
        .with_parameter_names(parameters)
        .expect("parameter names are distinct")
}
