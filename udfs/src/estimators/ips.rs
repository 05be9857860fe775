use datafusion_expr::Expr;

use super::estimator::{Estimator, Point};
use super::interval::{Interval, interval_doc};
use super::{inverse_propensity_weights, weighted_errors};
use crate::args::{Call, Role, Rows, Spec};
use crate::udaf::Udaf;

aggregate! {
    /// Inverse propensity score estimate of the mean error over all rows: the mean of `o*e/p`.
    ///
    /// It is unbiased if the propensities are right, and noisy if some are small. NULL if no row counts.
    ///
    /// # Details
    /// In the unit of the error.
    ///
    /// Source: Li et al., ICML 2023, section 2.
    ips(treated: Expr, propensity: Expr, error: Expr), ips_udaf: Udaf<Point<Ips>>
}

aggregate! {
    #[doc = interval_doc!(ips, mean)]
    ips_interval(treated: Expr, propensity: Expr, error: Expr, level: Option<Expr>),
    ips_interval_udaf: Udaf<Interval<Ips>>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ips;

impl Estimator for Ips {
    const SPEC: &'static Spec = &Spec::new("ips", &[Role::Treated, Role::Propensity, Role::Error]);

    const INTERVAL: &'static Spec =
        &Spec::new("ips_interval", &[Role::Treated, Role::Propensity, Role::Error, Role::Level]);

    const EXAMPLE: &'static str = "> SELECT ips(clicked, p, e) AS ips
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+---------+
| ips     |
+---------+
| 0.28125 |
+---------+";

    const RELATED: &'static [&'static str] = &["snips", "dr", "ips_v2"];

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT ips_interval(clicked, p, e) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+---------+--------+
| estimate | lower   | upper  |
+----------+---------+--------+
| 0.2813   | -0.0409 | 0.6034 |
+----------+---------+--------+";

    fn terms(rows: &Rows<'_>, _call: &Call) -> [Vec<f64>; 2] {
        weighted_errors(rows, inverse_propensity_weights(rows))
    }
}
