//! What samples say of the truth: errors from groups of rows, laws of few degrees of freedom, bounds of tails.

mod holm;
mod jackknife;
mod likelihood;
mod student;
mod tail;

pub(crate) use holm::{holm, sidak};
pub(crate) use jackknife::{Spread, jackknife};
pub(crate) use likelihood::{Likelihood, NODES, REACH, SHIFTS};
pub(crate) use student::{student_quantile, student_tail};
pub(crate) use tail::{Cumulants, tail_probability};
