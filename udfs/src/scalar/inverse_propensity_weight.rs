use datafusion_common::Result;
use datafusion_expr::Expr;

use super::{RowFunction, RowUdf};
use crate::args::{Role, Spec};
use crate::weights;

scalar! {
    /// The inverse propensity weight `o/p` of a row: `1/p` if it was treated, else 0.
    ///
    /// # Details
    /// Its expectation is 1. A treated row with propensity 0 is an error. NULL if an argument is.
    inverse_propensity_weight(treated: Expr, propensity: Expr), inverse_propensity_weight_udf: RowUdf<InversePropensityWeight, 2>
}

const SPEC: Spec = Spec::new("inverse_propensity_weight", &[Role::Treated, Role::Propensity]);

#[derive(Debug, PartialEq, Eq, Hash)]
struct InversePropensityWeight;

impl RowFunction<2> for InversePropensityWeight {
    const NAME: &'static str = SPEC.name;
    const EXAMPLE: &'static str = "> SELECT inverse_propensity_weight(true, 0.25) AS weight;
+--------+
| weight |
+--------+
| 4.0    |
+--------+";
    const PARAMETERS: [(&'static str, &'static str); 2] = [
        ("treated", "The treatment: a boolean, or a number that is 0 or 1."),
        ("propensity", "The learned propensity, from 0 to 1; not 0 where treated."),
    ];

    fn value([treated, propensity]: [f64; 2]) -> Result<f64> {
        SPEC.check(&[treated], &[propensity])?;
        Ok(weights::inverse_propensity(treated, propensity))
    }
}
