use std::sync::Arc;

use datafusion_expr::{AggregateUDF, Documentation};

use super::doubly_robust;
use super::estimator::{Estimator, Point};
use super::interval::Interval;
use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::udaf::udaf;
use crate::{args, weights};

/// Switch-DR: `mean(ê + o·w·(e−ê)·1{w ≤ threshold})` over all rows, with `w = 1/p`.
///
/// `switch_dr(treated, propensity, error, imputed_error, threshold)`: [`dr`](crate::dr_udaf) that trusts the imputed
/// error alone where the weight is above the threshold; in the unit of the error. `threshold` is a literal above 0.
/// NULL without a row.
///
/// Source: Wang, Agarwal and Dudík, *Optimal and adaptive off-policy evaluation in contextual bandits*, ICML 2017.
pub fn switch_dr_udaf() -> Arc<AggregateUDF> {
    udaf::<Point<SwitchDr>>()
}

/// [`switch_dr`](crate::switch_dr_udaf) with its standard error and confidence interval.
///
/// `switch_dr_interval(treated, propensity, error, imputed_error, threshold [, level])` gives a struct of
/// `estimate`, `std_error`, `lower`, `upper`, `n` and `ess`, in the unit of the error but for the last two:
/// the standard error is that of the mean of the row terms, NULL with the bounds if fewer than two rows count;
/// `ess` is Kish's effective sample size of the weights up to the threshold. NULL without a row.
pub fn switch_dr_interval_udaf() -> Arc<AggregateUDF> {
    udaf::<Interval<SwitchDr>>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SwitchDr;

impl Estimator for SwitchDr {
    const SPEC: &'static Spec =
        &Spec::new("switch_dr", &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError, Role::Threshold]);

    const INTERVAL: &'static Spec = &Spec::new(
        "switch_dr_interval",
        &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError, Role::Threshold, Role::Level],
    );

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT switch_dr_interval(clicked, p, e, imputed, 1.5) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+-------+--------+
| estimate | lower | upper  |
+----------+-------+--------+
| 0.3594   | 0.157 | 0.5617 |
+----------+-------+--------+";

    fn terms(rows: &Rows<'_>, call: &Call) -> [Vec<f64>; 2] {
        let threshold = call.literal(Role::Threshold);
        let switched = |o, p| Some(weights::inverse_propensity(o, p)).filter(|w| *w <= threshold).unwrap_or(0.0);
        doubly_robust(rows, args::map2(rows.treated(), rows.propensity(), switched))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::ESTIMATORS,
            "Switch-DR estimate of the mean error over all rows: the doubly robust estimate, without the correction \
             of treated rows whose weight `1/p` is above `threshold`. Less noise than `dr`, for a bias where the \
             imputed errors of those rows are wrong. NULL if no row counts.",
            "> SELECT switch_dr(clicked, p, e, imputed, 1.5) AS switch_dr
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+-----------+
| switch_dr |
+-----------+
| 0.359375  |
+-----------+",
            &["dr", "dr_os", "ips_clipped"],
        )
    }
}
