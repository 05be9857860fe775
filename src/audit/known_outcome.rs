//! Outcomes of treated rows, of which each must be one that can be.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};

use crate::advice::outcome_cure;
use crate::error::Error;

/// The outcome `expr`, which must be from 0 to 1 or NULL wherever it is read; messages call it by its column's name.
pub(super) fn known_outcome(expr: Expr, outcome: &str, treated: &str) -> Expr {
    let function = KnownOutcome {
        outcome: outcome.to_owned(),
        treated: treated.to_owned(),
        signature: Signature::exact(vec![DataType::Float64], Volatility::Immutable),
    };
    Arc::new(ScalarUDF::from(function)).call(vec![cast(expr, DataType::Float64)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct KnownOutcome {
    outcome: String,
    treated: String,
    signature: Signature,
}

impl ScalarUDFImpl for KnownOutcome {
    fn name(&self) -> &str {
        "known_outcome"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let values = args.args[0].to_array(args.number_rows)?;
        let numbers = values.as_primitive::<Float64Type>();
        let mut known = (0..numbers.len()).filter(|&row| numbers.is_valid(row)).map(|row| numbers.value(row));
        if let Some(value) = known.find(|value| !(0.0..=1.0).contains(value)) {
            let cure = outcome_cure(&self.outcome, Some(&self.treated), value);
            let message =
                format!("column {:?} is {value} in a treated row: an outcome is from 0 to 1; {cure}", self.outcome);
            return Err(DataFusionError::External(Box::new(Error::Invalid(message))));
        }
        Ok(ColumnarValue::Array(values))
    }
}
