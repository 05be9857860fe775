use datafusion_expr::Expr;

use super::estimator::{Estimator, Point};
use super::interval::{Interval, interval_doc};
use super::{doubly_robust, inverse_propensity_weights};
use crate::args::{Call, Role, Rows, Spec};
use crate::udaf::Udaf;

aggregate! {
    /// Doubly robust estimate of the mean error over all rows: the imputed error, corrected on treated rows by
    /// `(e-imputed)/p`.
    ///
    /// It is unbiased if either the propensities or the imputed errors are right. NULL if no row counts.
    ///
    /// # Details
    /// `mean(ê + o·(e−ê)/p)`, in the unit of the error.
    ///
    /// Source: Li et al., ICML 2023, section 2.
    dr(treated: Expr, propensity: Expr, error: Expr, imputed_error: Expr), dr_udaf: Udaf<Point<Dr>>
}

aggregate! {
    #[doc = interval_doc!(dr, mean)]
    dr_interval(treated: Expr, propensity: Expr, error: Expr, imputed_error: Expr, level: Option<Expr>),
    dr_interval_udaf: Udaf<Interval<Dr>>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Dr;

impl Estimator for Dr {
    const SPEC: &'static Spec = &Spec::new("dr", &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError]);

    const INTERVAL: &'static Spec =
        &Spec::new("dr_interval", &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError, Role::Level]);

    const EXAMPLE: &'static str = "> SELECT dr(clicked, p, e, imputed) AS dr
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+----------+
| dr       |
+----------+
| 0.359375 |
+----------+";

    const RELATED: &'static [&'static str] = &["ips", "eib", "dr_v2"];

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
}
