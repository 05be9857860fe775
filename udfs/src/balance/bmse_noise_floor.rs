use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::{noise_floor, weighted_phi};
use crate::args::{Call, Role, Rows, Spec};
use crate::results::numbers;
use crate::state::{Moments, State, Weighted};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// What `bmse` is expected to be from chance alone, if the propensities were perfect: the total variance of
    /// `w * phi` divided by the number of rows.
    ///
    /// A `bmse` near its noise floor says nothing against the propensities. NULL if fewer than two rows count.
    ///
    /// # Details
    /// `(Q/n − ‖S‖²/n²) / n`, with `S = Σ w·φ` and `Q = Σ w²‖φ‖²`: the trace of the variance of `w·φ`, divided by n, in
    /// the unit of [`bmse`](crate::expr_fn::bmse).
    bmse_noise_floor(treated: Expr, propensity: Expr, phi: Vec<Expr>), bmse_noise_floor_udaf: Udaf<BmseNoiseFloor>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BmseNoiseFloor;

impl Function for BmseNoiseFloor {
    const SPEC: &'static Spec = &Spec::new("bmse_noise_floor", &[Role::Treated, Role::Propensity]).with_phi();

    const EXAMPLE: &'static str = "> SELECT bmse_noise_floor(clicked, p, mobile, age) AS floor
  FROM (VALUES (1, 0.5, 1.0, 30.0), (1, 0.8, 0.0, 20.0), (0, 0.5, 1.0, 40.0), (0, 0.2, 0.0, 10.0))
    AS log (clicked, p, mobile, age);
+--------------+
| floor        |
+--------------+
| 673.44921875 |
+--------------+";

    const RELATED: &'static [&'static str] = &["bmse", "bmse_unbiased"];

    type State = Moments;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        weighted_phi(rows)
    }

    fn values(state: &Moments, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| {
            let moment = state.get(group)?;
            noise_floor(moment.count, moment.spread)
        })))
    }
}
