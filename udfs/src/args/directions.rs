//! The directions along which days are watched, as `alarm_directions()` gives them.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Float64Type};
use datafusion_common::{Result, exec_err};

use super::role::Role;
use super::spec::Spec;

const COUNT: &str = "count";
const MEAN: &str = "mean";
const SD: &str = "sd";

/// The fields of directions.
pub(crate) fn directions_fields() -> Fields {
    let list = || DataType::new_list(DataType::Float64, true);
    let fields = [(COUNT, DataType::UInt64), (MEAN, list()), (SD, list())];
    fields.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect()
}

/// Whether this is the type of directions, but for the types of its parts.
pub(super) fn is_directions(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| field.name().as_str()).eq([COUNT, MEAN, SD]),
        other => *other == DataType::Null,
    }
}

/// An argument that holds directions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Directions<'a> {
    mean: &'a ListArray,
    sd: &'a ListArray,
}

impl<'a> Directions<'a> {
    /// Reads the directions of the rows that count.
    ///
    /// # Errors
    /// Where a row's are none, or not those of a φ with `width` elements.
    pub(super) fn read(
        spec: &Spec,
        array: &'a ArrayRef,
        rows: impl Iterator<Item = usize>,
        width: usize,
    ) -> Result<Self> {
        let parts: &StructArray = array.as_struct();
        let directions = Self { mean: parts.column(1).as_list(), sd: parts.column(2).as_list() };
        let (name, place) = (Role::Directions.name(), spec.position(Role::Directions).map_or(0, |at| at + 1));
        let lists = [directions.mean, directions.sd];
        for row in rows {
            let lengths = lists.map(|list| if list.is_valid(row) { list.value_length(row) as usize } else { 0 });
            if lengths != [width; 2] {
                return exec_err!(
                    "{}: argument {place} ({name}) is of {} elements, phi of {width}: give alarm_directions the phi that is \
                     given here",
                    spec.name,
                    lengths[0]
                );
            }
            let [mean, sd] = directions.of(row);
            let are_numbers =
                lists.iter().all(|list| numbers(list).nulls().is_none_or(|nulls| nulls.null_count() == 0));
            if !are_numbers || !mean.iter().all(|x| x.is_finite()) || !sd.iter().all(|x| x.is_finite() && *x >= 0.0) {
                return exec_err!(
                    "{}: argument {place} ({name}) holds a NULL, an infinity or a negative deviation: give it what \
                     alarm_directions gave, as it came",
                    spec.name
                );
            }
        }
        Ok(directions)
    }

    /// Mean and standard deviation of each element of φ, for a row of the batch.
    pub(crate) fn of(self, row: usize) -> [&'a [f64]; 2] {
        [self.mean, self.sd].map(|list| {
            let offsets = list.value_offsets();
            &numbers(list).values()[offsets[row] as usize..offsets[row + 1] as usize]
        })
    }
}

fn numbers(list: &ListArray) -> &Float64Array {
    list.values().as_primitive::<Float64Type>()
}
