use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::Float64Type;
use datafusion_common::Result;
use datafusion_expr::Expr;

use super::reason::{Reason, ReasonUdf};
use crate::args::{Phi, Role, Spec};

scalar! {
    /// Why the balance functions refuse a row with an error: `'treated'` is not 0 or 1; `'propensity'` is not from 0 to 1;
    /// `'impossible'`: it is treated with a propensity of 0, or untreated with one of 1; `'phi'` is NaN or infinite. NULL
    /// where they take it, and of NULLs, for which they skip it.
    refused_for(treated: Expr, propensity: Expr, phi: Vec<Expr>), refused_for_udf: ReasonUdf<RefusedFor>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct RefusedFor;

impl Reason for RefusedFor {
    const SPEC: Spec = Spec::new("refused_for", &[Role::Treated, Role::Propensity]).with_phi();
    const EXAMPLE: &'static str = "> SELECT refused_for(clicked, p) AS why, count(*) AS n
  FROM (VALUES (1, 0.5), (1, 0.0), (0, 0.0), (1, 1.7), (0, NULL)) AS log (clicked, p)
  GROUP BY why ORDER BY n, why;
+------------+---+
| why        | n |
+------------+---+
| impossible | 1 |
| propensity | 1 |
|            | 3 |
+------------+---+";
    const RELATED: &'static [&'static str] = &["skipped_for", "propensity_profile"];

    fn reasons(scalars: &[ArrayRef], phi: &Phi, rows: usize) -> Result<StringArray> {
        let is_finite = phi.finite(rows)?;
        let treated = scalars[0].as_struct_opt().map_or(&scalars[0], |parts| parts.column(0));
        let treated = |row: usize| {
            let value = || match treated.as_boolean_opt() {
                Some(flags) => f64::from(u8::from(flags.value(row))),
                None => treated.as_primitive::<Float64Type>().value(row),
            };
            treated.is_valid(row).then(value)
        };
        let propensity = scalars[1].as_primitive::<Float64Type>();
        let refused = |row: usize| {
            let (o, p) = (treated(row), propensity.is_valid(row).then(|| propensity.value(row)));
            match (o, p) {
                (Some(o), _) if o != 0.0 && o != 1.0 => Some("treated"),
                (_, Some(p)) if !(0.0..=1.0).contains(&p) => Some("propensity"),
                (Some(o), Some(p)) if o == 1.0 - p && p.fract() == 0.0 => Some("impossible"),
                _ if !is_finite.value(row) => Some("phi"),
                _ => None,
            }
        };
        Ok((0..rows).map(refused).collect())
    }
}
