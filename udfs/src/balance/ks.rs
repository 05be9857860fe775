use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::covariates::arm_weight;
use crate::args::{Call, Divides, Role, Rows, Spec};
use crate::results::{numbers, struct_fields, structs};
use crate::state::{Sample, Samples, State, ties};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Kolmogorov-Smirnov distance of a covariate between treated and untreated rows: a struct of `raw` and `weighted`
    /// (by `1/p` and `1/(1-p)`), each the greatest distance of the two distribution functions.
    ///
    /// From 0, for alike, to 1, for nothing in common. Exact: it keeps 16 bytes a row in memory. NULL if no row counts;
    /// entries are NULL unless treated and untreated rows count.
    ///
    /// # Details
    /// Unlike [`smd`](crate::expr_fn::smd), it sees every difference, not only that of the means.
    ///
    /// Source: Smirnov, 1939; Austin and Stuart, *Statistics in Medicine*, 2015.
    ks(treated: Expr, propensity: Expr, covariate: Expr), ks_udaf: Udaf<Ks>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ks;

impl Function for Ks {
    const SPEC: &'static Spec =
        &Spec::new("ks", &[Role::Treated, Role::Propensity, Role::Covariate]).divides(Divides::Both);

    const EXAMPLE: &'static str = "> SELECT k['raw'] AS raw, k['weighted'] AS weighted
  FROM (SELECT ks(clicked, p, age) AS k
        FROM (VALUES (1, 0.5, 30.0), (1, 0.25, 20.0), (0, 0.75, 40.0), (0, 0.5, 10.0)) AS log (clicked, p, age));
+-----+--------------------+
| raw | weighted           |
+-----+--------------------+
| 0.5 | 0.6666666666666667 |
+-----+--------------------+";

    const RELATED: &'static [&'static str] = &["smd", "variance_ratio"];

    type State = Samples;

    fn terms(rows: &Rows<'_>, _call: &Call) -> Vec<Sample> {
        let arms = rows.treated().iter().zip(rows.propensity());
        arms.zip(rows.covariate()).map(|((&o, &p), &x)| Sample::new(x, o, arm_weight(o, p))).collect()
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Struct(distance_fields())
    }

    fn values(state: &Samples, _call: &Call) -> Result<ArrayRef> {
        let distances: Vec<_> = (0..state.groups())
            .map(|group| {
                let sorted = state.sorted(group);
                (!sorted.is_empty()).then(|| [distance(&sorted, |_| 1.0), distance(&sorted, Sample::weight)])
            })
            .collect();
        let column = |k: usize| numbers(distances.iter().map(|of| of.and_then(|of| of[k])));
        Ok(structs(distance_fields(), vec![column(0), column(1)], distances.iter().map(Option::is_some).collect()))
    }
}

fn distance_fields() -> Fields {
    struct_fields([("raw", DataType::Float64), ("weighted", DataType::Float64)])
}

/// The greatest distance of the distribution functions of the treated and the untreated samples.
fn distance(sorted: &[Sample], weight: impl Fn(&Sample) -> f64) -> Option<f64> {
    let add = |[untreated, treated]: [f64; 2], sample: &Sample| match sample.is_treated() {
        true => [untreated, treated + weight(sample)],
        false => [untreated + weight(sample), treated],
    };
    let total = sorted.iter().fold([0.0, 0.0], add);
    if total.contains(&0.0) {
        return None;
    }
    let mut below = [0.0, 0.0];
    let distances = ties(sorted).map(|tie| {
        below = tie.iter().fold(below, add);
        (below[0] / total[0] - below[1] / total[1]).abs()
    });
    Some(distances.fold(0.0, f64::max))
}
