use datafusion_expr::Expr;

use super::doubly_robust;
use super::estimator::{Estimator, Point};
use super::interval::{Interval, interval_doc};
use crate::args::{Call, Role, Rows, Spec};
use crate::udaf::Udaf;
use crate::{args, weights};

aggregate! {
    /// Switch-DR estimate of the mean error over all rows: the doubly robust estimate, without the correction of
    /// treated rows whose weight `1/p` is above `threshold`.
    ///
    /// Less noise than `dr`, for a bias where the imputed errors of those rows are wrong. NULL if no row counts.
    ///
    /// # Details
    /// `mean(ê + o·w·(e−ê)·1{w ≤ threshold})` with `w = 1/p`, in the unit of the error.
    ///
    /// Source: Wang, Agarwal and Dudík, *Optimal and adaptive off-policy evaluation in contextual bandits*, ICML 2017.
    switch_dr(treated: Expr, propensity: Expr, error: Expr, imputed_error: Expr, threshold: Expr),
    switch_dr_udaf: Udaf<Point<SwitchDr>>
}

aggregate! {
    #[doc = interval_doc!(switch_dr, mean)]
    switch_dr_interval(
        treated: Expr,
        propensity: Expr,
        error: Expr,
        imputed_error: Expr,
        threshold: Expr,
        level: Option<Expr>
    ), switch_dr_interval_udaf: Udaf<Interval<SwitchDr>>
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

    const EXAMPLE: &'static str = "> SELECT switch_dr(clicked, p, e, imputed, 1.5) AS switch_dr
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+-----------+
| switch_dr |
+-----------+
| 0.359375  |
+-----------+";

    const RELATED: &'static [&'static str] = &["dr", "dr_os", "ips_clipped"];

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
}
