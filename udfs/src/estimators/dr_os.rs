use std::sync::Arc;

use datafusion_expr::{AggregateUDF, Documentation};

use super::doubly_robust;
use super::estimator::{Estimator, Point};
use super::interval::Interval;
use crate::args::{self, Call, Role, Rows, Spec};
use crate::docs;
use crate::udaf::udaf;

/// DR with optimistic shrinkage: `mean(ê + o·w_λ·(e−ê))` over all rows, with `w_λ = λw/(w²+λ)` and `w = 1/p`.
///
/// `dr_os(treated, propensity, error, imputed_error, shrinkage)`: [`dr`](crate::dr_udaf) whose weights grow no further
/// than `√λ/2`; in the unit of the error. `shrinkage` is the literal λ, 0 or more: 0 leaves the mean imputed error, and
/// the larger it is, the closer the estimate is to `dr`. NULL without a row.
///
/// Source: Su, Dimakopoulou, Krishnamurthy and Dudík, *Doubly robust off-policy evaluation with shrinkage*, ICML 2020.
pub fn dr_os_udaf() -> Arc<AggregateUDF> {
    udaf::<Point<DrOs>>()
}

/// [`dr_os`](crate::dr_os_udaf) with its standard error and confidence interval.
///
/// `dr_os_interval(treated, propensity, error, imputed_error, shrinkage [, level])` gives a struct of
/// `estimate`, `std_error`, `lower`, `upper`, `n` and `ess`, in the unit of the error but for the last two:
/// the standard error is that of the mean of the row terms, NULL with the bounds if fewer than two rows count;
/// `ess` is Kish's effective sample size of the shrunk weights. NULL without a row.
pub fn dr_os_interval_udaf() -> Arc<AggregateUDF> {
    udaf::<Interval<DrOs>>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DrOs;

impl Estimator for DrOs {
    const SPEC: &'static Spec =
        &Spec::new("dr_os", &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError, Role::Shrinkage]);

    const INTERVAL: &'static Spec = &Spec::new(
        "dr_os_interval",
        &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError, Role::Shrinkage, Role::Level],
    );

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT dr_os_interval(clicked, p, e, imputed, 4) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+--------+--------+
| estimate | lower  | upper  |
+----------+--------+--------+
| 0.3374   | 0.1603 | 0.5146 |
+----------+--------+--------+";

    fn terms(rows: &Rows<'_>, call: &Call) -> [Vec<f64>; 2] {
        let shrinkage = call.literal(Role::Shrinkage);
        let shrunk = |o, p| o * shrinkage * p / (1.0 + shrinkage * p * p);
        doubly_robust(rows, args::map2(rows.treated(), rows.propensity(), shrunk))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "Doubly robust estimate of the mean error over all rows, with weights `w = 1/p` shrunk to `shrinkage*w / \
             (w*w + shrinkage)`: none is above half the square root of `shrinkage`. 0 leaves the mean imputed error, \
             a large number `dr`. NULL if no row counts.",
            "> SELECT dr_os(clicked, p, e, imputed, 4) AS dr_os
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+--------------------+
| dr_os              |
+--------------------+
| 0.3374297752808989 |
+--------------------+",
            &["dr", "switch_dr", "ips_clipped"],
        )
    }
}
