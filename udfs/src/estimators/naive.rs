use datafusion_expr::Expr;

use super::estimator::{Estimator, Point};
use super::interval::{Interval, interval_doc};
use super::weighted_errors;
use crate::args::{Call, Role, Rows, Spec};
use crate::udaf::Udaf;

aggregate! {
    /// Naive estimate of the mean error as the paper prints it: the sum of the observed errors divided by the number of
    /// all rows, treated or not.
    ///
    /// For the mean over treated rows use `naive_treated`. NULL if no row counts.
    ///
    /// # Details
    /// `Σ o·e / |D|`, in the unit of the error; 0 if no row is treated.
    ///
    /// Source: Li et al., ICML 2023, section 3.2.
    naive(treated: Expr, error: Expr), naive_udaf: Udaf<Point<Naive>>
}

aggregate! {
    #[doc = interval_doc!(naive, mean)]
    naive_interval(treated: Expr, error: Expr, level: Option<Expr>), naive_interval_udaf: Udaf<Interval<Naive>>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Naive;

impl Estimator for Naive {
    const SPEC: &'static Spec = &Spec::new("naive", &[Role::Treated, Role::Error]);

    const INTERVAL: &'static Spec = &Spec::new("naive_interval", &[Role::Treated, Role::Error, Role::Level]);

    const EXAMPLE: &'static str = "> SELECT naive(clicked, e) AS naive
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+--------+
| naive  |
+--------+
| 0.1875 |
+--------+";

    const RELATED: &'static [&'static str] = &["naive_treated", "ips"];

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT naive_interval(clicked, e) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+---------+--------+
| estimate | lower   | upper  |
+----------+---------+--------+
| 0.1875   | -0.0471 | 0.4221 |
+----------+---------+--------+";

    fn terms(rows: &Rows<'_>, _call: &Call) -> [Vec<f64>; 2] {
        weighted_errors(rows, rows.treated().to_vec())
    }
}
