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

/// Mean error over the treated rows alone: `Σ o·e / Σ o`.
///
/// `naive_treated(treated, error)`: what an audit without weights reports, in the unit of the
/// error; biased whenever treatment depends on the error. NULL if no row is treated.
pub fn naive_treated_udaf() -> Arc<AggregateUDF> {
    udaf::<NaiveTreated>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NaiveTreated;

impl Function for NaiveTreated {
    const SPEC: &'static Spec = &Spec::new("naive_treated", &[Role::Treated, Role::Error]);

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms { numerators: observed_errors(rows), denominators: Some(rows.treated().to_vec()) }
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.ratio(group))))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "Mean error over the treated rows alone, without weights: biased whenever treatment depends on the \
             error. NULL if no treated row counts.",
            "> SELECT naive_treated(clicked, e) AS naive_treated
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+---------------+
| naive_treated |
+---------------+
| 0.375         |
+---------------+",
            &["naive", "snips"],
        )
    }
}
