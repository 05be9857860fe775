//! Functions that say why a row does not count, from what the balance functions take.

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};

use crate::args::{Phi, Spec};
use crate::docs::{self, Documented};

const ARGUMENTS: [(&str, &str); 3] = [
    ("treated", "The treatment: a boolean or a number, or what `treatment` gives."),
    ("propensity", "The learned propensity: a number."),
    ("phi", "The balancing representation φ, as `bmse` takes it."),
];

/// Why rows do not count; NULL where there is no such reason.
pub(super) trait Reason: Debug + PartialEq + Eq + Hash + Send + Sync + 'static {
    /// Of treatment, propensity and φ.
    const SPEC: Spec;

    /// A query, and what it gives.
    const EXAMPLE: &'static str;

    const RELATED: &'static [&'static str];

    /// The reason of each of `rows` rows, of the arguments before φ and of φ.
    fn reasons(scalars: &[ArrayRef], phi: &Phi, rows: usize) -> Result<StringArray>;
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ReasonUdf<F> {
    signature: Signature,
    documentation: Documentation,
    function: PhantomData<F>,
}

impl<F: Reason> ReasonUdf<F>
where
    Self: Documented,
{
    pub(super) fn new() -> Self {
        let documentation = docs::documentation::<Self>(F::SPEC.syntax(), &ARGUMENTS, F::EXAMPLE, F::RELATED);
        Self { signature: F::SPEC.signature(), documentation, function: PhantomData }
    }
}

impl<F: Reason> ScalarUDFImpl for ReasonUdf<F> {
    fn name(&self) -> &str {
        F::SPEC.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        F::SPEC.coerce(arg_types)
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let (scalars, phi) = arrays.split_at(F::SPEC.roles.len());
        let reasons = F::reasons(scalars, &Phi::read(phi)?, args.number_rows)?;
        Ok(ColumnarValue::Array(Arc::new(reasons)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
