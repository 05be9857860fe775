use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::{squared_norm, weighted_phi};
use crate::args::{Call, Role, Rows, Spec};
use crate::results::numbers;
use crate::state::{Moments, State, Weighted};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Balancing mean squared error: the squared length of the mean of `w * phi` over all rows, where
    /// `w = o/p - (1-o)/(1-p)`.
    ///
    /// It is 0 when the propensity weights make treated and untreated rows alike in `phi`. On finite data even perfect
    /// propensities give more than 0: compare with `bmse_noise_floor`, or use `bmse_unbiased`. NULL if no row counts.
    ///
    /// # Details
    /// `‖mean(w·φ)‖²`, in the unit of φ squared. Without `phi`, φ = 1.
    ///
    /// Source: Li et al., ICML 2023, section 3.3.
    bmse(treated: Expr, propensity: Expr, phi: Vec<Expr>), bmse_udaf: Udaf<Bmse>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bmse;

impl Function for Bmse {
    const SPEC: &'static Spec = &Spec::new("bmse", &[Role::Treated, Role::Propensity]).with_phi();

    const EXAMPLE: &'static str = "> SELECT bmse(clicked, p, mobile, age) AS bmse
  FROM (VALUES (1, 0.5, 1.0, 30.0), (1, 0.8, 0.0, 20.0), (0, 0.5, 1.0, 40.0), (0, 0.2, 0.0, 10.0))
    AS log (clicked, p, mobile, age);
+----------+
| bmse     |
+----------+
| 3.515625 |
+----------+";

    const RELATED: &'static [&'static str] = &["bmse_unbiased", "bmse_noise_floor", "ips_v2", "dr_v2"];

    type State = Moments;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        weighted_phi(rows)
    }

    fn values(state: &Moments, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.get(group).map(|moment| squared_norm(moment.mean)))))
    }
}
