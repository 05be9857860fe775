use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_expr::Expr;

use super::of_state::{StateFunction, StateUdf};
use crate::results::{list_type, lists};
use crate::state::Imbalance;

scalar! {
    /// `balance_vector` of the rows that a state was made from. NULL for NULL.
    balance_vector_of(state: Expr), balance_vector_of_udf: StateUdf<BalanceVectorOf>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BalanceVectorOf;

impl StateFunction for BalanceVectorOf {
    const NAME: &'static str = "balance_vector_of";
    const EXAMPLE: &'static str = "> SELECT balance_vector_of(balance_state(clicked, p, mobile, age)) AS imbalance
  FROM (VALUES (1, 0.5, 1.0, 30.0), (1, 0.8, 0.0, 20.0), (0, 0.5, 1.0, 40.0), (0, 0.2, 0.0, 10.0))
    AS log (clicked, p, mobile, age);
+---------------+
| imbalance     |
+---------------+
| [0.0, -1.875] |
+---------------+";

    fn return_type() -> DataType {
        list_type()
    }

    fn values(states: &[Option<Imbalance<'_>>]) -> ArrayRef {
        lists(states.iter().map(|state| state.map(|state| state.mean.iter().copied())))
    }
}
