use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::{AggregateUDF, Documentation};

use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::{Function, udaf};

/// Mean inverse square of the propensities: `mean(1/p²)`.
///
/// `mis(propensity)`: the mean square of the weights `1/p` over all rows, treated or not, on which the variance of
/// weighted estimates grows; from 1, for propensity 1 throughout. A propensity of 0 is an error. NULL without a row.
///
/// Source: Cortes, Mansour and Mohri, *Learning bounds for importance weighting*, NeurIPS 2010.
pub fn mis_udaf() -> Arc<AggregateUDF> {
    udaf::<Mis>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Mis;

impl Function for Mis {
    const SPEC: &'static Spec = &Spec::new("mis", &[Role::Propensity]);

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms::mean(rows.propensity().iter().map(|p| 1.0 / (p * p)).collect())
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.ratio(group))))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::DIAGNOSTICS,
            "Mean of `1/p²` over all rows: the mean square of the inverse propensity weights, with which the variance \
             of weighted estimates grows. It is at least 1. NULL if no row counts.",
            "> SELECT mis(p) AS mis
  FROM (VALUES (0.25), (0.5), (1.0)) AS log (p);
+-----+
| mis |
+-----+
| 7.0 |
+-----+",
            &["sv", "ess"],
        )
    }
}
