//! What a check finds: one batch for files, JSON for programs, typed values for its verdict and gauges.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use serde_json::{Map, Value};

use crate::error::Result;

/// One row of a check's result, by column.
pub(super) type JsonRow = Map<String, Value>;

/// A query's result as one batch of 64-bit integers, 64-bit floats and text.
pub(super) fn plain(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let batch = concat_batches(schema, batches)?;
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let data_type = plain_type(field.data_type());
        columns.push(cast(column, &data_type)?);
        fields.push(Field::new(field.name(), data_type, true));
    }
    Ok(RecordBatch::try_new(Schema::new(fields).into(), columns)?)
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        kind if kind.is_integer() => DataType::Int64,
        kind if kind.is_numeric() => DataType::Float64,
        _ => DataType::Utf8,
    }
}

/// The rows of a [`plain`] batch. A number that JSON lacks (NaN, infinity) is null.
pub(super) fn json_rows(batch: &RecordBatch) -> Vec<JsonRow> {
    let schema = batch.schema();
    let row = |index| {
        let columns = schema.fields().iter().zip(batch.columns());
        columns.map(|(field, column)| (field.name().clone(), json(column, index))).collect()
    };
    (0..batch.num_rows()).map(row).collect()
}

fn json(column: &dyn Array, row: usize) -> Value {
    match column.data_type() {
        DataType::Int64 => i64::read(column, row).into(),
        DataType::Float64 => f64::read(column, row).into(),
        _ => String::read(column, row).into(),
    }
}

/// One row of a check's result, typed: the figures that its verdict and gauges are made of. [`figures!`] declares it.
pub(super) trait Figures: Sized {
    /// The columns that are read.
    const COLUMNS: &'static [Column];

    /// How many rows of the audited table count.
    fn n(&self) -> i64;

    /// Reads one row of a [`plain`] batch.
    ///
    /// # Errors
    /// Where a column is not there, holds values of another type, or has none where the figures need one.
    fn read(batch: &RecordBatch, row: usize) -> Result<Self, ArrowError>;
}

/// Declares the [`Figures`] of a check: a column for each field, of its name.
macro_rules! figures {
    ($(#[doc = $about:literal])+ struct $name:ident { $($column:ident: $cell:ty,)+ }) => {
        $(#[doc = $about])+
        #[derive(Debug)]
        #[cfg_attr(test, derive(Default))]
        pub(super) struct $name {
            $($column: $cell,)+
        }

        impl $crate::audit::figures::Figures for $name {
            const COLUMNS: &'static [$crate::audit::figures::Column] =
                &[$($crate::audit::figures::Column::of::<$cell>(stringify!($column))),+];

            fn n(&self) -> i64 {
                self.n
            }

            fn read(
                batch: &datafusion::arrow::array::RecordBatch,
                row: usize,
            ) -> Result<Self, datafusion::arrow::error::ArrowError> {
                Ok(Self { $($column: $crate::audit::figures::read(batch, stringify!($column), row)?,)+ })
            }
        }
    };
}
pub(super) use figures;

/// A column of a check's result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: CellKind,
}

/// What a column of a check's result holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CellKind {
    Integer,
    /// An integer, too.
    Number,
    Text,
}

impl CellKind {
    fn in_words(self) -> &'static str {
        match self {
            Self::Integer => "integers",
            Self::Number => "numbers",
            Self::Text => "text",
        }
    }
}

impl Column {
    pub(super) const fn of<C: Cell>(name: &'static str) -> Self {
        Self { name, kind: C::KIND }
    }

    /// Fails unless a result of that schema has the column, and in it what it is to hold.
    pub(super) fn verify(&self, schema: &Schema) -> Result<(), ArrowError> {
        let name = self.name;
        let field = field(schema, name)?;
        let is_sound = match plain_type(field.data_type()) {
            DataType::Int64 => self.kind != CellKind::Text,
            DataType::Float64 => self.kind == CellKind::Number,
            _ => self.kind == CellKind::Text,
        };
        if !is_sound {
            let (holds, kind) = (field.data_type(), self.kind.in_words());
            return Err(ArrowError::SchemaError(format!("the column {name:?} holds {holds}, not {kind}")));
        }
        Ok(())
    }
}

/// The column of that name.
pub(super) fn field<'a>(schema: &'a Schema, name: &str) -> Result<&'a Field, ArrowError> {
    schema.field_with_name(name).map_err(|_| {
        let known: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        ArrowError::SchemaError(format!("there is no column {name:?}, only {}", known.join(", ")))
    })
}

/// What a column of a check's result is read as; an `Option` of it where there may be no value.
pub(super) trait Cell: Sized {
    const KIND: CellKind;

    /// The value in a row of a column of that kind, if it has one.
    fn read(column: &dyn Array, row: usize) -> Option<Self>;
}

