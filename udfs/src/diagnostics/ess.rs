use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::Expr;

use crate::args::{Call, Role, Rows, Spec};
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::{Function, Udaf};
use crate::{args, weights};

aggregate! {
    /// Effective sample size of the inverse propensity weights (Kish): how many equally weighted rows would be as
    /// precise as the treated rows with weights `1/p`.
    ///
    /// It is the number of treated rows if all weights are equal, and close to 1 if one row outweighs the rest. NULL if
    /// no treated row counts.
    ///
    /// # Details
    /// `(Σ w)² / Σ w²` with `w = o/p`: from 1 to the number of treated rows.
    ///
    /// Source: Kish, *Survey Sampling*, 1965, section 11.7.
    ess(treated: Expr, propensity: Expr), ess_udaf: Udaf<Ess>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ess;

impl Function for Ess {
    const SPEC: &'static Spec = &Spec::new("ess", &[Role::Treated, Role::Propensity]);

    const EXAMPLE: &'static str = "> SELECT ess(clicked, p) AS ess
  FROM (VALUES (1, 0.5), (1, 0.8), (0, 0.5), (0, 0.2)) AS log (clicked, p);
+-------------------+
| ess               |
+-------------------+
| 1.898876404494382 |
+-------------------+";

    const RELATED: &'static [&'static str] = &["snips"];

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        let weights = args::map2(rows.treated(), rows.propensity(), weights::inverse_propensity);
        Terms { denominators: Some(weights.iter().map(|w| w * w).collect()), numerators: weights }
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.get(group).map(|(sum, squares)| sum * sum / squares))))
    }
}
