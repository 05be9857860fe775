use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::{AggregateUDF, Documentation};

use super::{imbalance, noise_floor};
use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::results::numbers;
use crate::state::{Moments, State, Weighted};
use crate::udaf::{Function, udaf};

/// What chance alone adds to [`bmse`](crate::bmse_udaf): `(Q/n − ‖S‖²/n²) / n`, with `S = Σ w·φ`
/// and `Q = Σ w²‖φ‖²`.
///
/// `bmse_noise_floor(treated, propensity [, phi, ...])`: the estimated expectation of `bmse` for
/// perfect propensities, the trace of the variance of `w·φ` over n, in the same unit. NULL with
/// fewer than two rows.
pub fn bmse_noise_floor_udaf() -> Arc<AggregateUDF> {
    udaf::<BmseNoiseFloor>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BmseNoiseFloor;

impl Function for BmseNoiseFloor {
    const SPEC: &'static Spec = &Spec::new("bmse_noise_floor", &[Role::Treated, Role::Propensity]).with_phi();

    type State = Moments;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        imbalance(rows)
    }

    fn values(state: &Moments, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| {
            let moment = state.get(group)?;
            noise_floor(moment.count, moment.spread)
        })))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::BALANCE,
            "What `bmse` is expected to be from chance alone, if the propensities were perfect: the total \
             variance of `w * phi` divided by the number of rows. A `bmse` near its noise floor says nothing \
             against the propensities. NULL if fewer than two rows count.",
            "> SELECT bmse_noise_floor(clicked, p, mobile, age) AS floor
  FROM (VALUES (1, 0.5, 1.0, 30.0), (1, 0.8, 0.0, 20.0), (0, 0.5, 1.0, 40.0), (0, 0.2, 0.0, 10.0))
    AS log (clicked, p, mobile, age);
+--------------+
| floor        |
+--------------+
| 673.44921875 |
+--------------+",
            &["bmse", "bmse_unbiased"],
        )
    }
}