impl Cell for i64 {
    const KIND: CellKind = CellKind::Integer;

    fn read(column: &dyn Array, row: usize) -> Option<Self> {
        let column = column.as_primitive_opt::<Int64Type>()?;
        column.is_valid(row).then(|| column.value(row))
    }
}

/// A number that is not finite is no value.
impl Cell for f64 {
    const KIND: CellKind = CellKind::Number;

    fn read(column: &dyn Array, row: usize) -> Option<Self> {
        let Some(column) = column.as_primitive_opt::<Float64Type>() else {
            return i64::read(column, row).map(|value| value as f64);
        };
        (column.is_valid(row) && column.value(row).is_finite()).then(|| column.value(row))
    }
}

impl Cell for String {
    const KIND: CellKind = CellKind::Text;

    fn read(column: &dyn Array, row: usize) -> Option<Self> {
        let column = column.as_string_opt::<i32>()?;
        column.is_valid(row).then(|| column.value(row).to_owned())
    }
}

impl<C: Cell> Cell for Option<C> {
    const KIND: CellKind = C::KIND;

    fn read(column: &dyn Array, row: usize) -> Option<Self> {
        Some(C::read(column, row))
    }
}

/// The value in one row of a [`plain`] batch, of the column of that name.
pub(super) fn read<C: Cell>(batch: &RecordBatch, name: &'static str, row: usize) -> Result<C, ArrowError> {
    let value = batch.column_by_name(name).and_then(|column| C::read(column, row));
    value.ok_or_else(|| ArrowError::SchemaError(format!("the column {name:?} has no value in row {}", row + 1)))
}

/// Every row of a [`plain`] batch, typed.
///
/// # Errors
/// Those of [`Column::verify`] and [`Figures::read`].
pub(super) fn decode<F: Figures>(batch: &RecordBatch) -> Result<Vec<F>, ArrowError> {
    F::COLUMNS.iter().try_for_each(|column| column.verify(&batch.schema()))?;
    (0..batch.num_rows()).map(|row| F::read(batch, row)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Float32Array, Float64Array, StringArray, UInt32Array};

    use super::*;

    figures! {
        /// A segment.
        struct Segment {
            n: i64,
            name: String,
            bmse: Option<f64>,
            worst: f64,
        }
    }

    fn batch(columns: [(&str, ArrayRef); 4]) -> RecordBatch {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        plain(&batch.schema(), &[batch]).unwrap()
    }

    fn sound() -> [(&'static str, ArrayRef); 4] {
        [
            ("bmse", Arc::new(Float32Array::from(vec![Some(0.5), None, Some(f32::NAN)]))),
            ("name", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
            ("worst", Arc::new(UInt32Array::from(vec![7, 8, 9]))),
            ("n", Arc::new(UInt32Array::from(vec![1, 2, 3]))),
        ]
    }

    fn error(columns: [(&str, ArrayRef); 4]) -> String {
        decode::<Segment>(&batch(columns)).unwrap_err().to_string()
    }

    #[test]
    fn rows_are_read_by_the_names_of_their_columns() {
        let rows = decode::<Segment>(&batch(sound())).unwrap();
        assert_eq!(rows.iter().map(Figures::n).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(rows.iter().map(|row| row.bmse).collect::<Vec<_>>(), [Some(0.5), None, None]);
        assert_eq!(rows.iter().map(|row| row.worst).collect::<Vec<_>>(), [7.0, 8.0, 9.0]);
    }

    #[test]
    fn a_column_that_is_renamed_or_of_another_type_or_without_a_value_is_an_error() {
        let mut columns = sound();
        columns[0].0 = "bmsee";
        assert!(error(columns).ends_with(r#"there is no column "bmse", only bmsee, name, worst, n"#));

        let mut columns = sound();
        columns[3].1 = Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0]));
        assert!(error(columns).ends_with(r#"the column "n" holds Float64, not integers"#));
        let mut columns = sound();
        columns[2].1 = Arc::new(StringArray::from(vec!["x", "y", "z"]));
        assert!(error(columns).ends_with(r#"the column "worst" holds Utf8, not numbers"#));
        let mut columns = sound();
        columns[1].1 = Arc::new(UInt32Array::from(vec![1, 2, 3]));
        assert!(error(columns).ends_with(r#"the column "name" holds Int64, not text"#));

        let mut columns = sound();
        columns[3].1 = Arc::new(UInt32Array::from(vec![Some(1), None, Some(3)]));
        assert!(error(columns).ends_with(r#"the column "n" has no value in row 2"#));

        let none = sound().map(|(name, column)| (if name == "n" { "m" } else { name }, column.slice(0, 0)));
        assert!(error(none).contains(r#"there is no column "n""#), "where there are no rows, too");
    }
}
