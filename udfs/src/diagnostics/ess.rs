use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::{AggregateUDF, Documentation};

use crate::args::{Call, Role, Rows, Spec};
use crate::docs;
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::{Function, udaf};
use crate::{args, weights};

/// Kish's effective sample size of the inverse propensity weights: `(Σ w)² / Σ w²`, `w = o/p`.
///
/// `ess(treated, propensity)`: the number of equally weighted rows that would be as precise as
/// these; from 1 to the number of treated rows. NULL if no row is treated.
///
/// Source: Kish, *Survey Sampling*, 1965, section 11.7.
pub fn ess_udaf() -> Arc<AggregateUDF> {
    udaf::<Ess>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ess;

impl Function for Ess {
    const SPEC: &'static Spec = &Spec::new("ess", &[Role::Treated, Role::Propensity]);

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        let weights = args::map2(rows.treated(), rows.propensity(), weights::inverse_propensity);
        Terms { denominators: Some(weights.iter().map(|w| w * w).collect()), numerators: weights }
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.get(group).map(|(sum, squares)| sum * sum / squares))))
    }

    fn documentation() -> Documentation {
        docs::aggregate(
            Self::SPEC,
            docs::DIAGNOSTICS,
            "Effective sample size of the inverse propensity weights (Kish): how many equally weighted rows would \
             be as precise as the treated rows with weights `1/p`. It is the number of treated rows if all \
             weights are equal, and close to 1 if one row outweighs the rest. NULL if no treated row counts.",
            "> SELECT ess(clicked, p) AS ess
  FROM (VALUES (1, 0.5), (1, 0.8), (0, 0.5), (0, 0.2)) AS log (clicked, p);
+-------------------+
| ess               |
+-------------------+
| 1.898876404494382 |
+-------------------+",
            &["snips"],
        )
    }
}
