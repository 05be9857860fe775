use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_expr::Expr;

use super::balance_test::{test_fields, tests};
use super::of_state::{StateFunction, StateUdf};
use crate::state::Imbalance;

scalar! {
    /// `balance_test` of the rows that a state was made from. NULL for NULL.
    balance_test_of(state: Expr), balance_test_of_udf: StateUdf<BalanceTestOf>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BalanceTestOf;

impl StateFunction for BalanceTestOf {
    const NAME: &'static str = "balance_test_of";
    const EXAMPLE: &'static str = "> SELECT balance_test_of(balance_state(clicked, p))['n'] AS n
  FROM (VALUES (1, 0.5), (1, 0.8), (0, 0.5), (0, 0.2)) AS log (clicked, p);
+---+
| n |
+---+
| 4 |
+---+";

    fn return_type() -> DataType {
        DataType::Struct(test_fields())
    }

    fn values(states: &[Option<Imbalance<'_>>]) -> ArrayRef {
        tests(states.iter().copied())
    }
}
