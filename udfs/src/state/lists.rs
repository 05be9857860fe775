//! List columns of a state: one list of numbers a group.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Float64Array, LargeListArray, PrimitiveArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use datafusion_expr::EmitTo;

pub(super) fn list_of<T: ArrowPrimitiveType>() -> DataType {
    DataType::LargeList(Arc::new(Field::new_list_field(T::DATA_TYPE, false)))
}

/// An array of [`list_of`] these numbers.
pub(super) fn write<T: ArrowPrimitiveType>(
    groups: impl Iterator<Item = impl ExactSizeIterator<Item = T::Native>> + Clone,
) -> ArrayRef {
    let offsets = OffsetBuffer::from_lengths(groups.clone().map(|list| list.len()));
    let values = PrimitiveArray::<T>::from_iter_values(groups.flatten());
    let element = Field::new_list_field(T::DATA_TYPE, false);
    Arc::new(LargeListArray::new(Arc::new(element), offsets, Arc::new(values), None))
}

/// An array of [`list_of`] numbers, `width` for each of `groups` groups, end to end in `values`.
pub(super) fn write_rows(groups: usize, width: usize, values: Vec<f64>) -> ArrayRef {
    let offsets = OffsetBuffer::from_repeated_length(width, groups);
    let element = Arc::new(Field::new_list_field(DataType::Float64, false));
    Arc::new(LargeListArray::new(element, offsets, Arc::new(Float64Array::from(values)), None))
}

/// Splits off the values of the groups to emit, `width` for each group; the others move down.
pub(super) fn take_rows(emit_to: EmitTo, width: usize, values: &mut Vec<f64>) -> Vec<f64> {
    let values_to_emit = match emit_to {
        EmitTo::All => EmitTo::All,
        EmitTo::First(groups) => EmitTo::First(groups * width),
    };
    values_to_emit.take_needed(values)
}

/// Reads what [`write()`] or [`write_rows`] wrote.
pub(super) fn read<T: ArrowPrimitiveType>(array: &ArrayRef) -> impl Iterator<Item = &[T::Native]> {
    let lists: &LargeListArray = array.as_list();
    let values = lists.values().as_primitive::<T>().values();
    (0..lists.len()).map(move |row| {
        let offsets = lists.value_offsets();
        &values[offsets[row] as usize..offsets[row + 1] as usize]
    })
}
