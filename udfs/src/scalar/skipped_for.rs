use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::NullBuffer;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::reason::{Reason, ReasonUdf};
use crate::args::{Phi, Role, Spec};

scalar! {
    /// Why the balance functions skip a row: the first of `'treated'`, `'propensity'` and `'phi'` that is NULL; of a
    /// `treatment`, `'cluster'` or `'second'` where that is. NULL where the row counts.
    ///
    /// # Details
    /// φ is NULL where one of its columns, the list, or an element of the list is.
    skipped_for(treated: Expr, propensity: Expr, phi: Vec<Expr>), skipped_for_udf: ReasonUdf<SkippedFor>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SkippedFor;

impl Reason for SkippedFor {
    const SPEC: Spec = Spec::new("skipped_for", &[Role::Treated, Role::Propensity]).with_phi();
    const EXAMPLE: &'static str = "> SELECT skipped_for(clicked, p, age) AS lacks, count(*) AS n
  FROM (VALUES (1, 0.5, 30.0), (0, NULL, NULL), (0, 0.5, NULL), (1, 0.8, NULL)) AS log (clicked, p, age)
  GROUP BY lacks ORDER BY n, lacks;
+------------+---+
| lacks      | n |
+------------+---+
| propensity | 1 |
|            | 1 |
| phi        | 2 |
+------------+---+";
    const RELATED: &'static [&'static str] = &["bmse", "balance_test"];

    fn reasons(scalars: &[ArrayRef], phi: &Phi, rows: usize) -> Result<StringArray> {
        let phi = phi.nulls();
        let mut nulls: Vec<(&str, Option<&NullBuffer>)> = Vec::new();
        for (role, array) in Self::SPEC.roles.iter().zip(scalars) {
            match array.as_struct_opt() {
                Some(parts) => {
                    nulls.extend(parts.column_names().into_iter().zip(parts.columns().iter().map(|part| part.nulls())))
                }
                None => nulls.push((role.name(), array.nulls())),
            }
        }
        nulls.push((Self::SPEC.vector, phi.as_ref()));
        let lacks =
            |row| nulls.iter().find(|(_, nulls)| nulls.is_some_and(|nulls| nulls.is_null(row))).map(|(name, _)| *name);
        Ok((0..rows).map(lacks).collect())
    }
}
