use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::{AggregateUDF, Documentation};

use super::observed_errors;
use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::{Function, udaf};

/// Naive estimate as the paper prints it: `Σ o·e / |D|`, the observed error spread over all rows.
///
/// `naive(treated, error)`: in the unit of the error, 0 if no row is treated, NULL without a row.
/// For the mean over treated rows use [`naive_treated_udaf`](crate::naive_treated_udaf).
///
/// Source: Li et al., ICML 2023, section 3.2.
pub fn naive_udaf() -> Arc<AggregateUDF> {
    udaf::<Naive>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Naive;

impl Function for Naive {
    const SPEC: &'static Spec = &Spec::new("naive", &[Role::Treated, Role::Error]);

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms::mean(observed_errors(rows))
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.ratio(group))))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "Naive estimate of the mean error as the paper prints it: the sum of the observed errors divided by \
             the number of all rows, treated or not. For the mean over treated rows use `naive_treated`. NULL if \
             no row counts.",
            "> SELECT naive(clicked, e) AS naive
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+--------+
| naive  |
+--------+
| 0.1875 |
+--------+",
            &["naive_treated", "ips"],
        )
    }
}
