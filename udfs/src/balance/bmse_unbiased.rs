use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::{unbiased, weighted_phi};
use crate::args::{Call, Role, Rows, Spec};
use crate::results::numbers;
use crate::state::{Moments, State, Weighted};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Unbiased estimate of the squared imbalance that the propensities really leave: `bmse` less what chance alone
    /// adds to it.
    ///
    /// Perfect propensities give 0 on average, so single results may be negative. NULL if fewer than two rows count.
    ///
    /// # Details
    /// The U-statistic `(‖S‖² − Q) / (n(n−1))`, with `S = Σ w·φ` and `Q = Σ w²‖φ‖²`, in the unit of
    /// [`bmse`](crate::expr_fn::bmse).
    bmse_unbiased(treated: Expr, propensity: Expr, phi: Vec<Expr>), bmse_unbiased_udaf: Udaf<BmseUnbiased>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BmseUnbiased;

impl Function for BmseUnbiased {
    const SPEC: &'static Spec = &Spec::new("bmse_unbiased", &[Role::Treated, Role::Propensity]).with_phi();

    const EXAMPLE: &'static str = "> SELECT bmse_unbiased(clicked, p, mobile, age) AS unbiased
  FROM (VALUES (1, 0.5, 1.0, 30.0), (1, 0.8, 0.0, 20.0), (0, 0.5, 1.0, 40.0), (0, 0.2, 0.0, 10.0))
    AS log (clicked, p, mobile, age);
+--------------------+
| unbiased           |
+--------------------+
| -894.4166666666666 |
+--------------------+";

    const RELATED: &'static [&'static str] = &["bmse", "bmse_noise_floor"];

    type State = Moments;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        weighted_phi(rows)
    }

    fn values(state: &Moments, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| {
            let moment = state.get(group)?;
            unbiased(moment.count, moment.mean, moment.spread)
        })))
    }
}
