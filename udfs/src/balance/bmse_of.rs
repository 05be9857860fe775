use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_expr::Expr;

use super::of_state::{StateFunction, StateUdf};
use super::squared_norm;
use crate::results::numbers;
use crate::state::Imbalance;

scalar! {
    /// `bmse` of the rows that a state was made from. NULL for NULL.
    bmse_of(state: Expr), bmse_of_udf: StateUdf<BmseOf>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BmseOf;

impl StateFunction for BmseOf {
    const NAME: &'static str = "bmse_of";
    const EXAMPLE: &'static str = "> SELECT bmse_of(balance_state(clicked, p)) AS bmse
  FROM (VALUES (1, 0.5), (1, 0.8), (0, 0.5), (0, 0.2)) AS log (clicked, p);
+------+
| bmse |
+------+
| 0.0  |
+------+";

    fn return_type() -> DataType {
        DataType::Float64
    }

    fn values(states: &[Option<Imbalance<'_>>]) -> ArrayRef {
        numbers(states.iter().map(|state| state.map(|state| squared_norm(state.mean))))
    }
}
