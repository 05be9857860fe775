use std::sync::Arc;

use datafusion_expr::{AggregateUDF, Documentation};

use super::estimator::{Estimator, Point};
use super::interval::Interval;
use crate::args::{self, Call, Role, Rows, Spec};
use crate::docs;
use crate::udaf::udaf;

/// Error imputation estimate: `mean(o·e + (1−o)·ê)`.
///
/// `eib(treated, error, imputed_error)`: the observed error where there is one, the imputed error
/// elsewhere; in the unit of the error, right if the imputed errors are. NULL without a row.
///
/// Source: Li et al., ICML 2023, section 2.
pub fn eib_udaf() -> Arc<AggregateUDF> {
    udaf::<Point<Eib>>()
}

/// [`eib`](crate::eib_udaf) with its standard error and confidence interval.
///
/// `eib_interval(treated, error, imputed_error [, level])` gives a struct of
/// `estimate`, `std_error`, `lower`, `upper`, `n` and `ess`, in the unit of the error but for the last two:
/// the standard error is that of the mean of the row terms, NULL with the bounds if fewer than two rows count;
/// `ess` is the number of treated rows. NULL without a row.
pub fn eib_interval_udaf() -> Arc<AggregateUDF> {
    udaf::<Interval<Eib>>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Eib;

impl Estimator for Eib {
    const SPEC: &'static Spec = &Spec::new("eib", &[Role::Treated, Role::Error, Role::ImputedError]);

    const INTERVAL: &'static Spec =
        &Spec::new("eib_interval", &[Role::Treated, Role::Error, Role::ImputedError, Role::Level]);

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT eib_interval(clicked, e, imputed) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+-------+--------+
| estimate | lower | upper  |
+----------+-------+--------+
| 0.3438   | 0.16  | 0.5275 |
+----------+-------+--------+";

    fn terms(rows: &Rows<'_>, _call: &Call) -> [Vec<f64>; 2] {
        let chosen = |o, e, imputed| if o == 1.0 { e } else { imputed };
        let terms = args::map3(rows.treated(), rows.error(), rows.imputed_error(), chosen);
        [rows.treated().to_vec(), terms]
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
