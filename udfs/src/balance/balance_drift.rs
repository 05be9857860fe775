use std::collections::BTreeMap;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};
use datafusion_common::utils::take_function_args;
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{ColumnarValue, Documentation, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::balance_test::{wald_columns, wald_fields};
use super::stored::{States, coerce_state};
use super::wald::Wald;
use crate::docs;
use crate::inference::Spread;
use crate::results::{counts, list_type, lists, struct_fields, structs};
use crate::state::{ClusterSums, Imbalance};

scalar! {
    /// Tests whether the mean of `w * phi` differs between two sets of rows that share none, such as this week's and
    /// last week's, each given by its stored state.
    ///
    /// Gives a struct of `n_before`, `n_after`, `change` (of each element of phi, after less before), and of that
    /// change `statistic`, `dof`, `scale`, `p_value`, `worst_component`, `worst_z`, `std_errors`, `p_values` and
    /// `untested` as in `balance_test`. Of states that were made with the same `treatment(treated, cluster)`, the errors are
    /// those of rows that belong together, also across the two sets. NULL where a state is NULL.
    ///
    /// # Details
    /// The standard errors are those that right propensities imply. The test nearly holds even for propensities that
    /// are somewhat wrong, as long as they are equally wrong in both sets.
    balance_drift(before: Expr, after: Expr), balance_drift_udf: BalanceDrift
}

const NAME: &str = "balance_drift";

const EXAMPLE: &str = "> SELECT d['change'] AS change, round(d['p_value'], 4) AS p_value
  FROM (SELECT balance_drift(balance_state(clicked, p) FILTER (WHERE day = 1),
                             balance_state(clicked, p) FILTER (WHERE day = 2)) AS d
        FROM (VALUES (1, 1, 0.5), (1, 0, 0.5), (2, 1, 0.2), (2, 1, 0.8)) AS log (day, clicked, p));
+---------+---------+
| change  | p_value |
+---------+---------+
| [3.125] | 0.1675  |
+---------+---------+";

#[derive(Debug, PartialEq, Eq, Hash)]
struct BalanceDrift {
    signature: Signature,
    documentation: Documentation,
}

impl BalanceDrift {
    fn new() -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self {
            signature: signature.with_parameter_names(vec!["before", "after"]).expect("two names"),
            documentation: docs::documentation::<Self>(
                "balance_drift(before, after)",
                &[("before", docs::STATE), ("after", "Another, of the same phi.")],
                EXAMPLE,
                &["balance_state", "balance_test"],
            ),
        }
    }
}

fn drift_fields() -> Fields {
    let fields = [("n_before", DataType::UInt64), ("n_after", DataType::UInt64), ("change", list_type())];
    struct_fields(fields.into_iter().chain(wald_fields()))
}

struct Drift {
    n: [u64; 2],
    change: Vec<f64>,
    wald: Option<Wald>,
}

impl Drift {
    fn new(before: Imbalance<'_>, after: Imbalance<'_>) -> Result<Self> {
        let (k, other) = (before.mean.len(), after.mean.len());
        if k != other {
            return exec_err!(
                "{NAME}: argument 1 (before) has {k} elements of phi and argument 2 (after) {other}: \
                 give states of the same phi"
            );
        }
        let change = after.mean.iter().zip(before.mean).map(|(after, before)| after - before).collect();
        let moments = after.moments_of_mean().less(before.moments_of_mean());
        let wald = match (before.clusters, after.clusters) {
            (None, None) => Wald::new(&moments),
            (Some(before), Some(after)) if before.groups == after.groups => {
                let both = ClusterChange::new(before, after);
                Wald::clustered(&moments, |k| both.spread(k))
            }
            (before, after) => {
                let groups = |of: Option<ClusterSums<'_>>| {
                    of.map_or("no clusters".into(), |of| format!("clusters in {} groups", of.groups))
                };
                return exec_err!(
                    "{NAME}: argument 1 (before) has {} and argument 2 (after) {}: make both states with the same \
                     treatment(treated, cluster)",
                    groups(before),
                    groups(after)
                );
            }
        };
        Ok(Self { n: [before.count, after.count], change, wald })
    }
}

/// The sums of two sets of rows by groups of clusters, which the two may share: number and `w·φ` of those before, then of
/// those after.
struct ClusterChange {
    groups: u16,
    keys: Vec<u16>,
    sums: Vec<f64>,
    width: usize,
}

impl ClusterChange {
    fn new(before: ClusterSums<'_>, after: ClusterSums<'_>) -> Self {
        let width = before.width();
        let mut cells: BTreeMap<u16, Vec<f64>> = BTreeMap::new();
        for (at, of) in [(0, before), (width, after)] {
            for (key, sums) in of.keys.iter().zip(of.sums.chunks_exact(width)) {
                let cell = cells.entry(*key).or_insert_with(|| vec![0.0; 2 * width]);
                cell[at..][..width].copy_from_slice(sums);
            }
        }
        let (keys, sums): (Vec<u16>, Vec<Vec<f64>>) = cells.into_iter().unzip();
        Self { groups: before.groups, keys, sums: sums.concat(), width }
    }

    /// The spread of the change of element `k`.
    fn spread(&self, k: usize) -> Option<Spread> {
        let sums = ClusterSums { groups: self.groups, keys: &self.keys, sums: &self.sums };
        sums.spread(|sums| {
            let (before, after) = sums.split_at(self.width);
            after[1 + k] / after[0] - before[1 + k] / before[0]
        })
    }
}

impl ScalarUDFImpl for BalanceDrift {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [before, after] => {
                Ok(vec![coerce_state(NAME, 1, "before", before)?, coerce_state(NAME, 2, "after", after)?])
            }
            _ => plan_err!("{NAME} takes 2 arguments, not {}; usage: {NAME}(before, after)", arg_types.len()),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(drift_fields()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [before, after] = take_function_args(NAME, ColumnarValue::values_to_arrays(&args.args)?)?;
        let (before, after) = (States::read(NAME, 1, "before", &before), States::read(NAME, 2, "after", &after));
        let drift =
            |row| before.get(row)?.zip(after.get(row)?).map(|(before, after)| Drift::new(before, after)).transpose();
        let drifts = (0..before.len()).map(drift).collect::<Result<Vec<_>>>()?;
        let count = |at: usize| counts(drifts.iter().map(|drift| Some(drift.as_ref()?.n[at])));
        let mut columns: Vec<ArrayRef> =
            vec![count(0), count(1), lists(drifts.iter().map(|drift| Some(drift.as_ref()?.change.iter().copied())))];
        columns.extend(wald_columns(drifts.iter().map(|drift| drift.as_ref()?.wald.as_ref())));
        Ok(ColumnarValue::Array(structs(drift_fields(), columns, drifts.iter().map(Option::is_some).collect())))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
