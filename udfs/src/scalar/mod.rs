//! Errors and weights of single rows.

mod balance_weight;
mod clip_propensity;
mod inverse_propensity_weight;
mod log_loss;
mod mrdr_weight;
mod reason;
mod refused_for;
mod skipped_for;
mod squared_error;
mod treatment;

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion_expr::{ColumnarValue, DocSection, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};

use crate::args::{is_number, named_signature};
use crate::docs::{self, Documented};

const SECTION: DocSection = DocSection {
    include: true,
    label: "Row Functions",
    description: Some("Errors and weights of single rows, as arguments for the aggregates."),
};

functions! {
    aggregates {}
    scalars {
        squared_error::{squared_error, squared_error_udf},
        log_loss::{log_loss, log_loss_udf},
        inverse_propensity_weight::{inverse_propensity_weight, inverse_propensity_weight_udf},
        balance_weight::{balance_weight, balance_weight_udf},
        mrdr_weight::{mrdr_weight, mrdr_weight_udf},
        clip_propensity::{clip_propensity, clip_propensity_udf},
        skipped_for::{skipped_for, skipped_for_udf},
        refused_for::{refused_for, refused_for_udf},
        treatment::{treatment, treatment_udf},
    }
}

/// A function of `N` numbers; NULL if one of them is.
trait RowFunction<const N: usize>: Debug + PartialEq + Eq + Hash + Send + Sync + 'static {
    const NAME: &'static str;

    /// A query, and what it gives.
    const EXAMPLE: &'static str;

    /// Names and meanings.
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

#[derive(Debug, PartialEq, Eq, Hash)]
struct RowUdf<F, const N: usize> {
    signature: Signature,
    documentation: Documentation,
    function: PhantomData<F>,
}

impl<const N: usize, F: RowFunction<N>> RowUdf<F, N>
where
    Self: Documented,
{
    fn new() -> Self {
        Self {
            signature: named_signature(F::PARAMETERS.map(|(name, _)| name).to_vec()),
            documentation: docs::documentation::<Self>(F::syntax(), &F::PARAMETERS, F::EXAMPLE, &[]),
            function: PhantomData,
        }
    }
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
