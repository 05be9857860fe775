use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};
use datafusion_common::utils::take_function_args;
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{ColumnarValue, Documentation, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::balance_test::{wald_columns, wald_fields};
use super::stored::{States, coerce_state};
use super::wald::Wald;
use crate::docs;
use crate::results::{counts, list_type, lists, struct_fields, structs};
use crate::state::Imbalance;

scalar! {
    /// Tests whether the mean of `w * phi` differs between two sets of rows that share none, such as this week's and
    /// last week's, each given by its stored state.
    ///
    /// Gives a struct of `n_before`, `n_after`, `change` (of each element of phi, after less before), and of that
    /// change `statistic`, `dof`, `scale`, `p_value`, `worst_component`, `worst_z`, `std_errors`, `p_values` and
    /// `untested` as in `balance_test`. NULL where a state is NULL.
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
        let wald = Wald::new(&after.moments_of_mean().less(before.moments_of_mean()));
        Ok(Self { n: [before.count, after.count], change, wald })
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
