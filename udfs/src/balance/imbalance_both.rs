use datafusion_expr::Expr;

use super::effect::{Arm, StandardisedImbalance};
use crate::args::{Role, Spec};
use crate::udaf::Udaf;
use crate::weights;

aggregate! {
    /// Standardised imbalance of treated against untreated rows, the effect size that BMSE squares: for each element of
    /// phi `mean(w * (phi - mean(phi))) / sd(phi)`, behind `mean(w)` for the constant, where `w = o/p - (1-o)/(1-p)`.
    ///
    /// Gives a struct as `imbalance` does. The untreated arm does not concern IPS or DR, which weigh treated rows alone:
    /// where most rows are treated, it may be far from balance without harm to them. NULL if no row counts.
    ///
    /// # Details
    /// All fields as those of [`imbalance`](crate::expr_fn::imbalance), of w in place of `o/p − 1`; `1/(p(1−p))` is in
    /// place of `(1−p)/p`.
    imbalance_both(treated: Expr, propensity: Expr, phi: Vec<Expr>),
    imbalance_both_udaf: Udaf<StandardisedImbalance<BothArms>>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BothArms;

impl Arm for BothArms {
    const SPEC: &'static Spec = &Spec::new("imbalance_both", &[Role::Treated, Role::Propensity]).with_phi();

    const EXAMPLE: &'static str = "> SELECT i['estimate'] AS estimate, round(i['std_error'][1], 4) AS error_of_constant
  FROM (SELECT imbalance_both(clicked, p, age) AS i
        FROM (VALUES (1, 0.5, 30.0), (1, 0.8, 20.0), (0, 0.5, 40.0), (0, 0.2, 10.0)) AS log (clicked, p, age));
+-----------------------------+-------------------+
| estimate                    | error_of_constant |
+-----------------------------+-------------------+
| [0.0, -0.16770509831248423] | 1.1319            |
+-----------------------------+-------------------+";

    const RELATED: &'static [&'static str] = &["imbalance", "bmse", "smd"];

    fn error(o: f64, p: f64) -> f64 {
        weights::balance(o, p)
    }

    fn scale(p: f64) -> f64 {
        1.0 / (p * (1.0 - p))
    }
}
