use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::{mean_variance, treatment_variances};
use crate::args::{Call, Role, Rows, Spec};
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Variance of `ips` over treatments, if the rows are taken as given and the propensities as right: the sum of
    /// `o*(1-p)*e*e/(p*p)`, divided by the number of rows squared.
    ///
    /// It leaves out that other rows might have been drawn, which the `std_error` of `ips_interval` does not. NULL if
    /// no row counts.
    ///
    /// # Details
    /// `Σ o(1−p)e²/p² / n²`, in the unit of the error squared.
    ///
    /// Source: Guo et al., SIGIR 2021; Li et al., ICML 2023, section 4.2.
    ips_variance(treated: Expr, propensity: Expr, error: Expr), ips_variance_udaf: Udaf<IpsVariance>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IpsVariance;

impl Function for IpsVariance {
    const SPEC: &'static Spec = &Spec::new("ips_variance", &[Role::Treated, Role::Propensity, Role::Error]);

    const EXAMPLE: &'static str = "> SELECT ips_variance(clicked, p, e) AS ips_variance
  FROM (VALUES (1, 0.5, 0.25, 0.25), (1, 0.8, 0.5, 0.25), (0, 0.5, NULL, 0.5), (0, 0.2, NULL, 0.125))
    AS log (clicked, p, e, imputed);
+----------------------+
| ips_variance         |
+----------------------+
| 0.012695312499999998 |
+----------------------+";

    const RELATED: &'static [&'static str] = &["ips", "ips_interval", "dr_variance"];

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms::mean(treatment_variances(rows, rows.error()))
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| mean_variance(state, group))))
    }
}
