use datafusion_expr::Expr;

use super::estimator::{Estimator, Point};
use super::interval::{Interval, interval_doc};
use crate::args::{self, Call, Role, Rows, Spec};
use crate::udaf::Udaf;

aggregate! {
    /// Error imputation based estimate of the mean error over all rows: the observed error on treated rows, the imputed
    /// error on the others.
    ///
    /// It uses no propensity and is right if the imputed errors are. NULL if no row counts.
    ///
    /// # Details
    /// `mean(o·e + (1−o)·ê)`, in the unit of the error.
    ///
    /// Source: Li et al., ICML 2023, section 2.
    eib(treated: Expr, error: Expr, imputed_error: Expr), eib_udaf: Udaf<Point<Eib>>
}

aggregate! {
    #[doc = interval_doc!(eib, mean)]
    eib_interval(treated: Expr, error: Expr, imputed_error: Expr, level: Option<Expr>),
    eib_interval_udaf: Udaf<Interval<Eib>>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Eib;

impl Estimator for Eib {
    const SPEC: &'static Spec = &Spec::new("eib", &[Role::Treated, Role::Error, Role::ImputedError]);

    const INTERVAL: &'static Spec =
        &Spec::new("eib_interval", &[Role::Treated, Role::Error, Role::ImputedError, Role::Level]);

    const EXAMPLE: &'static str = "> SELECT eib(clicked, e, imputed) AS eib
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+---------+
| eib     |
+---------+
| 0.34375 |
+---------+";

    const RELATED: &'static [&'static str] = &["dr"];

    const INTERVAL_EXAMPLE: &'static str =
        "> SELECT round(i['estimate'], 4) AS estimate, round(i['lower'], 4) AS lower, round(i['upper'], 4) AS upper
  FROM (SELECT eib_interval(clicked, e, imputed) AS i
        FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
          AS log (clicked, p, e, imputed));
+----------+-------+--------+
| estimate | lower | upper  |
+----------+-------+--------+
| 0.3438   | 0.16  | 0.5275 |
+----------+-------+--------+";

    fn terms(rows: &Rows<'_>, _call: &Call) -> [Vec<f64>; 2] {
        let chosen = |o, e, imputed| if o == 1.0 { e } else { imputed };
        let terms = args::map3(rows.treated(), rows.error(), rows.imputed_error(), chosen);
        [rows.treated().to_vec(), terms]
    }
}
