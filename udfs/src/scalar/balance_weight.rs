use datafusion_common::Result;
use datafusion_expr::Expr;

use super::{RowFunction, RowUdf};
use crate::args::{Divides, Role, Spec};
use crate::weights;

scalar! {
    /// The balance weight `o/p - (1-o)/(1-p)` of a row: `1/p` if it was treated, else `-1/(1-p)`.
    ///
    /// `bmse` is the squared length of the mean of `balance_weight(treated, propensity) * phi`.
    ///
    /// # Details
    /// Its expectation is 0. A treated row with propensity 0 or an untreated one with propensity 1 is an error. NULL if
    /// an argument is.
    ///
    /// Source: Li et al., ICML 2023, section 3.3.
    balance_weight(treated: Expr, propensity: Expr), balance_weight_udf: RowUdf<BalanceWeight, 2>
}

const SPEC: Spec = Spec::new("balance_weight", &[Role::Treated, Role::Propensity]).divides(Divides::Both);

#[derive(Debug, PartialEq, Eq, Hash)]
struct BalanceWeight;

impl RowFunction<2> for BalanceWeight {
    const NAME: &'static str = SPEC.name;
    const EXAMPLE: &'static str = "> SELECT balance_weight(false, 0.75) AS weight;
+--------+
| weight |
+--------+
| -4.0   |
+--------+";
    const PARAMETERS: [(&'static str, &'static str); 2] = [
        ("treated", "The treatment: a boolean, or a number that is 0 or 1."),
        ("propensity", "The learned propensity, from 0 to 1; not 0 where treated, not 1 where untreated."),
    ];

    fn value([treated, propensity]: [f64; 2]) -> Result<f64> {
        SPEC.check(&[treated], &[propensity])?;
        Ok(weights::balance(treated, propensity))
    }
}
