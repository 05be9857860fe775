use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::Expr;

use crate::args::{Call, Role, Rows, Spec};
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Mean of `1/p²` over all rows: the mean square of the inverse propensity weights, with which the variance of
    /// weighted estimates grows.
    ///
    /// It is at least 1. NULL if no row counts.
    ///
    /// # Details
    /// A propensity of 0 is an error, on untreated rows too.
    ///
    /// Source: Cortes, Mansour and Mohri, *Learning bounds for importance weighting*, NeurIPS 2010.
    mis(propensity: Expr), mis_udaf: Udaf<Mis>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Mis;

impl Function for Mis {
    const SPEC: &'static Spec = &Spec::new("mis", &[Role::Propensity]);

    const EXAMPLE: &'static str = "> SELECT mis(p) AS mis
  FROM (VALUES (0.25), (0.5), (1.0)) AS log (p);
+-----+
| mis |
+-----+
| 7.0 |
+-----+";

    const RELATED: &'static [&'static str] = &["sv", "ess"];

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms::mean(rows.propensity().iter().map(|p| 1.0 / (p * p)).collect())
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.ratio(group))))
    }
}
