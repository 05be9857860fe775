//! The schemas of Parquet files.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::datasource::file_format::FileFormat;
use datafusion::execution::context::SessionState;
use datafusion::scalar::ScalarValue;
use object_store::{ObjectMeta, ObjectStore};

use super::fault::fault;
use super::format::TableFormat;
use crate::error::Result;

/// Integers up to which a double holds each.
const EXACT: i64 = 1 << 53;

/// The format of a table's files.
///
/// Timestamps of 96 bits are read as microseconds unless the table says otherwise: as nanoseconds, which is the reader's
/// default, years before 1677 and after 2262 become others (<https://github.com/apache/datafusion/issues/1360>).
pub(super) fn format(state: &SessionState, format: &TableFormat) -> Result<Arc<dyn FileFormat>> {
    let int96 = format.int96.clone().unwrap_or_else(|| "us".to_owned());
    let options = HashMap::from([("format.coerce_int96".to_owned(), int96)]);
    let factory = state.get_file_format_factory("parquet").expect("a default file format");
    Ok(factory.create(state, &options)?)
}

/// The schemas of `files`, in which 64-bit integers that doubles hold, by the files' statistics, are given as narrower ones
/// where another file has doubles in that column.
pub(super) async fn narrowed(
    state: &SessionState,
    store: &Arc<dyn ObjectStore>,
    format: &Arc<dyn FileFormat>,
    files: &[(String, ObjectMeta)],
    schemas: Vec<(String, SchemaRef)>,
) -> Result<Vec<(String, SchemaRef)>> {
    let is_double = |name: &str| {
        let fields = schemas.iter().filter_map(|(_, schema)| schema.field_with_name(name).ok());
        fields.into_iter().any(|field| field.data_type().is_floating())
    };
    let is_long = |field: &Field| matches!(field.data_type(), DataType::Int64 | DataType::UInt64);
    let mut narrowed = Vec::with_capacity(schemas.len());
    for ((name, schema), (_, file)) in schemas.iter().zip(files) {
        if !schema.fields().iter().any(|field| is_long(field) && is_double(field.name())) {
            narrowed.push((name.clone(), Arc::clone(schema)));
            continue;
        }
        let told = format.infer_stats(state, store, Arc::clone(schema), file).await;
        let told = told.map_err(|error| fault(name, error))?;
        let fields = schema.fields().iter().zip(&told.column_statistics).map(|(field, statistics)| {
            let bound = |value: &Precision<ScalarValue>| match value {
                Precision::Exact(value) => value.cast_to(&DataType::Int64).ok().is_some_and(
                    |value| matches!(value, ScalarValue::Int64(Some(value)) if (-EXACT..=EXACT).contains(&value)),
                ),
                _ => false,
            };
            let fits = bound(&statistics.min_value) && bound(&statistics.max_value);
            match is_long(field) && is_double(field.name()) && fits {
                true => field.as_ref().clone().with_data_type(DataType::Int32),
                false => field.as_ref().clone(),
            }
        });
        narrowed.push((name.clone(), Arc::new(Schema::new(fields.collect::<Vec<_>>()))));
    }
    Ok(narrowed)
}
