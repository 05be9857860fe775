use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::imbalance_terms;
use super::stored::{state_type, stored};
use crate::args::{Call, Role, Rows, Spec};
use crate::state::{Clustered, ImbalanceTerms, Imbalances};
use crate::udaf::{Function, Udaf};

aggregate! {
    /// What the balance functions need to know of the rows, as one value that a table can hold: a struct of `count`,
    /// `mean`, `spread`, `origin`, `sums`, `groups`, `keys` and `clusters`.
    ///
    /// Store one for each day and segment; `balance_merge` puts any of them together, and `bmse_of`,
    /// `balance_vector_of` and `balance_test_of` then give what a scan of all the rows would; `balance_drift` compares
    /// two. NULL if no row counts.
    ///
    /// # Details
    /// - `mean`, `spread`: the mean of `w·φ`, and the sum of the squared distances to it.
    /// - `origin`: φ of one of the rows. What follows is of `y = φ − origin`, and so loses no digits where φ lies far
    ///   from 0 beside how much it varies.
    /// - `sums`: with `m = 1/(p(1−p))`, which is the mean of `w²` if the propensities are right, and `f = m²(m − 6)`, the
    ///   fourth cumulant of `w` then: `Σm`, `Σw`, `Σf`; the vectors `Σmy`, `Σwy`, `Σfy`; the matrices `Σm·yₖyₗ`,
    ///   `Σf·yₖyₗ`, `Σf·yₖ²yₗ` and `Σf·yₖ²yₗ²`. The third is whole, row by row, and the others their lower triangles;
    ///   beyond 64 elements of φ, all are their diagonals.
    /// - `groups`, `keys`, `clusters`: with [`treatment`](crate::expr_fn::treatment), into how many groups the clusters were
    ///   put, those that have a row (plus 256 for the second way, plus 512 for both), and of each the number of rows and
    ///   `Σw·φ`, end to end. NULL of independent rows.
    ///
    /// Source: Chan, Golub and LeVeque, *Updating formulae and a pairwise algorithm for computing sample variances*,
    /// 1979.
    balance_state(treated: Expr, propensity: Expr, phi: Vec<Expr>), balance_state_udaf: Udaf<BalanceState>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BalanceState;

impl Function for BalanceState {
    const SPEC: &'static Spec = &Spec::new("balance_state", &[Role::Treated, Role::Propensity]).with_phi();

    const EXAMPLE: &'static str = "> SELECT day, bmse_of(state) AS bmse
  FROM (SELECT day, balance_state(clicked, p, age) AS state
        FROM (VALUES (1, 1, 0.5, 3.0), (1, 0, 0.5, 4.0), (2, 1, 0.8, 2.0), (2, 0, 0.2, 1.0)) AS log (day, clicked, p, age)
        GROUP BY day)
  ORDER BY day;
+-----+----------+
| day | bmse     |
+-----+----------+
| 1   | 1.0      |
| 2   | 0.390625 |
+-----+----------+";

    const RELATED: &'static [&'static str] =
        &["balance_merge", "bmse_of", "balance_vector_of", "balance_test_of", "balance_drift"];

    type State = Clustered<Imbalances>;

    fn terms(rows: &Rows<'_>, _call: &Call) -> ImbalanceTerms {
        imbalance_terms(rows)
    }

    fn return_type(_arguments: &[DataType]) -> DataType {
        state_type()
    }

    fn values(state: &Clustered<Imbalances>, _call: &Call) -> Result<ArrayRef> {
        Ok(stored(state))
    }
}
