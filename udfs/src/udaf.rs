//! One implementation of DataFusion's traits for all aggregates of this crate.

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, exec_err, not_impl_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Documentation, EmitTo, GroupsAccumulator, ReversedUDAF,
    Signature,
};

use crate::args::{Rows, Spec};
use crate::state::State;

/// What makes one aggregate different from another.
pub(crate) trait Function: Debug + PartialEq + Eq + Hash + Send + Sync + 'static {
    const SPEC: &'static Spec;

    type State: State;

    /// What the rows of a batch add to the state.
    fn terms(rows: &Rows<'_>) -> <Self::State as State>::Terms;

    /// The result for a group, `None` for NULL.
    fn value(state: &Self::State, group: usize, lambda: f64) -> Option<f64>;

    fn documentation() -> Documentation;
}

/// Makes the aggregate that `F` describes.
pub(crate) fn udaf<F: Function>() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(Udaf::<F> {
        signature: F::SPEC.signature(),
        documentation: F::documentation(),
        function: PhantomData,
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Udaf<F> {
    signature: Signature,
    documentation: Documentation,
    function: PhantomData<F>,
}

impl<F: Function> AggregateUDFImpl for Udaf<F> {
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
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let fields = F::State::fields().into_iter();
        Ok(fields
            .map(|(name, data_type)| Arc::new(Field::new(format_state_name(args.name, name), data_type, false)))
            .collect())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let mut one = Groups::<F>::new(&args)?;
        one.state.resize(1);
        Ok(Box::new(One(one)))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::<F>::new(&args)?))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// The state of every group, and the λ of the call.
#[derive(Debug)]
struct Groups<F: Function> {
    state: F::State,
    lambda: f64,
}

/// A single group: an aggregate without `GROUP BY`, or a window.
#[derive(Debug)]
struct One<F: Function>(Groups<F>);

impl<F: Function> Groups<F> {
    fn new(args: &AccumulatorArgs) -> Result<Self> {
        if args.is_distinct {
            return not_impl_err!(
                "{0}(DISTINCT ...) is not supported: remove duplicate rows in a subquery first, \
                 e.g. SELECT {0}(...) FROM (SELECT DISTINCT ...)",
                F::SPEC.name
            );
        }
        Ok(Self { state: F::State::default(), lambda: lambda::<F>(args)? })
    }

    fn value(&self, state: &F::State, group: usize) -> Option<f64> {
        F::value(state, group, self.lambda)
    }

    fn add(state: &mut F::State, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        match Rows::read(F::SPEC, values, filter)? {
            Some(rows) => state.add_grouped(&rows, &F::terms(&rows), &rows.keep(groups)),
            None => Ok(()),
        }
    }
}

/// The value of the literal λ; it is evaluated, because a literal of another library (over FFI)
/// is not this library's type.
fn lambda<F: Function>(args: &AccumulatorArgs) -> Result<f64> {
    let Some(place) = F::SPEC.lambda() else {
        return Ok(0.0);
    };
    let no_rows = RecordBatch::new_empty(Arc::new(args.schema.clone()));
    let given = match args.exprs[place].evaluate(&no_rows) {
        Ok(ColumnarValue::Scalar(ScalarValue::Float64(Some(lambda)))) => {
            if lambda >= 0.0 && lambda.is_finite() {
                return Ok(lambda);
            }
            lambda.to_string()
        }
        Ok(ColumnarValue::Scalar(other)) => other.to_string(),
        _ => args.exprs[place].to_string(),
    };
    exec_err!(
        "{}: argument {} (lambda) is {given}: it must be a literal number, 0 or more, \
         the same for every row",
        F::SPEC.name,
        place + 1
    )
}

impl<F: Function> Accumulator for One<F> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match Rows::read(F::SPEC, values, None)? {
            Some(rows) => self.0.state.add(&rows, &F::terms(&rows)),
            None => Ok(()),
        }
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match Rows::read(F::SPEC, values, None)? {
            Some(rows) => self.0.state.retract(&rows, &F::terms(&rows)),
            None => Ok(()),
        }
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.state.merge(F::SPEC, states, |_| 0)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.0.value(&self.0.state, 0)))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let arrays = self.0.state.clone().arrays();
        arrays.iter().map(|array| ScalarValue::try_from_array(array, 0)).collect()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.state.size()
    }
}

impl<F: Function> GroupsAccumulator for Groups<F> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.state.resize(total_num_groups);
        Self::add(&mut self.state, values, group_indices, opt_filter)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.state.resize(total_num_groups);
        self.state.merge(F::SPEC, values, |i| group_indices[i])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let each: Vec<_> = (0..rows).collect();
        let mut state = F::State::default();
        state.resize(rows);
        Self::add(&mut state, values, &each, opt_filter)?;
        Ok(state.arrays())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let state = self.state.take(emit_to);
        let values = (0..state.groups()).map(|group| self.value(&state, group));
        Ok(Arc::new(values.collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(self.state.take(emit_to).arrays())
    }

    fn size(&self) -> usize {
        self.state.size()
    }
}
