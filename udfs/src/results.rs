//! Arrays of results, one entry a group.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Float64Builder, ListArray, ListBuilder, StructArray, UInt64Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};

/// One number a group.
pub(crate) fn numbers(values: impl IntoIterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Float64Array>())
}

/// One count a group.
pub(crate) fn counts(values: impl IntoIterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<UInt64Array>())
}

/// The type of [`lists`].
pub(crate) fn list_type() -> DataType {
    DataType::new_list(DataType::Float64, true)
}

/// One list of numbers a group.
pub(crate) fn lists<T: Into<Option<f64>>>(
    values: impl IntoIterator<Item = Option<impl IntoIterator<Item = T>>>,
) -> ArrayRef {
    let mut lists = ListBuilder::new(Float64Builder::new());
    for list in values {
        let is_valid = list.is_some();
        list.into_iter().flatten().for_each(|value| lists.values().append_option(value.into()));
        lists.append(is_valid);
    }
    Arc::new(lists.finish())
}

/// One list a group of the `lengths` next elements; NULL where a length is.
pub(crate) fn lists_of(elements: ArrayRef, lengths: &[Option<usize>]) -> ArrayRef {
    let element = Arc::new(Field::new_list_field(elements.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(lengths.iter().map(|length| length.unwrap_or(0)));
    let valid = lengths.iter().map(Option::is_some).collect();
    Arc::new(ListArray::new(element, offsets, elements, Some(valid)))
}

/// The fields of a struct.
pub(crate) fn struct_fields<'a>(fields: impl IntoIterator<Item = (&'a str, DataType)>) -> Fields {
    fields.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect()
}

/// One struct a group, of these fields; NULL where `is_valid` says no.
pub(crate) fn structs(fields: Fields, columns: Vec<ArrayRef>, is_valid: Vec<bool>) -> ArrayRef {
    Arc::new(StructArray::new(fields, columns, Some(NullBuffer::from(is_valid))))
}
