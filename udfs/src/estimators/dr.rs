use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::{AggregateUDF, Documentation};

use super::dr_terms;
use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::{Function, udaf};

/// Doubly robust estimate: `mean(ê + o·(e−ê)/p)` over all rows.
///
/// `dr(treated, propensity, error, imputed_error)`: in the unit of the error, right if either the
/// propensities or the imputed errors are. NULL without a row.
///
/// Source: Li et al., ICML 2023, section 2.
pub fn dr_udaf() -> Arc<AggregateUDF> {
    udaf::<Dr>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Dr;

impl Function for Dr {
    const SPEC: &'static Spec = &Spec::new("dr", &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError]);

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms::mean(dr_terms(rows))
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.ratio(group))))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "Doubly robust estimate of the mean error over all rows: the imputed error, corrected on treated rows \
             by `(e-imputed)/p`. It is unbiased if either the propensities or the imputed errors are right. NULL \
             if no row counts.",
            "> SELECT dr(clicked, p, e, imputed) AS dr
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+----------+
| dr       |
+----------+
| 0.359375 |
+----------+",
            &["ips", "eib", "dr_v2"],
        )
    }
}
