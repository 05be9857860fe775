//! The type of what `alarm_state()` gives.

use arrow::datatypes::{DataType, Field, Fields};

/// The fields of a day's state.
pub(crate) fn day_state_fields() -> Fields {
    let list = |element| DataType::new_list(element, true);
    let fields = [
        ("count", DataType::UInt64),
        ("mean", list(DataType::Float64)),
        ("sd", list(DataType::Float64)),
        ("sums", list(DataType::Float64)),
        ("groups", DataType::UInt16),
        ("keys", list(DataType::UInt16)),
        ("clusters", list(DataType::Float64)),
    ];
    fields.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect()
}

/// Whether this is the type of a day's state, but for the types of its parts.
pub(super) fn is_day_state(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => {
            fields.iter().map(|f| f.name().clone()).eq(day_state_fields().iter().map(|f| f.name().clone()))
        }
        other => *other == DataType::Null,
    }
}
