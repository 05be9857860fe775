//! The Wald test of balance.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Fields};
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::wald::Wald;
use super::{imbalance_terms, noise_floor, squared_norm, unbiased};
use crate::args::{Call, Role, Rows, Spec};
use crate::results::{counts, list_type, lists, numbers, struct_fields, structs};
use crate::state::{Clustered, Imbalance, ImbalanceTerms, Imbalances, State};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// Tests whether the mean of `w * phi` is further from 0 than chance takes it (a Wald test), so that sampling noise
    /// and real imbalance can be told apart.
    ///
    /// Gives a struct of `n`, `bmse`, `unbiased`, `noise_floor`, `expected_bmse` (what right propensities leave on
    /// average), `statistic`, `dof`, `scale`, `p_value`, `worst_component` (the element of phi, from 1, that is
    /// furthest off), `worst_z` (how many standard errors it is off), of each element of phi `std_errors` and
    /// `p_values`, and `untested` (how many elements add nothing to the statistic: they are 0 in every row, or the others
    /// determine them). The covariance is the one that right propensities imply; the law of the statistic is a chi-squared
    /// one, stretched by `scale` where few heavy rows decide. Beyond 64 elements of phi their covariances are not kept:
    /// the statistic is the sum of squared z, and the p-value is Bonferroni's for the worst element. So it is with
    /// `treatment(treated, cluster)` for `treated`, where z and p-values are those of rows that belong together. NULL if no
    /// row counts.
    ///
    /// # Details
    /// - `bmse`, `unbiased`, `noise_floor`: as [`bmse`](crate::expr_fn::bmse),
    ///   [`bmse_unbiased`](crate::expr_fn::bmse_unbiased) and [`bmse_noise_floor`](crate::expr_fn::bmse_noise_floor)
    ///   give them; the latter two are NULL for a single row.
    /// - `expected_bmse`: `Σ std_errors²`.
    /// - `statistic`, `dof`: `z̄ᵀV⁺z̄` for the mean `z̄` of `w·φ`, with `V = Σ φφᵀ/(p(1−p)) / n²`; and the rank of V.
    ///   Where φ holds a constant, such as 1, neither depends on the unit or the origin of its other elements.
    /// - `scale`, `p_value`: the probability, if the propensities are right, of a statistic at least as large, under a
    ///   χ² law stretched by `scale` to have the statistic's variance. `scale` is 1 where no row weighs much.
    /// - `p_values`: NULL for an element of φ that is 0 in every row. Where all elements are, so is everything that
    ///   needs a variance.
    ///
    /// Of clusters, `std_errors` are the delete-one-group jackknife's, but not less than what right propensities imply; the
    /// p-value of an element is the larger of that of independent rows and Student's, with `(ΣD²)²/ΣD⁴ − 1` degrees of the
    /// groups' deviations D; `scale` is 1. With a single group of clusters, all that needs a variance is NULL.
    ///
    /// The measured covariance would not do: it misses the rows that are rarely treated and carry a large weight when
    /// they are, precisely where it matters. A row whose propensity is 0 or 1 contributes its `w²`. A row with a
    /// propensity of 1e-9 has a variance of 1e9 and can hide all others: see
    /// [`clip_propensity`](crate::expr_fn::clip_propensity). Bonferroni's p-value holds however the elements of φ are
    /// correlated.
    ///
    /// Source: Wald, *Tests of statistical hypotheses concerning several parameters*, 1943; Box, *Some theorems on
    /// quadratic forms*, 1954.
    balance_test(treated: Expr, propensity: Expr, phi: Vec<Expr>), balance_test_udaf: Udaf<BalanceTest>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BalanceTest;

impl Function for BalanceTest {
    const SPEC: &'static Spec = &Spec::new("balance_test", &[Role::Treated, Role::Propensity]).with_phi();

    const EXAMPLE: &'static str =
        "> SELECT t['n'] AS n, t['dof'] AS dof, round(t['p_value'], 4) AS p_value, t['worst_component'] AS worst
  FROM (SELECT balance_test(clicked, p, mobile, age) AS t
        FROM (VALUES (1, 0.5, 1.0, 30.0), (1, 0.8, 0.0, 20.0), (0, 0.5, 1.0, 40.0), (0, 0.2, 0.0, 10.0))
          AS log (clicked, p, mobile, age));
+---+-----+---------+-------+
| n | dof | p_value | worst |
+---+-----+---------+-------+
| 4 | 2   | 0.9916  | 2     |
+---+-----+---------+-------+";

