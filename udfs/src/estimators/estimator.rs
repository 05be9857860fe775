//! What the estimators have in common: each is a rule for the weights of the observed errors.

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;

use arrow::array::ArrayRef;
use datafusion_common::Result;

use crate::args::{Call, Rows, Spec};
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::Function;

/// An estimate, from `N` numbers a row: the weight of its error, 0 where the error is not used; the row's term; and, if
/// there is a third, what is added to a self-normalised estimate as a plain mean.
pub(super) trait Estimator<const N: usize = 2>: Debug + PartialEq + Eq + Hash + Send + Sync + 'static {
    const SPEC: &'static Spec;

    /// That of the interval: the same, with a level at the end.
    const INTERVAL: &'static Spec;

    /// Whether the sum of the terms is divided by that of the weights, or by the number of rows.
    const NORMALISED: bool = N == 3;

    /// A query, and what it gives.
    const EXAMPLE: &'static str;

    /// The functions to look at next.
    const RELATED: &'static [&'static str];

    /// [`Estimator::EXAMPLE`] of the interval.
    const INTERVAL_EXAMPLE: &'static str;

    fn terms(rows: &Rows<'_>, call: &Call) -> [Vec<f64>; N];
}

/// The aggregate that gives the estimate alone.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Point<E>(PhantomData<E>);

impl<E: Estimator> Function for Point<E> {
    const SPEC: &'static Spec = E::SPEC;

    const EXAMPLE: &'static str = E::EXAMPLE;

    const RELATED: &'static [&'static str] = E::RELATED;

    type State = Sums;

    fn terms(rows: &Rows<'_>, call: &Call) -> Terms {
        let [weights, terms] = E::terms(rows, call);
        Terms { numerators: terms, denominators: E::NORMALISED.then_some(weights) }
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.ratio(group))))
    }
}
