use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, UInt16Array, UInt16Builder};
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::Expr;

use crate::args::{Call, Divides, Role, Rows, Spec, day_state_fields};
use crate::results::{counts, lists, structs};
use crate::state::{Clustered, Days, State, Weighted};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// What `balance_alarm` needs to know of the rows of a day, as one value that a table can hold: a struct of `count`,
    /// `mean`, `sd`, `sums`, `groups`, `keys` and `clusters`.
    ///
    /// Store one for each day, of the reference period too, whose directions all have. It depends on no tolerance, and not
    /// on the propensities of other days. With `treatment(treated, user)` for `treated`, the alarm knows that rows of a user
    /// belong together, within a day and across days. NULL if no row counts.
    ///
    /// # Details
    /// - `mean`, `sd`: the directions. Along each, `d = 1` for the constant and `d = z/2` within ±1 for an element of φ, with
    ///   `z = (φ − mean)/sd`; 0 where `sd` is.
    /// - `sums`: of the constant and of each element, end to end: `Σ ln(1 − p + p·eˢᵈ)` for the 24 zeros s of a Chebyshev
    ///   polynomial over ±4, from the largest; `Σ d·o`; `Σ d(o − p)`; `Σ d²p(1 − p)`; `Σ (1 − p)·d·z`.
    /// - `groups`, `keys`, `clusters`: as in [`balance_state`](crate::expr_fn::balance_state); of each group of clusters the
    ///   number of rows, and of each direction `Σ d(o − p)` and `Σ d²p(1 − p)`. NULL of independent rows.
    alarm_state(treated: Expr, propensity: Expr, directions: Expr, phi: Vec<Expr>), alarm_state_udaf: Udaf<AlarmState>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AlarmState;

impl Function for AlarmState {
    const SPEC: &'static Spec = &Spec::new("alarm_state", &[Role::Treated, Role::Propensity, Role::Directions])
        .with_phi()
        .divides(Divides::Neither);

    const EXAMPLE: &'static str = "> SELECT day, alarm_state(clicked, p, directions, age)['count'] AS count
  FROM (VALUES (1, 1, 0.5, 30.0), (1, 0, 0.5, 40.0), (2, 1, 0.8, 20.0)) AS log (day, clicked, p, age)
  CROSS JOIN (SELECT alarm_directions(clicked, p, age) AS directions
              FROM (VALUES (1, 0.5, 30.0), (0, 0.2, 10.0)) AS reference (clicked, p, age))
  GROUP BY day ORDER BY day;
+-----+-------+
| day | count |
+-----+-------+
| 1   | 2     |
| 2   | 1     |
+-----+-------+";

    const RELATED: &'static [&'static str] = &["alarm_directions", "balance_alarm", "treatment"];

    type State = Clustered<Days>;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        Weighted::phi(vec![1.0; rows.len()])
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Struct(day_state_fields())
    }

    fn values(state: &Clustered<Days>, _call: &Call) -> Result<ArrayRef> {
        let groups = || (0..state.groups()).map(|group| state.rows.get(group));
        let clusters = || (0..state.groups()).map(|group| state.rows.get(group).and_then(|_| state.sums(group)));
        let list = |at: usize| lists(groups().map(|day| Some(day?.directions[at].iter().copied())));
        let mut keys = ListBuilder::new(UInt16Builder::new());
        clusters().for_each(|sums| keys.append_option(sums.map(|sums| sums.keys.iter().map(|key| Some(*key)))));
        let columns: Vec<ArrayRef> = vec![
            counts(groups().map(|day| Some(day?.count))),
            list(0),
            list(1),
            lists(groups().map(|day| Some(day?.sums.iter().copied()))),
            Arc::new(clusters().map(|sums| Some(sums?.groups)).collect::<UInt16Array>()),
            Arc::new(keys.finish()),
            lists(clusters().map(|sums| Some(sums?.sums.iter().copied()))),
        ];
        Ok(structs(day_state_fields(), columns, groups().map(|day| day.is_some()).collect()))
    }
}
