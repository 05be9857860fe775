//! The SQL function that reads the values of a column of a CSV file.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::guess::{Guess, is_marker};
use crate::advice::quoted;
use crate::error::Error;

static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(ReadAs::new())));

/// `text` as a value of `data_type`; `guessed` says that the type came of the values before it.
///
/// DataFusion's own reader tells neither the file nor the column of a value that it cannot parse, and its `CAST` neither the
/// column nor the file. Both read `007` as 7.
pub(super) fn read_as(text: Expr, data_type: &DataType, column: &str, guessed: bool, file: Expr) -> Expr {
    FUNCTION.call(vec![text, lit(data_type.to_string()), lit(column), lit(guessed), file])
}

/// `read_as(text, type, column, guessed, file)`: all but the first and the last are literals.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ReadAs(Signature);

impl ReadAs {
    fn new() -> Self {
        Self(Signature::any(5, Volatility::Immutable))
    }
}

impl ScalarUDFImpl for ReadAs {
    fn name(&self) -> &str {
        "read_as"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        plan_err!("the type that read_as gives is its second argument")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let Some(Some(Some(name))) =
            args.scalar_arguments.get(1).map(|value| value.and_then(|value| value.try_as_str()))
        else {
            return plan_err!("the second argument of read_as is the name of a type");
        };
        Ok(Arc::new(Field::new("value", name.parse()?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let data_type = args.return_type().clone();
        let [text, _, column, guessed, file] = args.args.as_slice() else {
            return exec_err!("read_as takes 5 arguments");
        };
        let (ColumnarValue::Scalar(column), ColumnarValue::Scalar(ScalarValue::Boolean(guessed))) = (column, guessed)
        else {
            return exec_err!("read_as takes a literal column and type");
        };
        let text = text.to_array(args.number_rows)?;
        let wrong = |row: usize, value: &str| -> DataFusionError {
            let file = match file {
                ColumnarValue::Scalar(file) => file.to_string(),
                ColumnarValue::Array(files) => {
                    ScalarValue::try_from_array(files, row).map_or(String::new(), |file| file.to_string())
                }
            };
            DataFusionError::External(Box::new(misfit(&file, &column.to_string(), value, &data_type)))
        };
        let values = parse(&text, &data_type, guessed.unwrap_or(false), wrong)?;
        Ok(ColumnarValue::Array(values))
    }
}

fn parse(
    text: &ArrayRef,
    data_type: &DataType,
    guessed: bool,
    wrong: impl Fn(usize, &str) -> DataFusionError,
) -> Result<ArrayRef> {
    let text = cast(text, &DataType::Utf8)?;
    let texts = text.as_string::<i32>();
    if guessed {
        for (row, value) in texts.iter().enumerate() {
            if let Some(value) = value.filter(|value| !Guess::of(value).fits(data_type)) {
                return Err(wrong(row, value));
            }
        }
    }
    let values = cast_with_options(&text, data_type, &CastOptions { safe: true, ..CastOptions::default() })?;
    if values.null_count() > texts.null_count() {
        let row = (0..texts.len()).find(|row| texts.is_valid(*row) && values.is_null(*row)).unwrap_or_default();
        return Err(wrong(row, texts.value(row)));
    }
    Ok(values)
}

/// What is said of a value that is none of its column's type.
pub(super) fn misfit(file: &str, column: &str, value: &str, data_type: &DataType) -> Error {
    let shown: String = value.chars().take(60).collect();
    let name = match data_type {
        DataType::Int64 => "an integer of 64 bits without leading zeros".to_owned(),
        DataType::Float64 => "a number that a double holds".to_owned(),
        DataType::Boolean => "true or false".to_owned(),
        DataType::Date32 => "a date such as 2026-01-31".to_owned(),
        other => format!("a value of {other}"),
    };
    let quoted = quoted(column);
    let cure = match is_marker(value) {
        true => format!(
            "if it stands for NULL, set null = {shown:?} in the job's [tables.NAME]; or read the column as text with \
             schema = '{quoted} VARCHAR, …', which names every column"
        ),
        false => format!(
            "mend the file, or read the column as text with schema = '{quoted} VARCHAR, …' in the job's [tables.NAME], \
             which names every column"
        ),
    };
    Error::Invalid(format!("{file}: column {column:?} holds {shown:?}, which is not {name}; {cure}"))
}
