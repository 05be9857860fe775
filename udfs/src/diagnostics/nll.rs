use arrow::array::ArrayRef;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::surprises;
use crate::args::{Call, Divides, Role, Rows, Spec};
use crate::results::numbers;
use crate::state::{State, Sums, Terms};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Negative log-likelihood of the propensities: the mean of `-ln(p)` over treated and of `-ln(1-p)` over untreated
    /// rows, in nats.
    ///
    /// Lower is better; propensities of 0.5 throughout have ln 2. NULL if no row counts.
    ///
    /// # Details
    /// `mean(−o·ln p − (1−o)·ln(1−p))`: 0 for propensities that are certain and right. A row that is certain and wrong
    /// is an error: it would make the result infinite.
    ///
    /// Source: Good, *Rational decisions*, 1952.
    nll(treated: Expr, propensity: Expr), nll_udaf: Udaf<Nll>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Nll;

impl Function for Nll {
    const SPEC: &'static Spec = &Spec::new("nll", &[Role::Treated, Role::Propensity]).divides(Divides::Both);

    const EXAMPLE: &'static str = "> SELECT nll(clicked, p) AS nll
  FROM (VALUES (1, 0.5), (1, 0.8), (0, 0.5), (0, 0.2)) AS log (clicked, p);
+--------------------+
| nll                |
+--------------------+
| 0.4581453659370775 |
+--------------------+";

    const RELATED: &'static [&'static str] = &["ppl", "ece", "log_loss"];

    type State = Sums;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Terms {
        Terms::mean(surprises(rows))
    }

    fn values(state: &Sums, _call: &Call) -> Result<ArrayRef> {
        Ok(numbers((0..state.groups()).map(|group| state.ratio(group))))
    }
}
