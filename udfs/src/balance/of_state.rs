//! What a stored state says of the balance.

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

use super::balance_test::{test_fields, tests};
use super::squared_norm;
use super::stored::{States, coerce, state_signature};
use crate::docs;
use crate::results::{list_type, lists, numbers};
use crate::state::Imbalance;

/// [`bmse`](crate::bmse_udaf) of the rows of a state; NULL for NULL.
///
/// `bmse_of(state)`, with a state of [`balance_state`](crate::balance_state_udaf) or
/// [`balance_merge`](crate::balance_merge_udaf).
pub fn bmse_of_udf() -> Arc<ScalarUDF> {
    udf::<BmseOf>()
}

/// [`balance_vector`](crate::balance_vector_udaf) of the rows of a state; NULL for NULL.
///
/// `balance_vector_of(state)`, with a state of [`balance_state`](crate::balance_state_udaf) or
/// [`balance_merge`](crate::balance_merge_udaf).
pub fn balance_vector_of_udf() -> Arc<ScalarUDF> {
    udf::<BalanceVectorOf>()
}

/// [`balance_test`](crate::balance_test_udaf) of the rows of a state; NULL for NULL.
///
/// `balance_test_of(state)`, with a state of [`balance_state`](crate::balance_state_udaf) or
/// [`balance_merge`](crate::balance_merge_udaf).
pub fn balance_test_of_udf() -> Arc<ScalarUDF> {
    udf::<BalanceTestOf>()
}

/// A function of one state.
trait StateFunction: Debug + PartialEq + Eq + Hash + Send + Sync + 'static {
    const NAME: &'static str;
    const DESCRIPTION: &'static str;
    const EXAMPLE: &'static str;

    fn return_type() -> DataType;

    fn values(states: &[Option<Imbalance<'_>>]) -> ArrayRef;
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BmseOf;

impl StateFunction for BmseOf {
    const NAME: &'static str = "bmse_of";
    const DESCRIPTION: &'static str = "`bmse` of the rows that a state was made from. NULL for NULL.";
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

#[derive(Debug, PartialEq, Eq, Hash)]
struct BalanceVectorOf;

impl StateFunction for BalanceVectorOf {
    const NAME: &'static str = "balance_vector_of";
    const DESCRIPTION: &'static str = "`balance_vector` of the rows that a state was made from. NULL for NULL.";
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

#[derive(Debug, PartialEq, Eq, Hash)]
struct BalanceTestOf;

impl StateFunction for BalanceTestOf {
    const NAME: &'static str = "balance_test_of";
    const DESCRIPTION: &'static str = "`balance_test` of the rows that a state was made from. NULL for NULL.";
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

fn udf<F: StateFunction>() -> Arc<ScalarUDF> {
    let documentation = Documentation::builder(docs::BALANCE, F::DESCRIPTION, format!("{}(state)", F::NAME))
        .with_argument("state", "A value that `balance_state` or `balance_merge` gave.")
        .with_sql_example(format!("```sql\n{}\n```", F::EXAMPLE))
        .with_related_udf("balance_state")
        .with_related_udf("balance_merge");
    Arc::new(ScalarUDF::from(StateUdf::<F> {
        signature: state_signature(),
        documentation: documentation.build(),
        function: PhantomData,
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct StateUdf<F> {
    signature: Signature,
    documentation: Documentation,
    function: PhantomData<F>,
}

impl<F: StateFunction> ScalarUDFImpl for StateUdf<F> {
    fn name(&self) -> &str {
        F::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        coerce(F::NAME, arg_types)
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(F::return_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = args.args[0].to_array(1)?;
        let states = States::read(F::NAME, 1, "state", &array);
        let states = (0..states.len()).map(|row| states.get(row)).collect::<Result<Vec<_>>>()?;
        let values = F::values(&states);
        Ok(match args.args[0] {
            ColumnarValue::Array(_) => ColumnarValue::Array(values),
            ColumnarValue::Scalar(_) => ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?),
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
