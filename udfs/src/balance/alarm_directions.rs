use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::Expr;

use crate::args::{Call, Divides, Role, Rows, Spec, directions_fields};
use crate::results::{counts, lists, structs};
use crate::state::{Comoment, Comoments, State, Weighted};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// The directions along which `alarm_state` looks for a change, frozen from the rows of a reference period: a struct of
    /// `count`, and of the lists `mean` and `sd`, the mean and the standard deviation of each element of phi.
    ///
    /// Made once, of the days that the alarm takes for its reference, and stored: states of other directions are not
    /// compared. An element that does not vary has an `sd` of 0 and is not watched. NULL if no row counts.
    ///
    /// # Details
    /// `sd` is that of all rows, with n. Of an element that varies by rounding only, a part in 1e9 of its mean, it is 0.
    alarm_directions(treated: Expr, propensity: Expr, phi: Vec<Expr>), alarm_directions_udaf: Udaf<AlarmDirections>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AlarmDirections;

impl Function for AlarmDirections {
    const SPEC: &'static Spec =
        &Spec::new("alarm_directions", &[Role::Treated, Role::Propensity]).with_phi().divides(Divides::Neither);

    const EXAMPLE: &'static str = "> SELECT d['mean'] AS mean, d['sd'] AS sd
  FROM (SELECT alarm_directions(clicked, p, age, 1) AS d
        FROM (VALUES (1, 0.5, 30.0), (1, 0.8, 20.0), (0, 0.5, 40.0), (0, 0.2, 10.0)) AS log (clicked, p, age));
+-------------+---------------------------+
| mean        | sd                        |
+-------------+---------------------------+
| [25.0, 1.0] | [11.180339887498949, 0.0] |
+-------------+---------------------------+";

    const RELATED: &'static [&'static str] = &["alarm_state", "balance_alarm"];

    type State = Comoments;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        Weighted::phi(vec![1.0; rows.len()])
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Struct(directions_fields())
    }

    fn values(state: &Comoments, _call: &Call) -> Result<ArrayRef> {
        let groups = || (0..state.groups()).map(|group| state.get(group));
        let columns = vec![
            counts(groups().map(|group| Some(group?.count))),
            lists(groups().map(|group| Some(group?.mean.iter().copied()))),
            lists(groups().map(|group| Some(deviations(group?)))),
        ];
        Ok(structs(directions_fields(), columns, groups().map(|group| group.is_some()).collect()))
    }
}

fn deviations(group: Comoment<'_>) -> Vec<f64> {
    const ROUNDING: f64 = 1e-9;
    let deviation = |(k, mean): (usize, &f64)| {
        let sd = (group.square(k) / group.count as f64).sqrt();
        if sd > ROUNDING * mean.abs() { sd } else { 0.0 }
    };
    group.mean.iter().enumerate().map(deviation).collect()
}
