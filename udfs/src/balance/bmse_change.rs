use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};
use datafusion_common::{Result, exec_err};
use datafusion_expr::Expr;
use statrs::distribution::{ContinuousCDF, Normal};

use super::{balance_weights, squared_norm};
use crate::args::{self, Call, Role, Rows, Spec};
use crate::results::{counts, numbers, struct_fields, structs};
use crate::state::packed::FULL_WIDTH;
use crate::state::{Comoment, Comoments, State, Weighted};
use crate::udaf::{Function, Udaf};
use crate::weights;

aggregate! {
    /// What a change of propensities did to the balance of the same rows.
    ///
    /// Gives a struct of `n`, `before` and `after` (the bmse under each of the two), `change` (the difference of their
    /// `bmse_unbiased`: below 0 is better), `std_error` of it, which knows that the two share their rows, and
    /// `p_value`, of a change as far from 0 where the two balance alike. phi has at most 32 elements. NULL if no row
    /// counts.
    ///
    /// # Details
    /// The error is that of the difference, by the delta method, from the joint covariance of the two `w·φ`. Where both
    /// propensities balance the rows well, it is too large rather than too small; where few rows carry much of the
    /// weight, few rows estimate it badly. `change`, `std_error` and `p_value` are NULL for a single row.
    bmse_change(treated: Expr, propensity_before: Expr, propensity: Expr, phi: Vec<Expr>),
    bmse_change_udaf: Udaf<BmseChange>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BmseChange;

impl Function for BmseChange {
    const SPEC: &'static Spec =
        &Spec::new("bmse_change", &[Role::Treated, Role::PropensityBefore, Role::Propensity]).with_phi();

    const EXAMPLE: &'static str = "> SELECT c['before'] AS before, c['after'] AS after, round(c['change'], 6) AS change
  FROM (SELECT bmse_change(clicked, p, q) AS c
        FROM (VALUES (1, 0.2, 0.5), (1, 0.2, 0.5), (0, 0.2, 0.5), (0, 0.2, 0.5)) AS log (clicked, p, q));
+----------+-------+----------+
| before   | after | change   |
+----------+-------+----------+
| 3.515625 | 0.0   | -1.59375 |
+----------+-------+----------+";

    const RELATED: &'static [&'static str] = &["bmse", "bmse_unbiased", "balance_drift"];

    type State = Comoments;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        let before = args::map2(rows.treated(), rows.propensity_before(), weights::balance);
        Weighted { leads: Vec::new(), weights: vec![before, balance_weights(rows)] }
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Struct(change_fields())
    }

    fn values(state: &Comoments, _call: &Call) -> Result<ArrayRef> {
        if let Some(width) = state.width().filter(|width| *width > FULL_WIDTH) {
            return exec_err!(
                "{}: phi has {} elements, and this function keeps the covariances of twice as many: give at most {}",
                Self::SPEC.name,
                width / 2,
                FULL_WIDTH / 2
            );
        }
        let changes: Vec<_> = (0..state.groups()).map(|group| state.get(group).map(Change::new)).collect();
        let number = |f: fn(&Change) -> Option<f64>| numbers(changes.iter().map(|change| f(change.as_ref()?)));
        let columns = vec![
            counts(changes.iter().map(|change| Some(change.as_ref()?.n))),
            number(|change| Some(change.before)),
            number(|change| Some(change.after)),
            number(|change| change.change),
            number(|change| change.std_error),
            number(Change::p_value),
        ];
        Ok(structs(change_fields(), columns, changes.iter().map(Option::is_some).collect()))
    }
}

fn change_fields() -> Fields {
    struct_fields([
        ("n", DataType::UInt64),
        ("before", DataType::Float64),
        ("after", DataType::Float64),
        ("change", DataType::Float64),
        ("std_error", DataType::Float64),
        ("p_value", DataType::Float64),
    ])
}

struct Change {
    n: u64,
    before: f64,
    after: f64,
    change: Option<f64>,
    std_error: Option<f64>,
}

impl Change {
    fn new(group: Comoment<'_>) -> Self {
        let k = group.mean.len() / 2;
        let (before, after) = group.mean.split_at(k);
        let n = group.count as f64;
        // Of the means, over samples.
        let covariance = |i: usize, j: usize| group.product(i, j) / (n - 1.0) / n;
        let trace = |elements: std::ops::Range<usize>| elements.map(|i| covariance(i, i)).sum::<f64>();
        let slope = |i: usize| if i < k { -2.0 * before[i] } else { 2.0 * after[i - k] };
        let variance =
            || (0..2 * k).map(|i| (0..2 * k).map(|j| slope(i) * slope(j) * covariance(i, j)).sum::<f64>()).sum::<f64>();
        let known = group.count > 1;
        let change = squared_norm(after) - squared_norm(before);
        Self {
            n: group.count,
            before: squared_norm(before),
            after: squared_norm(after),
            change: known.then(|| change - trace(k..2 * k) + trace(0..k)),
            std_error: known.then(|| variance().max(0.0).sqrt()),
        }
    }

    fn p_value(&self) -> Option<f64> {
        let error = self.std_error.filter(|error| *error > 0.0)?;
        Some(2.0 * Normal::standard().sf((self.change? / error).abs()))
    }
}
