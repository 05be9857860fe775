//! Functions of one stored state.

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};

use super::stored::{States, coerce, state_signature};
use crate::docs::{self, Documented};
use crate::state::Imbalance;

/// A function of one state.
pub(super) trait StateFunction: Debug + PartialEq + Eq + Hash + Send + Sync + 'static {
    const NAME: &'static str;

    /// A query, and what it gives.
    const EXAMPLE: &'static str;

    fn return_type() -> DataType;

    fn values(states: &[Option<Imbalance<'_>>]) -> ArrayRef;
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct StateUdf<F> {
    signature: Signature,
    documentation: Documentation,
    function: PhantomData<F>,
}

impl<F: StateFunction> StateUdf<F>
where
    Self: Documented,
{
    pub(super) fn new() -> Self {
        let documentation = docs::documentation::<Self>(
            format!("{}(state)", F::NAME),
            &[("state", docs::STATE)],
            F::EXAMPLE,
            &["balance_state", "balance_merge"],
        );
        Self { signature: state_signature(), documentation, function: PhantomData }
    }
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
