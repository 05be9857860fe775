//! States of [`balance_state`](super::balance_state_udaf) in a column.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray, UInt64Array};
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{Signature, Volatility};

use crate::results::{counts, list_type, lists, struct_type, structs};
use crate::state::{Comoment, Comoments, State};

/// The type of a state.
pub(super) fn state_type() -> DataType {
    struct_type([("count", DataType::UInt64), ("mean", list_type()), ("comoment", list_type())])
}

/// The signature of a function of one state.
pub(super) fn state_signature() -> Signature {
    let signature = Signature::user_defined(Volatility::Immutable);
    signature.with_parameter_names(vec!["state"]).expect("one name is distinct")
}

/// The states of all groups.
pub(super) fn stored(state: &Comoments) -> ArrayRef {
    let groups = || (0..state.groups()).map(|group| state.get(group));
    let columns = vec![
        counts(groups().map(|group| group.map(|group| group.count))),
        lists(groups().map(|group| group.map(|group| group.mean.iter().copied()))),
        lists(groups().map(|group| group.map(|group| group.packed().iter().copied()))),
    ];
    structs(&state_type(), columns, groups().map(|group| group.is_some()).collect())
}

/// The type that the one argument `types` of `function` is cast to.
///
/// # Errors
/// Where it is no struct that could hold a state.
pub(super) fn coerce(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let is_state = |data_type: &DataType| match data_type {
        DataType::Null => true,
        DataType::Struct(fields) => {
            let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
            names == ["count", "mean", "comoment"]
        }
        _ => false,
    };
    match types {
        [data_type] if is_state(data_type) => Ok(vec![state_type()]),
        [other] => plan_err!(
            "argument 1 (state) of {function} must be a state that balance_state or balance_merge gave: a struct of \
             count, mean and comoment, not {other}"
        ),
        _ => plan_err!("{function} takes 1 argument, not {}; usage: {function}(state)", types.len()),
    }
}

/// States read from a column of [`state_type`].
pub(super) struct States<'a> {
    function: &'static str,
    array: &'a ArrayRef,
    count: &'a UInt64Array,
    mean: &'a ListArray,
    comoment: &'a ListArray,
}

impl<'a> States<'a> {
    pub(super) fn read(function: &'static str, array: &'a ArrayRef) -> Self {
        let columns = array.as_struct().columns();
        Self {
            function,
            array,
            count: columns[0].as_primitive::<UInt64Type>(),
            mean: columns[1].as_list(),
            comoment: columns[2].as_list(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.array.len()
    }

    /// The state in a row; `None` where it is NULL or saw no row.
    ///
    /// # Errors
    /// Where it is no state.
    pub(super) fn get(&self, row: usize) -> Result<Option<Comoment<'a>>> {
        let parts: [&dyn Array; 3] = [self.count, self.mean, self.comoment];
        if self.array.is_null(row) || parts.iter().all(|part| part.is_null(row)) {
            return Ok(None);
        }
        let place = |lists: &ListArray| {
            let offsets = lists.value_offsets();
            offsets[row] as usize..offsets[row + 1] as usize
        };
        let has_nulls = |lists: &ListArray| place(lists).any(|at| lists.values().is_null(at));
        let is_whole =
            parts.iter().all(|part| part.is_valid(row)) && !has_nulls(self.mean) && !has_nulls(self.comoment);
        let list = |lists: &'a ListArray| {
            let values: &'a Float64Array = lists.values().as_primitive::<Float64Type>();
            &values.values()[place(lists)]
        };
        let (count, mean, comoment) = (self.count.value(row), list(self.mean), list(self.comoment));
        if is_whole && count == 0 {
            return Ok(None);
        }
        let finite = mean.iter().chain(comoment).all(|x| x.is_finite());
        match Comoment::from_parts(count, mean, comoment).filter(|_| is_whole && finite) {
            Some(state) => Ok(Some(state)),
            None => exec_err!(
                "{}: argument 1 (state) is no state of balance_state: count {count}, {} means and {} comoments \
                 must fit together, and hold no NULL, infinity or negative square; store the value as it comes",
                self.function,
                mean.len(),
                comoment.len()
            ),
        }
    }
}
