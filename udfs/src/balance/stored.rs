//! States of [`balance_state`](crate::balance_state_udaf) in a column.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, ListArray, ListBuilder, StructArray, UInt16Array, UInt16Builder,
};
use arrow::datatypes::{DataType, Fields, Float64Type, UInt16Type, UInt64Type};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{Signature, Volatility};

use crate::results::{counts, list_type, lists, numbers, struct_fields, structs};
use crate::state::{ClusterSums, Clustered, Imbalance, Imbalances, State};

/// The type of a state.
pub(super) fn state_type() -> DataType {
    DataType::Struct(state_fields())
}

/// The fields that are of single rows; the others are of clusters.
const OF_ROWS: usize = 5;

/// The type of a state that knows of no clusters.
fn independent_type() -> DataType {
    DataType::Struct(state_fields().iter().take(OF_ROWS).cloned().collect())
}

fn state_fields() -> Fields {
    struct_fields([
        ("count", DataType::UInt64),
        ("mean", list_type()),
        ("spread", DataType::Float64),
        ("origin", list_type()),
        ("sums", list_type()),
        ("groups", DataType::UInt16),
        ("keys", DataType::new_list(DataType::UInt16, true)),
        ("clusters", list_type()),
    ])
}

/// The signature of a function of one state.
pub(super) fn state_signature() -> Signature {
    let signature = Signature::user_defined(Volatility::Immutable);
    signature.with_parameter_names(vec!["state"]).expect("one name is distinct")
}

/// The states of all groups.
pub(super) fn stored(state: &Clustered<Imbalances>) -> ArrayRef {
    let groups = || (0..state.groups()).map(|group| state.get(group));
    let list = |f: for<'a> fn(Imbalance<'a>) -> &'a [f64]| {
        lists(groups().map(|group| group.map(|group| f(group).iter().copied())))
    };
    let clusters = || groups().map(|group| group?.clusters);
    let mut keys = ListBuilder::new(UInt16Builder::new());
    clusters()
        .for_each(|clusters| keys.append_option(clusters.map(|clusters| clusters.keys.iter().map(|key| Some(*key)))));
    let columns: Vec<ArrayRef> = vec![
        counts(groups().map(|group| group.map(|group| group.count))),
        list(|group| group.mean),
        numbers(groups().map(|group| group.map(|group| group.spread))),
        list(|group| group.origin),
        list(|group| group.sums),
        Arc::new(clusters().map(|clusters| Some(clusters?.groups)).collect::<UInt16Array>()),
        Arc::new(keys.finish()),
        lists(clusters().map(|clusters| clusters.map(|clusters| clusters.sums.iter().copied()))),
    ];
    structs(state_fields(), columns, groups().map(|group| group.is_some()).collect())
}

/// The type that the one argument `types` of `function` is cast to.
///
/// # Errors
/// Where it is no struct that could hold a state.
pub(super) fn coerce(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [data_type] => Ok(vec![coerce_state(function, 1, "state", data_type)?]),
        _ => plan_err!("{function} takes 1 argument, not {}; usage: {function}(state)", types.len()),
    }
}

/// The type that argument `place` (`name`) of `function` is cast to.
///
/// # Errors
/// Where it is no struct that could hold a state.
pub(super) fn coerce_state(function: &str, place: usize, name: &str, data_type: &DataType) -> Result<DataType> {
    let names = |data_type: &DataType| match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| field.name().clone()).collect(),
        _ => Vec::new(),
    };
    let state = state_type();
    if names(data_type) == names(&independent_type()) {
        return Ok(independent_type());
    }
    if *data_type != DataType::Null && names(data_type) != names(&state) {
        return plan_err!(
            "argument {place} ({name}) of {function} must be a state that balance_state or balance_merge gave: a \
             struct of {}, not {data_type}",
            names(&state).join(", ")
        );
    }
    Ok(state)
}

/// States read from a column of [`state_type`].
pub(super) struct States<'a> {
    function: &'static str,
    place: usize,
    name: &'static str,
    states: &'a StructArray,
}

impl<'a> States<'a> {
    /// The states in argument `place` (`name`) of `function`.
    pub(super) fn read(function: &'static str, place: usize, name: &'static str, array: &'a ArrayRef) -> Self {
        Self { function, place, name, states: array.as_struct() }
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// The state in a row; `None` where it is NULL or saw no row.
    ///
    /// # Errors
    /// Where it is no state.
    pub(super) fn get(&self, row: usize) -> Result<Option<Imbalance<'a>>> {
        let columns = self.states.columns();
        if self.states.is_null(row) || columns.iter().all(|column| column.is_null(row)) {
            return Ok(None);
        }
        let list = |at: usize| {
            let lists: &ListArray = columns[at].as_list();
            let offsets = lists.value_offsets();
            let place = offsets[row] as usize..offsets[row + 1] as usize;
            let values: &Float64Array = lists.values().as_primitive::<Float64Type>();
            let is_whole = place.clone().all(|at| values.is_valid(at) && values.value(at).is_finite());
            (&values.values()[place], is_whole)
        };
        let count = columns[0].as_primitive::<UInt64Type>().value(row);
        let spread = columns[2].as_primitive::<Float64Type>().value(row);
        let lists = [list(1), list(3), list(4)];
        let (of_rows, of_clusters) = columns.split_at(OF_ROWS);
        let mut is_whole = of_rows.iter().all(|column| column.is_valid(row))
            && lists.iter().all(|(_, is_whole)| *is_whole)
            && spread.is_finite();
        let clusters = of_clusters.iter().any(|column| column.is_valid(row)).then(|| {
            let keys: &ListArray = of_clusters[1].as_list();
            let place = keys.value_offsets()[row] as usize..keys.value_offsets()[row + 1] as usize;
            let keys = keys.values().as_primitive::<UInt16Type>();
            let (sums, are_whole) = list(7);
            is_whole &= are_whole && of_clusters.iter().all(|column| column.is_valid(row));
            is_whole &= place.clone().all(|at| keys.is_valid(at));
            let groups = of_clusters[0].as_primitive::<UInt16Type>().value(row);
            ClusterSums { groups, keys: &keys.values()[place], sums }
        });
        if is_whole && count == 0 {
            return Ok(None);
        }
        let [mean, origin, sums] = lists.map(|(values, _)| values);
        match (Imbalance { count, mean, spread, origin, sums, clusters }).fitting().filter(|_| is_whole) {
            Some(state) => Ok(Some(state)),
            None => exec_err!(
                "{}: argument {} ({}) is no state of balance_state: count {count}, spread {spread}, {} means, an origin of \
                 {} and {} sums must fit together, as must keys and sums of clusters, and hold no NULL, infinity or \
                 negative square; store the value as it \
                 comes",
                self.function,
                self.place,
                self.name,
                mean.len(),
                origin.len(),
                sums.len()
            ),
        }
    }
}
