use datafusion_common::Result;
use datafusion_expr::Expr;

use super::{RowFunction, RowUdf};
use crate::args::{Role, Spec};
use crate::weights;

scalar! {
    /// The weight `o*(1-p)/(p*p)` of a row in the imputation loss of MRDR, the doubly robust estimate made for least
    /// variance: `avg(mrdr_weight(treated, propensity) * squared_error(imputed, error))` over all rows is `n` times
    /// `dr_variance`.
    ///
    /// # Details
    /// The loss is the variance of [`dr`](crate::expr_fn::dr) over treatments. 0 for an untreated row; a treated row
    /// with propensity 0 is an error. NULL if an argument is.
    ///
    /// Source: Farajtabar, Chow and Ghavamzadeh, ICML 2018; Guo et al., *Enhanced doubly robust learning for debiasing
    /// post-click conversion rate estimation*, SIGIR 2021.
    mrdr_weight(treated: Expr, propensity: Expr), mrdr_weight_udf: RowUdf<MrdrWeight, 2>
}

const SPEC: Spec = Spec::new("mrdr_weight", &[Role::Treated, Role::Propensity]);

#[derive(Debug, PartialEq, Eq, Hash)]
struct MrdrWeight;

impl RowFunction<2> for MrdrWeight {
    const NAME: &'static str = SPEC.name;
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
