use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::{AggregateUDF, Documentation};

use crate::args;
use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::{Function, udaf};

/// Error imputation estimate: `mean(o·e + (1−o)·ê)`.
///
/// `eib(treated, error, imputed_error)`: the observed error where there is one, the imputed error
/// elsewhere; in the unit of the error, right if the imputed errors are. NULL without a row.
///
/// Source: Li et al., ICML 2023, section 2.
pub fn eib_udaf() -> Arc<AggregateUDF> {
    udaf::<Eib>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Eib;

impl Function for Eib {
    const SPEC: &'static Spec = &Spec::new("eib", &[Role::Treated, Role::Error, Role::ImputedError]);

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms::mean(args::map3(
            rows.treated(),
            rows.error(),
            rows.imputed_error(),
            |o, e, imputed| if o == 1.0 { e } else { imputed },
        ))
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.ratio(group))))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "Error imputation based estimate of the mean error over all rows: the observed error on treated rows, \
             the imputed error on the others. It uses no propensity and is right if the imputed errors are. NULL \
             if no row counts.",
            "> SELECT eib(clicked, e, imputed) AS eib
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+---------+
| eib     |
+---------+
| 0.34375 |
+---------+",
            &["dr"],
        )
    }
}
