use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::{mean_variance, residuals, treatment_variances};
use crate::args::{Call, Role, Rows, Spec};
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Variance of `dr` over treatments, if the rows are taken as given and the propensities as right: the sum of
    /// `o*(1-p)*(e-imputed)*(e-imputed)/(p*p)`, divided by the number of rows squared.
    ///
    /// It leaves out that other rows might have been drawn, which the `std_error` of `dr_interval` does not. NULL if no
    /// row counts.
    ///
    /// # Details
    /// `Σ o(1−p)(e−ê)²/p² / n²`, in the unit of the error squared.
    ///
    /// Source: Guo et al., SIGIR 2021; Li et al., ICML 2023, section 4.2.
    dr_variance(treated: Expr, propensity: Expr, error: Expr, imputed_error: Expr), dr_variance_udaf: Udaf<DrVariance>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DrVariance;

impl Function for DrVariance {
    const SPEC: &'static Spec =
        &Spec::new("dr_variance", &[Role::Treated, Role::Propensity, Role::Error, Role::ImputedError]);

    const EXAMPLE: &'static str = "> SELECT dr_variance(clicked, p, e, imputed) AS dr_variance
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+-----------------------+
| dr_variance           |
+-----------------------+
| 0.0012207031249999996 |
+-----------------------+";

    const RELATED: &'static [&'static str] = &["dr", "dr_interval", "ips_variance"];

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms::mean(treatment_variances(rows, &residuals(rows)))
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| mean_variance(state, group))))
    }
}
