use datafusion_expr::Expr;

use super::estimator::{Estimator, Point};
use super::interval::{Interval, interval_doc};
use super::weighted_errors;
use crate::args::{Call, Role, Rows, Spec};
use crate::udaf::Udaf;

aggregate! {
    /// Mean error over the treated rows alone, without weights: biased whenever treatment depends on the error.
    ///
    /// NULL if no treated row counts.
    ///
    /// # Details
    /// `Σ o·e / Σ o`, in the unit of the error: what an audit without weights reports.
    naive_treated(treated: Expr, error: Expr), naive_treated_udaf: Udaf<Point<NaiveTreated>>
}

aggregate! {
    #[doc = interval_doc!(naive_treated, ratio)]
    naive_treated_interval(treated: Expr, error: Expr, level: Option<Expr>),
    naive_treated_interval_udaf: Udaf<Interval<NaiveTreated>>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NaiveTreated;

impl Estimator for NaiveTreated {
    const SPEC: &'static Spec = &Spec::new("naive_treated", &[Role::Treated, Role::Error]);

    const INTERVAL: &'static Spec = &Spec::new("naive_treated_interval", &[Role::Treated, Role::Error, Role::Level]);

    const EXAMPLE: &'static str = "> SELECT naive_treated(clicked, e) AS naive_treated
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+---------------+
| naive_treated |
+---------------+
| 0.375         |
+---------------+";

    const RELATED: &'static [&'static str] = &["naive", "snips"];

    const NORMALISED: bool = true;

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT naive_treated_interval(clicked, e) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+-------+-------+
| estimate | lower | upper |
+----------+-------+-------+
| 0.375    | 0.175 | 0.575 |
+----------+-------+-------+";

    fn terms(rows: &Rows<'_>, _call: &Call) -> [Vec<f64>; 2] {
        weighted_errors(rows, rows.treated().to_vec())
    }
}
