use std::sync::Arc;

use datafusion_common::Result;
use datafusion_expr::ScalarUDF;

use super::{RowFunction, udf};
use crate::args::{Role, Spec};
use crate::weights;

/// MRDR weight `o(1−p)/p²`.
///
/// `mrdr_weight(treated, propensity)`: the weight of a row in the loss that trains the imputed errors of the more
/// robust doubly robust estimate, `mean(mrdr_weight · (e−ê)²)`, which is the variance of [`dr`](crate::dr_udaf) over
/// treatments. 0 for an untreated row; a treated row with propensity 0 is an error. NULL if an argument is.
///
/// Source: Farajtabar, Chow and Ghavamzadeh, ICML 2018; Guo et al., *Enhanced doubly robust learning for debiasing
/// post-click conversion rate estimation*, SIGIR 2021.
pub fn mrdr_weight_udf() -> Arc<ScalarUDF> {
    udf::<2, MrdrWeight>()
}

const SPEC: Spec = Spec::new("mrdr_weight", &[Role::Treated, Role::Propensity]);

#[derive(Debug, PartialEq, Eq, Hash)]
struct MrdrWeight;

impl RowFunction<2> for MrdrWeight {
    const NAME: &'static str = SPEC.name;
    const DESCRIPTION: &'static str = "The weight `o*(1-p)/(p*p)` of a row in the imputation loss of MRDR, the \
        doubly robust estimate made for least variance: `avg(mrdr_weight(treated, propensity) * \
        squared_error(imputed, error))` over all rows is `n` times `dr_variance`.";
    const EXAMPLE: &'static str = "> SELECT mrdr_weight(true, 0.25) AS weight;
+--------+
| weight |
+--------+
| 12.0   |
+--------+";
    const PARAMETERS: [(&'static str, &'static str); 2] = [
        ("treated", "The treatment: a boolean, or a number that is 0 or 1."),
        ("propensity", "The learned propensity, from 0 to 1; not 0 where treated."),
    ];

    fn value([treated, propensity]: [f64; 2]) -> Result<f64> {
        SPEC.check(&[treated], &[propensity])?;
        Ok(weights::imputation(treated, propensity))
    }
}
