//! List columns of a state: one list of numbers a group.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, LargeListArray, PrimitiveArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};

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

/// Reads what [`write()`] wrote.
pub(super) fn read<T: ArrowPrimitiveType>(array: &ArrayRef) -> impl Iterator<Item = &[T::Native]> {
    let lists: &LargeListArray = array.as_list();
    let values = lists.values().as_primitive::<T>().values();
    (0..lists.len()).map(move |row| {
        let offsets = lists.value_offsets();
        &values[offsets[row] as usize..offsets[row + 1] as usize]
    })
}
