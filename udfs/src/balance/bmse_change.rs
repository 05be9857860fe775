use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};
use datafusion_common::{Result, exec_err};
use datafusion_expr::Expr;

use super::{balance_weights, squared_norm};
use crate::args::{self, Call, Role, Rows, Spec};
use crate::inference::{Spread, student_tail};
use crate::results::{counts, numbers, struct_fields, structs};
use crate::state::packed::FULL_WIDTH;
use crate::state::{ClusterSums, Clustered, Comoment, Comoments, State, Weighted};
use crate::udaf::{Function, Udaf};
use crate::weights;

aggregate! {
    /// What a change of propensities did to the balance of the same rows.
    ///
    /// Gives a struct of `n`, `before` and `after` (the bmse under each of the two), `change` (the difference of their
    /// `bmse_unbiased`: below 0 is better), `std_error` of it, which knows that the two share their rows, and
    /// `p_value`, of a change as far from 0 where the two balance alike. With `treatment(treated, cluster)` for `treated`, the
    /// chance that is taken off and the error are those of rows that belong together. phi has at most 32 elements. NULL if
    /// no row counts.
    ///
    /// # Details
    /// The error is that of the difference, by the delta method, from the joint covariance of the two `w·φ`. Where both
    /// propensities balance the rows well, it is too large rather than too small; where few rows carry much of the
    /// weight, few rows estimate it badly. Of clusters it is the delete-one-group
    /// jackknife's, but not less than that of independent rows. `change`, `std_error` and `p_value` are NULL for a single row
    /// or a single cluster.
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

    type State = Clustered<Comoments>;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Weighted {
        let before = args::map2(rows.treated(), rows.propensity_before(), weights::balance);
        Weighted { leads: Vec::new(), weights: vec![before, balance_weights(rows)] }
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Struct(change_fields())
    }

    fn values(state: &Clustered<Comoments>, _call: &Call) -> Result<ArrayRef> {
        if let Some(width) = state.rows.width().filter(|width| *width > FULL_WIDTH) {
            return exec_err!(
                "{}: phi has {} elements, and this function keeps the covariances of twice as many: give at most {}",
                Self::SPEC.name,
                width / 2,
                FULL_WIDTH / 2
            );
        }
        let changes: Vec<_> = (0..state.groups())
            .map(|group| state.rows.get(group).map(|rows| Change::new(rows, state.sums(group))))
            .collect();
        let number = |f: fn(&Change) -> Option<f64>| numbers(changes.iter().map(|change| f(change.as_ref()?)));
        let columns = vec![
            counts(changes.iter().map(|change| Some(change.as_ref()?.n))),
            number(|change| Some(change.before)),
            number(|change| Some(change.after)),
            number(|change| change.change),
            number(|change| Some(change.spread?.error())),
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
    spread: Option<Spread>,
}

impl Change {
    fn new(group: Comoment<'_>, clusters: Option<ClusterSums<'_>>) -> Self {
        let k = group.mean.len() / 2;
        let (before, after) = group.mean.split_at(k);
        let n = group.count as f64;
        let slope = |i: usize| if i < k { -2.0 * before[i] } else { 2.0 * after[i - k] };
        // Of the means of independent rows, over samples.
        let covariance = |i: usize, j: usize| group.product(i, j) / (n - 1.0) / n;
        let along = |i: usize| (0..2 * k).map(|j| slope(i) * slope(j) * covariance(i, j)).sum::<f64>();
        let independent = (group.count > 1).then(|| (0..2 * k).map(along).sum::<f64>().max(0.0));
        let variance = |i: usize| match clusters {
            None => independent.map(|_| covariance(i, i)),
            Some(clusters) => Some(clusters.spread(|sums| sums[1 + i] / sums[0])?.variance),
        };
        let spread = match clusters {
            None => independent.map(|variance| Spread { variance, degrees: f64::INFINITY }),
            Some(clusters) => independent.and_then(|independent| {
                let value = |sums: &[f64]| (0..2 * k).map(|i| slope(i) * sums[1 + i]).sum::<f64>() / sums[0];
                Some(clusters.spread(value)?.at_least(independent))
            }),
        };
        let traces = (0..2 * k).map(|i| Some(if i < k { variance(i)? } else { -variance(i)? })).sum::<Option<f64>>();
        Self {
            n: group.count,
            before: squared_norm(before),
            after: squared_norm(after),
            change: traces.map(|traces| squared_norm(after) - squared_norm(before) + traces),
            spread,
        }
    }

    fn p_value(&self) -> Option<f64> {
        let spread = self.spread.filter(|spread| spread.variance > 0.0)?;
        Some(2.0 * student_tail((self.change? / spread.error()).abs(), spread.degrees))
    }
}
