use datafusion_expr::Expr;

use super::bias::{Estimate, ImbalanceBias};
use crate::args::{Divides, Role, Rows, Spec};
use crate::udaf::Udaf;

aggregate! {
    /// How far the imbalance of the treated rows moves the IPS estimate, as a share of the mean absolute error and as far
    /// as the error is linear in phi: `ips` less the mean over all rows of a regression of the error on phi.
    ///
    /// Gives a struct of `n`, `estimate` (+0.04: IPS is 4 % of the mean error too high), `std_error`, `lower` and `upper`
    /// (of the interval of 95 %, by Student's law with `degrees` of freedom), `mean_error` (the absolute error of treated
    /// rows, weighted by 1/p) and `ess` (the effective number of treated rows). With `treatment(treated, cluster)` for
    /// `treated`, the error is that of rows that belong together. All but `n`, `mean_error` and `ess` are NULL if `ess` is
    /// below twice the number of elements of phi and the constant, or if there is no error. phi has at most 63 elements.
    /// NULL if no row counts.
    ///
    /// # Details
    /// `c'β̂ / (Σ(o/p)|e| / Σ(o/p))` with `c = mean((o/p − 1)·Φ)`, Φ = (1, φ), and β̂ the regression of e on Φ over treated
    /// rows, weighted by `1/p`: by pseudo-inverse, columns scaled to length 1, eigenvalues below 1e-8 of the largest left
    /// out, without a ridge. A bias that is not linear in φ is not seen: give φ the squares and products that may matter.
    ///
    /// The error is the delete-one-group jackknife's, never less than what right propensities imply for a known β. Rows that
    /// are independent are put into 64 groups as good as at random, by their place among the rows: it depends by about 9 %
    /// of itself, and the bounds with it, on the order and the partitions of the rows. For each group of clusters it keeps
    /// `K²/2` numbers and some, of K elements.
    ///
    /// Source: Deville and Särndal, *Calibration estimators in survey sampling*, 1992, for the regression estimate; Efron
    /// and Stein, *The jackknife estimate of variance*, 1981.
    imbalance_bias(treated: Expr, propensity: Expr, error: Expr, phi: Vec<Expr>),
    imbalance_bias_udaf: Udaf<ImbalanceBias<OfIps>>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfIps;

impl Estimate for OfIps {
    const SPEC: &'static Spec = &Spec::new("imbalance_bias", &[Role::Treated, Role::Propensity, Role::Error])
        .with_phi()
        .divides(Divides::Treated)
        .with_leads(1);

    const EXAMPLE: &'static str =
        "> SELECT b['n'] AS n, b['estimate'] AS estimate, b['mean_error'] AS mean_error, b['ess'] AS ess
  FROM (SELECT imbalance_bias(clicked, p, e) AS b
        FROM (VALUES (1, 0.5, 0.25), (1, 0.5, 0.75), (0, 0.5, NULL), (0, 0.2, NULL), (0, 0.5, NULL))
          AS log (clicked, p, e));
+---+----------+------------+-----+
| n | estimate | mean_error | ess |
+---+----------+------------+-----+
| 5 | -0.2     | 0.5        | 2.0 |
+---+----------+------------+-----+";

    const RELATED: &'static [&'static str] = &["imbalance", "imbalance_bias_dr", "balance_verdict", "ips", "treatment"];

    fn residual(rows: &Rows<'_>) -> Vec<f64> {
        rows.error().to_vec()
    }
}
