use datafusion_expr::Expr;

use super::doubly_robust;
use super::estimator::{Estimator, Point};
use super::interval::{Interval, interval_doc};
use crate::args::{self, Call, Role, Rows, Spec};
use crate::udaf::Udaf;

aggregate! {
    /// Doubly robust estimate of the mean error over all rows, with weights `w = 1/p` shrunk to
    /// `shrinkage*w / (w*w + shrinkage)`: none is above half the square root of `shrinkage`.
    ///
    /// 0 leaves the mean imputed error, a large number `dr`. NULL if no row counts.
    ///
    /// # Details
    /// `mean(ê + o·w_λ·(e−ê))` with `w_λ = λw/(w²+λ)` and `w = 1/p`, in the unit of the error; λ is `shrinkage`.
    ///
    /// Source: Su, Dimakopoulou, Krishnamurthy and Dudík, *Doubly robust off-policy evaluation with shrinkage*, ICML
    /// 2020.
    dr_os(treated: Expr, propensity: Expr, error: Expr, imputed_error: Expr, shrinkage: Expr),
    dr_os_udaf: Udaf<Point<DrOs>>
}

aggregate! {
    #[doc = interval_doc!(dr_os, mean)]
    dr_os_interval(
        treated: Expr,
        propensity: Expr,
        error: Expr,
        imputed_error: Expr,
        shrinkage: Expr,
        level: Option<Expr>
    ), dr_os_interval_udaf: Udaf<Interval<DrOs>>
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

    const EXAMPLE: &'static str = "> SELECT dr_os(clicked, p, e, imputed, 4) AS dr_os
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+--------------------+
| dr_os              |
+--------------------+
| 0.3374297752808989 |
+--------------------+";

    const RELATED: &'static [&'static str] = &["dr", "switch_dr", "ips_clipped"];

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
}
