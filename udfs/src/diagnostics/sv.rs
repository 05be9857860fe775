use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::Expr;

use crate::args::{Call, Divides, Role, Rows, Spec};
use crate::results::numbers;
use crate::state::{Moments, State, Weighted};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Sample variance of the propensities, with `n - 1`: how far they tell rows apart.
    ///
    /// It is 0 if all rows have the same propensity. NULL if fewer than two rows count.
    ///
    /// # Details
    /// `Σ(p − p̄)² / (n − 1)`.
    ///
    /// Source: Fisher, *Statistical Methods for Research Workers*, 1925.
    sv(propensity: Expr), sv_udaf: Udaf<Sv>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sv;

impl Function for Sv {
    const SPEC: &'static Spec = &Spec::new("sv", &[Role::Propensity]).divides(Divides::Neither);

    const EXAMPLE: &'static str = "> SELECT sv(p) AS sv
  FROM (VALUES (0.25), (0.5), (0.75)) AS log (p);
+--------+
| sv     |
+--------+
| 0.0625 |
+--------+";

    const RELATED: &'static [&'static str] = &["mis", "propensity_profile"];

    type State = Moments;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        Weighted::leads([rows.propensity().to_vec()])
    }

    fn values(state: &Moments, _call: &Call) -> Result<ArrayRef> {
        let variance = |group: usize| {
            let moment = state.get(group)?;
            (moment.count > 1).then(|| moment.spread / (moment.count - 1) as f64)
        };
        Ok(numbers((0..state.groups()).map(variance)))
    }
}
