//! Covariates of treated rows beside those of untreated rows.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};

use crate::args::{self, Call, Rows};
use crate::results::{list_type, lists, numbers, struct_fields, structs};
use crate::state::{Arms, Covariates, State, Weighted};

/// The covariates themselves, and the weight `1/p` or `1/(1−p)` of each row.
pub(super) fn covariates(rows: &Rows<'_>) -> Covariates {
    let ones = vec![1.0; rows.len()];
    Covariates { values: Weighted::phi(ones), weights: args::map2(rows.treated(), rows.propensity(), arm_weight) }
}

/// `1/p` of a treated, `1/(1−p)` of an untreated row.
pub(super) fn arm_weight(o: f64, p: f64) -> f64 {
    1.0 / if o == 1.0 { p } else { 1.0 - p }
}

/// A struct of `raw` and `weighted`: of numbers where the arguments after `treated` and `propensity` are one number, else
/// of lists.
pub(super) fn comparison_type(arguments: &[DataType]) -> DataType {
    DataType::Struct(comparison_fields(match &arguments[2..] {
        [one] if !one.is_nested() => DataType::Float64,
        _ => list_type(),
    }))
}

fn comparison_fields(of: DataType) -> Fields {
    struct_fields([("raw", of.clone()), ("weighted", of)])
}

/// The struct of each group, from the value of a group's covariate, weighted or not.
pub(super) fn compare(state: &Arms, call: &Call, value: impl Fn(usize, usize, bool) -> Option<f64>) -> ArrayRef {
    let has_rows = |group: usize| {
        [false, true].into_iter().any(|treated| state.width() > 0 && state.get(group, treated, false, 0).is_some())
    };
    let is_valid: Vec<bool> = (0..state.groups()).map(has_rows).collect();
    let groups = || is_valid.iter().copied().enumerate();
    let of_lists = comparison_fields(list_type());
    let is_list = call.return_type == DataType::Struct(of_lists.clone());
    let column = |weighted: bool| match is_list {
        true => lists(groups().map(|(group, valid)| {
            let value = &value;
            valid.then(|| (0..state.width()).map(move |k| value(group, k, weighted)))
        })),
        false => numbers(groups().map(|(group, valid)| valid.then(|| value(group, 0, weighted)).flatten())),
    };
    let fields = if is_list { of_lists } else { comparison_fields(DataType::Float64) };
    structs(fields, vec![column(false), column(true)], is_valid.clone())
}
