//! Arguments of the aggregates: their meaning by position, their types, and the rows that count.

mod call;
mod day_state;
mod directions;
mod phi;
mod role;
mod rows;
mod spec;
mod treatment;

pub(crate) use call::Call;
pub(crate) use day_state::day_state_fields;
pub(crate) use directions::directions_fields;
pub(crate) use phi::Phi;
pub(crate) use role::Role;
pub(crate) use rows::Rows;
pub(crate) use spec::{Divides, Spec, is_number, named_signature};
pub(crate) use treatment::{Clustering, MOST_GROUPS, Membership};

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
