use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::weighted_phi;
use crate::args::{Call, Role, Rows, Spec};
use crate::results::{list_type, lists};
use crate::state::{Moments, State, Weighted};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// The imbalance of each element of phi, with its sign: the mean of `w * phi` over all rows.
    ///
    /// `bmse` is its squared length. Above 0, the propensity is too low where the element is large; below 0, too high.
    /// NULL if no row counts.
    ///
    /// # Details
    /// A list as long as φ, in the unit of φ, with `w = o/p − (1−o)/(1−p)`.
    ///
    /// Source: Li et al., ICML 2023, section 3.3.
    balance_vector(treated: Expr, propensity: Expr, phi: Vec<Expr>), balance_vector_udaf: Udaf<BalanceVector>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BalanceVector;

impl Function for BalanceVector {
    const SPEC: &'static Spec = &Spec::new("balance_vector", &[Role::Treated, Role::Propensity]).with_phi();

    const EXAMPLE: &'static str = "> SELECT balance_vector(clicked, p, mobile, age) AS imbalance
  FROM (VALUES (1, 0.5, 1.0, 30.0), (1, 0.8, 0.0, 20.0), (0, 0.5, 1.0, 40.0), (0, 0.2, 0.0, 10.0))
    AS log (clicked, p, mobile, age);
+---------------+
| imbalance     |
+---------------+
| [0.0, -1.875] |
+---------------+";

    const RELATED: &'static [&'static str] = &["bmse", "balance_test"];

    type State = Moments;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        weighted_phi(rows)
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        list_type()
    }

    fn values(state: &Moments, _call: &Call) -> Result<ArrayRef> {
        Ok(lists((0..state.groups()).map(|group| state.get(group).map(|moment| moment.mean.iter().copied()))))
    }
}
