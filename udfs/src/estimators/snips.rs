use datafusion_expr::Expr;

use super::estimator::{Estimator, Point};
use super::interval::{Interval, interval_doc};
use super::{inverse_propensity_weights, weighted_errors};
use crate::args::{Call, Role, Rows, Spec};
use crate::udaf::Udaf;

aggregate! {
    /// Self-normalised inverse propensity score estimate of the mean error: the mean of the observed errors, weighted
    /// by `1/p`.
    ///
    /// It stays within the range of the errors, for a bias that vanishes with more rows. NULL if no treated row counts.
    ///
    /// # Details
    /// `Σ(o·e/p) / Σ(o/p)`, in the unit of the error.
    ///
    /// Source: Swaminathan and Joachims, NeurIPS 2015.
    snips(treated: Expr, propensity: Expr, error: Expr), snips_udaf: Udaf<Point<Snips>>
}

aggregate! {
    #[doc = interval_doc!(snips, ratio)]
    snips_interval(treated: Expr, propensity: Expr, error: Expr, level: Option<Expr>),
    snips_interval_udaf: Udaf<Interval<Snips>>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Snips;

impl Estimator for Snips {
    const SPEC: &'static Spec = &Spec::new("snips", &[Role::Treated, Role::Propensity, Role::Error]);

    const INTERVAL: &'static Spec =
        &Spec::new("snips_interval", &[Role::Treated, Role::Propensity, Role::Error, Role::Level]);

    const EXAMPLE: &'static str = "> SELECT snips(clicked, p, e) AS snips
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+---------------------+
| snips               |
+---------------------+
| 0.34615384615384615 |
+---------------------+";

    const RELATED: &'static [&'static str] = &["ips", "ess"];

    const NORMALISED: bool = true;

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT snips_interval(clicked, p, e) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+--------+--------+
| estimate | lower  | upper  |
+----------+--------+--------+
| 0.3462   | 0.1568 | 0.5355 |
+----------+--------+--------+";

    fn terms(rows: &Rows<'_>, _call: &Call) -> [Vec<f64>; 2] {
        weighted_errors(rows, inverse_propensity_weights(rows))
    }
}
