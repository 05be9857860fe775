use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::{ips_terms, regularised, regularised_value};
use crate::args::{Call, Role, Rows, Spec};
use crate::results::numbers;
use crate::state::{Moments, State, Weighted};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// IPS-V2: the inverse propensity score estimate plus `lambda` times the balancing mean squared error over the same
    /// rows.
    ///
    /// NULL if no row counts.
    ///
    /// # Details
    /// The loss that trains balanced propensities. With `lambda` 0 it is [`ips`](crate::expr_fn::ips).
    ///
    /// Source: Li et al., ICML 2023, section 4.1.
    ips_v2(treated: Expr, propensity: Expr, error: Expr, lambda: Expr, phi: Vec<Expr>), ips_v2_udaf: Udaf<IpsV2>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IpsV2;

impl Function for IpsV2 {
    const SPEC: &'static Spec =
        &Spec::new("ips_v2", &[Role::Treated, Role::Propensity, Role::Error, Role::Lambda]).with_phi().with_leads(1);

    const EXAMPLE: &'static str = "> SELECT ips_v2(clicked, p, e, 0.1, age) AS ips_v2
  FROM (VALUES (1, 0.5, 0.25, 0.25, 30.0), (1, 0.8, 0.5, 0.25, 20.0),
               (0, 0.5, NULL, 0.5, 40.0), (0, 0.2, NULL, 0.125, 10.0))
    AS log (clicked, p, e, imputed, age);
+-----------+
| ips_v2    |
+-----------+
| 0.6328125 |
+-----------+";

    const RELATED: &'static [&'static str] = &["ips", "bmse", "dr_v2"];

    type State = Moments;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        regularised(rows, ips_terms(rows))
    }

    fn values(state: &Moments, call: &Call) -> Result<ArrayRef> {
        let lambda = call.literal(Role::Lambda);
        Ok(numbers((0..state.groups()).map(|group| regularised_value(state, group, lambda))))
    }
}
