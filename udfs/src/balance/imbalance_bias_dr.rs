use datafusion_expr::Expr;

use super::bias::{Estimate, ImbalanceBias};
use crate::args::{self, Divides, Role, Rows, Spec};
use crate::udaf::Udaf;

aggregate! {
    /// How far the imbalance of the treated rows moves the DR estimate, as a share of the mean absolute error and as far as
    /// `e - imputed` is linear in phi: `dr` less the mean over all rows of the imputed error and a regression of
    /// `e - imputed` on phi.
    ///
    /// Gives a struct as `imbalance_bias` does, also relative to the mean of `|e|`. NULL if no row counts.
    ///
    /// # Details
    /// As [`imbalance_bias`](crate::expr_fn::imbalance_bias), with `e − ê` in place of what is regressed.
    imbalance_bias_dr(treated: Expr, propensity: Expr, error: Expr, imputed_error: Expr, phi: Vec<Expr>),
    imbalance_bias_dr_udaf: Udaf<ImbalanceBias<OfDr>>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfDr;

impl Estimate for OfDr {
    const SPEC: &'static Spec =
        &Spec::new("imbalance_bias_dr", &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError])
            .with_phi()
            .divides(Divides::Treated)
            .with_leads(1);

    const EXAMPLE: &'static str = "> SELECT b['n'] AS n, b['estimate'] AS estimate, b['mean_error'] AS mean_error, b['ess'] AS ess
  FROM (SELECT imbalance_bias_dr(clicked, p, e, imputed) AS b
        FROM (VALUES (1, 0.5, 0.25, 0.5), (1, 0.5, 0.75, 0.5), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.5), (0, 0.5, NULL, 0.5))
          AS log (clicked, p, e, imputed));
+---+----------+------------+-----+
| n | estimate | mean_error | ess |
+---+----------+------------+-----+
| 5 | 0.0      | 0.5        | 2.0 |
+---+----------+------------+-----+";

    const RELATED: &'static [&'static str] = &["imbalance", "imbalance_bias", "balance_verdict", "dr", "treatment"];

    fn residual(rows: &Rows<'_>) -> Vec<f64> {
        args::map2(rows.error(), rows.imputed_error(), |e, imputed| e - imputed)
    }
}
