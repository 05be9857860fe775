use std::sync::Arc;

use datafusion_expr::{AggregateUDF, Documentation};

use super::estimator::{Estimator, Point};
use super::interval::Interval;
use super::{doubly_robust, inverse_propensity_weights};
use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::udaf::udaf;

/// Doubly robust estimate: `mean(ê + o·(e−ê)/p)` over all rows.
///
/// `dr(treated, propensity, error, imputed_error)`: in the unit of the error, right if either the
/// propensities or the imputed errors are. NULL without a row.
///
/// Source: Li et al., ICML 2023, section 2.
pub fn dr_udaf() -> Arc<AggregateUDF> {
    udaf::<Point<Dr>>()
}

/// [`dr`](crate::dr_udaf) with its standard error and confidence interval.
///
/// `dr_interval(treated, propensity, error, imputed_error [, level])` gives a struct of
/// `estimate`, `std_error`, `lower`, `upper`, `n` and `ess`, in the unit of the error but for the last two:
/// the standard error is that of the mean of the row terms, NULL with the bounds if fewer than two rows count;
/// `ess` is Kish's effective sample size of the weights `o/p`. NULL without a row.
pub fn dr_interval_udaf() -> Arc<AggregateUDF> {
    udaf::<Interval<Dr>>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Dr;

impl Estimator for Dr {
    const SPEC: &'static Spec = &Spec::new("dr", &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError]);

    const INTERVAL: &'static Spec =
        &Spec::new("dr_interval", &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError, Role::Level]);

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT dr_interval(clicked, p, e, imputed) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+-------+--------+
| estimate | lower | upper  |
+----------+-------+--------+
| 0.3594   | 0.157 | 0.5617 |
+----------+-------+--------+";

    fn terms(rows: &Rows<'_>, _call: &Call) -> [Vec<f64>; 2] {
        doubly_robust(rows, inverse_propensity_weights(rows))
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
