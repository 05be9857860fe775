//! The arguments that are the same for every row of a call.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err};
use datafusion_expr::ColumnarValue;
use datafusion_expr::function::AccumulatorArgs;

use super::role::{Literal, Role};
use super::spec::Spec;
use super::treatment::Clustering;

/// What is the same for every row of a call.
#[derive(Debug)]
pub(crate) struct Call {
    spec: &'static Spec,
    literals: Vec<f64>,
    /// How the rows belong together.
    pub(crate) clustering: Clustering,
    /// The type of the result.
    pub(crate) return_type: DataType,
}

impl Call {
    /// Reads the literal arguments. They are evaluated, because a literal of another library (over FFI) is not this
    /// library's type.
    pub(crate) fn read(spec: &'static Spec, args: &AccumulatorArgs) -> Result<Self> {
        let no_rows = RecordBatch::new_empty(Arc::new(args.schema.clone()));
        let value = |(place, role): (usize, &Role)| {
            let Some(Literal { kind, default }) = role.literal() else { return Ok(0.0) };
            let Some(argument) = args.exprs.get(place) else { return Ok(default.unwrap_or_default()) };
            let given = match argument.evaluate(&no_rows) {
                Ok(ColumnarValue::Scalar(value)) => {
                    if let Some(value) = kind.read(&value) {
                        return Ok(value);
                    }
                    value.to_string()
                }
                _ => argument.to_string(),
            };
            exec_err!(
                "{}: argument {} ({}) is {given}: it must be {}, the same for every row",
                spec.name,
                place + 1,
                role.name(),
                role.expects()
            )
        };
        let literals = spec.roles.iter().enumerate().map(value).collect::<Result<_>>()?;
        let clustering = args.expr_fields.first().map(|field| Clustering::of(field.data_type())).unwrap_or_default();
        Ok(Self { spec, literals, clustering, return_type: args.return_field.data_type().clone() })
    }

    /// The value of a literal argument; of a choice, its place.
    pub(crate) fn literal(&self, role: Role) -> f64 {
        self.spec.position(role).map_or(0.0, |place| self.literals[place])
    }
}