    const RELATED: &'static [&'static str] = &["bmse", "balance_vector", "balance_state"];

    type State = Clustered<Imbalances>;

    fn terms(rows: &Rows<'_>, _call: &Call) -> ImbalanceTerms {
        imbalance_terms(rows)
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Struct(test_fields())
    }

    fn values(state: &Clustered<Imbalances>, _call: &Call) -> Result<ArrayRef> {
        Ok(tests((0..state.groups()).map(|group| state.get(group))))
    }
}

pub(super) fn test_fields() -> Fields {
    let fields = [
        ("n", DataType::UInt64),
        ("bmse", DataType::Float64),
        ("unbiased", DataType::Float64),
        ("noise_floor", DataType::Float64),
        ("expected_bmse", DataType::Float64),
    ];
    struct_fields(fields.into_iter().chain(wald_fields()))
}

/// The fields of [`wald_columns`].
pub(super) fn wald_fields() -> [(&'static str, DataType); 9] {
    [
        ("statistic", DataType::Float64),
        ("dof", DataType::UInt64),
        ("scale", DataType::Float64),
        ("p_value", DataType::Float64),
        ("worst_component", DataType::UInt64),
        ("worst_z", DataType::Float64),
        ("std_errors", list_type()),
        ("p_values", list_type()),
        ("untested", DataType::UInt64),
    ]
}

/// The test of each group, of [`test_fields`].
pub(super) fn tests<'a>(groups: impl Iterator<Item = Option<Imbalance<'a>>>) -> ArrayRef {
    let tests: Vec<_> = groups.map(|group| group.map(Test::new)).collect();
    let number = |f: fn(&Test) -> Option<f64>| numbers(tests.iter().map(|test| test.as_ref().and_then(f)));
    let mut columns = vec![
        counts(tests.iter().map(|test| test.as_ref().map(|test| test.n))),
        number(|test| Some(test.bmse)),
        number(|test| test.unbiased),
        number(|test| test.noise_floor),
        number(|test| Some(test.wald.as_ref()?.errors.iter().map(|error| error * error).sum())),
    ];
    columns.extend(wald_columns(tests.iter().map(|test| test.as_ref()?.wald.as_ref())));
    structs(test_fields(), columns, tests.iter().map(Option::is_some).collect())
}

/// `statistic` and what follows it.
pub(super) fn wald_columns<'a>(tests: impl Iterator<Item = Option<&'a Wald>> + Clone) -> [ArrayRef; 9] {
    let number = |f: fn(&Wald) -> f64| numbers(tests.clone().map(|test| test.map(f)));
    [
        number(|test| test.statistic),
        counts(tests.clone().map(|test| Some(test?.dof))),
        number(|test| test.scale),
        number(|test| test.p_value),
        counts(tests.clone().map(|test| Some(test?.worst.0))),
        number(|test| test.worst.1),
        lists(tests.clone().map(|test| Some(test?.errors.iter().copied()))),
        lists(tests.clone().map(|test| Some(test?.p_values.iter().copied()))),
        counts(tests.clone().map(|test| Some(test?.untested))),
    ]
}

struct Test {
    n: u64,
    bmse: f64,
    unbiased: Option<f64>,
    noise_floor: Option<f64>,
    wald: Option<Wald>,
}

impl Test {
    fn new(group: Imbalance<'_>) -> Self {
        let Imbalance { count, mean, spread, .. } = group;
        Self {
            n: count,
            bmse: squared_norm(mean),
            unbiased: unbiased(count, mean, spread),
            noise_floor: noise_floor(count, spread),
            wald: match group.clusters {
                None => Wald::new(&group.moments_of_mean()),
                Some(clusters) => {
                    Wald::clustered(&group.moments_of_mean(), |k| clusters.spread(|sums| sums[1 + k] / sums[0]))
                }
            },
        }
    }
}
