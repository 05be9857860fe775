use std::sync::Arc;

use datafusion_common::Result;
use datafusion_expr::ScalarUDF;

use super::{RowFunction, udf};
use crate::args::{Role, Spec};
use crate::weights;

/// Inverse propensity weight `o/p`.
///
/// `inverse_propensity_weight(treated, propensity)`: `1/p` for a treated row, 0 for others, in
/// expectation 1. A treated row with propensity 0 is an error. NULL if an argument is.
pub fn inverse_propensity_weight_udf() -> Arc<ScalarUDF> {
    udf::<2, InversePropensityWeight>()
}

const SPEC: Spec = Spec::new("inverse_propensity_weight", &[Role::Treated, Role::Propensity]);

#[derive(Debug, PartialEq, Eq, Hash)]
struct InversePropensityWeight;

impl RowFunction<2> for InversePropensityWeight {
    const NAME: &'static str = SPEC.name;
    const DESCRIPTION: &'static str = "The inverse propensity weight `o/p` of a row: `1/p` if it was treated, else 0.";
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
