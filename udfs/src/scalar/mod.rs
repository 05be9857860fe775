//! Errors and weights of single rows.

mod balance_weight;
mod clip_propensity;
mod inverse_propensity_weight;
mod log_loss;
mod mrdr_weight;
mod squared_error;

pub use balance_weight::balance_weight_udf;
pub use clip_propensity::clip_propensity_udf;
pub use inverse_propensity_weight::inverse_propensity_weight_udf;
pub use log_loss::log_loss_udf;
pub use mrdr_weight::mrdr_weight_udf;
pub use squared_error::squared_error_udf;

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::args::is_number;
use crate::docs;

/// A function of `N` numbers; NULL if one of them is.
trait RowFunction<const N: usize>: Debug + PartialEq + Eq + Hash + Send + Sync + 'static {
    const NAME: &'static str;
    const DESCRIPTION: &'static str;
    const EXAMPLE: &'static str;
    /// Names and descriptions.
    const PARAMETERS: [(&'static str, &'static str); N];

    fn value(arguments: [f64; N]) -> Result<f64>;

    fn syntax() -> String {
        format!("{}({})", Self::NAME, Self::PARAMETERS.map(|p| p.0).join(", "))
    }

    /// An execution error about the argument at `place`.
    fn error(place: usize, value: f64, cure: &str) -> DataFusionError {
        let (name, argument) = (Self::NAME, Self::PARAMETERS[place].0);
        exec_datafusion_err!("{name}: argument {} ({argument}) is {value}: {cure}", place + 1)
    }
}

fn udf<const N: usize, F: RowFunction<N>>() -> Arc<ScalarUDF> {
    let example = format!("```sql\n{}\n```", F::EXAMPLE);
    let documentation = Documentation::builder(docs::ROWS, F::DESCRIPTION, F::syntax()).with_sql_example(example);
    let documentation = F::PARAMETERS
        .into_iter()
        .fold(documentation, |documentation, (name, description)| documentation.with_argument(name, description));
    Arc::new(ScalarUDF::from(RowUdf::<F, N> {
        signature: Signature::user_defined(Volatility::Immutable)
            .with_parameter_names(F::PARAMETERS.map(|p| p.0).to_vec())
            .expect("parameter names are distinct"),
        documentation: documentation.build(),
        function: PhantomData,
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct RowUdf<F, const N: usize> {
    signature: Signature,
    documentation: Documentation,
    function: PhantomData<F>,
}

impl<const N: usize, F: RowFunction<N>> ScalarUDFImpl for RowUdf<F, N> {
    fn name(&self) -> &str {
        F::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let fits = |t: &DataType| is_number(t) || t == &DataType::Boolean;
        if arg_types.len() != N || !arg_types.iter().all(fits) {
            let given: Vec<_> = arg_types.iter().map(ToString::to_string).collect();
            return plan_err!(
                "{} takes {N} arguments, numbers or booleans, not ({}); usage: {}",
                F::NAME,
                given.join(", "),
                F::syntax()
            );
        }
        Ok(vec![DataType::Float64; N])
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let nulls = NullBuffer::union_many(arrays.iter().map(|array| array.nulls()));
        let columns: [&[f64]; N] = std::array::from_fn(|k| &arrays[k].as_primitive::<Float64Type>().values()[..]);
        let value = |row: usize| F::value(columns.map(|column| column[row]));
        let rows = 0..arrays[0].len();
        let values: Vec<f64> = match &nulls {
            None => rows.map(value).collect::<Result<_>>()?,
            Some(nulls) => {
                rows.map(|row| if nulls.is_valid(row) { value(row) } else { Ok(0.0) }).collect::<Result<_>>()?
            }
        };
        let values = Float64Array::new(values.into(), nulls);
        let scalar = |arg: &ColumnarValue| matches!(arg, ColumnarValue::Scalar(_));
        Ok(if args.args.iter().all(scalar) {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)
        } else {
            ColumnarValue::Array(Arc::new(values))
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
