use datafusion_expr::Expr;

use super::estimator::{Estimator, Point};
use super::interval::{Interval, interval_doc};
use super::weighted_errors;
use crate::args::{Call, Role, Rows, Spec};
use crate::udaf::Udaf;
use crate::{args, weights};

aggregate! {
    /// Inverse propensity score estimate of the mean error over all rows, with weights `1/p` cut to `max_weight`: less
    /// noise than `ips` if some propensities are small, for a bias towards 0.
    ///
    /// NULL if no row counts.
    ///
    /// # Details
    /// `mean(o·e·min(1/p, max_weight))`, in the unit of the error.
    ///
    /// Source: Ionides, *Truncated importance sampling*, 2008; Bottou et al., JMLR 2013, section 4.
    ips_clipped(treated: Expr, propensity: Expr, error: Expr, max_weight: Expr),
    ips_clipped_udaf: Udaf<Point<IpsClipped>>
}

aggregate! {
    #[doc = interval_doc!(ips_clipped, mean)]
    ips_clipped_interval(treated: Expr, propensity: Expr, error: Expr, max_weight: Expr, level: Option<Expr>),
    ips_clipped_interval_udaf: Udaf<Interval<IpsClipped>>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IpsClipped;

impl Estimator for IpsClipped {
    const SPEC: &'static Spec =
        &Spec::new("ips_clipped", &[Role::Treated, Role::Propensity, Role::Error, Role::MaxWeight]);

    const INTERVAL: &'static Spec = &Spec::new(
        "ips_clipped_interval",
        &[Role::Treated, Role::Propensity, Role::Error, Role::MaxWeight, Role::Level],
    );

    const EXAMPLE: &'static str = "> SELECT ips_clipped(clicked, p, e, 1.5) AS ips_clipped
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+-------------+
| ips_clipped |
+-------------+
| 0.25        |
+-------------+";

    const RELATED: &'static [&'static str] = &["ips", "switch_dr", "dr_os"];

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT ips_clipped_interval(clicked, p, e, 1.5) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+---------+--------+
| estimate | lower   | upper  |
+----------+---------+--------+
| 0.25     | -0.0501 | 0.5501 |
+----------+---------+--------+";

    fn terms(rows: &Rows<'_>, call: &Call) -> [Vec<f64>; 2] {
        let most = call.literal(Role::MaxWeight);
        let clipped = |o, p| weights::inverse_propensity(o, p).min(most);
        weighted_errors(rows, args::map2(rows.treated(), rows.propensity(), clipped))
    }
}
