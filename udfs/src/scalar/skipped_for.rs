use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, Documentation, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature};

use crate::args::{Phi, Role, Spec};
use crate::docs;

scalar! {
    /// Why the balance functions skip a row: the first of `'treated'`, `'propensity'` and `'phi'` that is NULL; of a
    /// `treatment`, `'cluster'` or `'second'` where that is. NULL where the row counts.
    ///
    /// # Details
    /// φ is NULL where one of its columns, the list, or an element of the list is.
    skipped_for(treated: Expr, propensity: Expr, phi: Vec<Expr>), skipped_for_udf: SkippedFor
}

const SPEC: Spec = Spec::new("skipped_for", &[Role::Treated, Role::Propensity]).with_phi();

const EXAMPLE: &str = "> SELECT skipped_for(clicked, p, age) AS lacks, count(*) AS n
  FROM (VALUES (1, 0.5, 30.0), (0, NULL, NULL), (0, 0.5, NULL), (1, 0.8, NULL)) AS log (clicked, p, age)
  GROUP BY lacks ORDER BY n, lacks;
+------------+---+
| lacks      | n |
+------------+---+
| propensity | 1 |
|            | 1 |
| phi        | 2 |
+------------+---+";

#[derive(Debug, PartialEq, Eq, Hash)]
struct SkippedFor {
    signature: Signature,
    documentation: Documentation,
}

impl SkippedFor {
    fn new() -> Self {
        let arguments = [
            ("treated", "The treatment: a boolean or a number, or what `treatment` gives."),
            ("propensity", "The learned propensity: a number."),
            ("phi", "The balancing representation φ, as `bmse` takes it."),
        ];
        let documentation = docs::documentation::<Self>(SPEC.syntax(), &arguments, EXAMPLE, &["bmse", "balance_test"]);
        Self { signature: SPEC.signature(), documentation }
    }
}

impl ScalarUDFImpl for SkippedFor {
    fn name(&self) -> &str {
        SPEC.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        SPEC.coerce(arg_types)
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let (scalars, phi) = arrays.split_at(SPEC.roles.len());
        let phi = Phi::read(phi)?.nulls();
        let mut nulls: Vec<(&str, Option<&NullBuffer>)> = Vec::new();
        for (role, array) in SPEC.roles.iter().zip(scalars) {
            match array.as_struct_opt() {
                Some(parts) => {
                    nulls.extend(parts.column_names().into_iter().zip(parts.columns().iter().map(|part| part.nulls())))
                }
                None => nulls.push((role.name(), array.nulls())),
            }
        }
        nulls.push((SPEC.vector, phi.as_ref()));
        let lacks =
            |row| nulls.iter().find(|(_, nulls)| nulls.is_some_and(|nulls| nulls.is_null(row))).map(|(name, _)| *name);
        let values: StringArray = (0..args.number_rows).map(lacks).collect();
        Ok(ColumnarValue::Array(Arc::new(values)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
