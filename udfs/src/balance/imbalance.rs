use datafusion_expr::Expr;

use super::effect::{Arm, StandardisedImbalance};
use crate::args::{Divides, Role, Spec};
use crate::udaf::Udaf;

aggregate! {
    /// Standardised imbalance of the treated rows, the effect size that IPS and DR stand on: for each element of phi
    /// `mean((o/p - 1) * (phi - mean(phi))) / sd(phi)`, behind `mean(o/p) - 1` for the constant.
    ///
    /// Gives a struct of `n` and of lists with an entry for the constant and for each element of phi: `estimate`,
    /// `std_error`, `lower` and `upper` (of the interval of 95 %, by Student's law with `degrees` of freedom) and
    /// `p_value` (at most the chance of an imbalance as far from 0 if the propensities are right and rows independent;
    /// it holds for any number of rows and any propensities, and Holm's correction for the number of elements is in it).
    /// With `treatment(treated, cluster)` for `treated`, the errors are those of rows that belong together, `clusters` is
    /// the number of groups of clusters, and `largest_share` is the largest share of one of them in the variance that the
    /// propensities imply for the constant; both are NULL of independent rows. NULL for an element that does not vary,
    /// and if no row counts.
    ///
    /// # Details
    /// Unlike [`bmse`](crate::expr_fn::bmse), it does not grow with the unit or the origin of φ, and within ±0.1 is usually
    /// called balanced: see [`balance_verdict`](crate::expr_fn::balance_verdict).
    /// - `sd(φ)`: with n, over all rows.
    /// - `std_error`: of independent rows by the delta method, of clusters by the delete-one-group jackknife; never less
    ///   than what right propensities imply, `√Σ(1−p)/p·(φ−mean)² / (n·sd)`. NULL for a single row or a single cluster.
    /// - `degrees`: `(ΣD²)²/ΣD⁴ − 1` of the groups' deviations D, from 1 to their number less 1; of independent rows the
    ///   same of what the propensities imply. Few where a few rows or clusters decide.
    /// - `p_value`: twice the least of `exp(K(s) − s·t)` over s, with t the sum of `(o/p−1)·(φ−mean)` and K(s) a bound of
    ///   its cumulant function, by moments of second to fourth order and the largest term: Bennett's bound with two
    ///   moments more. A row with propensity 0 or 1 counts with what happened to it.
    ///
    /// Beside what is needed of independent rows, it keeps three numbers for each group of clusters and element.
    ///
    /// Source: Austin, *Statistics in Medicine*, 2009; Efron and Stein, *The jackknife estimate of variance*, 1981;
    /// Bennett, *Probability inequalities for the sum of independent random variables*, 1962.
    imbalance(treated: Expr, propensity: Expr, phi: Vec<Expr>), imbalance_udaf: Udaf<StandardisedImbalance<TreatedArm>>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TreatedArm;

impl Arm for TreatedArm {
    const SPEC: &'static Spec =
        &Spec::new("imbalance", &[Role::Treated, Role::Propensity]).with_phi().divides(Divides::Treated);

    const EXAMPLE: &'static str = "> SELECT i['estimate'] AS estimate, round(i['std_error'][1], 4) AS error_of_constant
  FROM (SELECT imbalance(clicked, p, age) AS i
        FROM (VALUES (1, 0.5, 30.0), (1, 0.8, 20.0), (0, 0.5, 40.0), (0, 0.2, 10.0)) AS log (clicked, p, age));
+--------------------------------+-------------------+
| estimate                       | error_of_constant |
+--------------------------------+-------------------+
| [-0.1875, 0.08385254915624211] | 0.625             |
+--------------------------------+-------------------+";

    const RELATED: &'static [&'static str] = &["imbalance_both", "imbalance_bias", "balance_verdict", "treatment"];

    fn error(o: f64, p: f64) -> f64 {
        if o == 1.0 { (1.0 - p) / p } else { -1.0 }
    }

    fn scale(p: f64) -> f64 {
        1.0 / p
    }
}
