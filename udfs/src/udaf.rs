//! One implementation of DataFusion's traits for all aggregates of this crate.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::tree_node::TreeNode;
use datafusion_common::{Result, ScalarValue, internal_err, not_impl_err};
use datafusion_expr::expr::AggregateFunctionParams;
use datafusion_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion_expr::{
    Accumulator, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, ReversedUDAF, Signature,
    udaf_default_display_name, udaf_default_schema_name,
};

use crate::args::{Call, Clustering, Rows, Spec};
use crate::docs::{self, Documented};
use crate::state::State;

/// What makes one aggregate different from another.
pub(crate) trait Function: Debug + PartialEq + Eq + Hash + Send + Sync + 'static {
    const SPEC: &'static Spec;

    /// A query, and what it gives.
    const EXAMPLE: &'static str;

    /// The functions to look at next.
    const RELATED: &'static [&'static str];

    type State: State;

    /// Whether this call's state lets rows be taken out again.
    fn retracts(call: &Call) -> bool {
        Self::State::RETRACT.is_some() && Self::State::cluster_fields(call.clustering).is_empty()
    }

    /// What the rows of a batch add to the state.
    fn terms(rows: &Rows<'_>, call: &Call) -> <Self::State as State>::Terms;

    /// The type of the result for arguments of these types.
    fn return_type(_arguments: &[DataType]) -> DataType {
        DataType::Float64
    }

    /// The results of all groups, of the call's return type.
    fn values(state: &Self::State, call: &Call) -> Result<ArrayRef>;
}

/// The aggregate that `F` describes.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Udaf<F> {
    signature: Signature,
    documentation: Documentation,
    function: PhantomData<F>,
}

impl<F: Function> Udaf<F>
where
    Self: Documented,
{
    pub(crate) const SPEC: &'static Spec = F::SPEC;

    pub(crate) fn new() -> Self {
        Self {
            signature: F::SPEC.signature(),
            documentation: docs::aggregate::<Self>(F::SPEC, F::EXAMPLE, F::RELATED),
            function: PhantomData,
        }
    }
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

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(F::return_type(arg_types))
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        match has_cast(&params.args) {
            true => udaf_default_display_name(self, params),
            false => udaf_default_schema_name(self, params),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let clustering = args.input_fields.first().map(|field| Clustering::of(field.data_type()));
        Ok(state_fields::<F::State>(&args, clustering.unwrap_or_default()))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One(Groups::<F>::one(Groups::<F>::call(&args)?))))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let call = Groups::<F>::call(&args)?;
        Ok(match F::retracts(&call) {
            true => Box::new(One(Groups::<F>::one(call))),
            false => Box::new(Window::new(F::SPEC.name, One(Groups::<F>::one(call)))),
        })
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let call = Groups::<F>::call(&args)?;
        Ok(Box::new(Groups::<F> { state: F::State::new(call.clustering), call }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        Some(plain_only(F::SPEC.name))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// Whether an argument has a cast in it. The usual name of a call's column leaves casts out, which gives two calls that
/// differ in nothing else one name, and the planner refuses them.
fn has_cast(arguments: &[Expr]) -> bool {
    let is_cast = |expr: &Expr| Ok(matches!(expr, Expr::Cast(_) | Expr::TryCast(_)));
    arguments.iter().any(|argument| argument.exists(is_cast).unwrap_or(false))
}

/// Refuses DISTINCT, before the planner makes a GROUP BY of it.
pub(crate) fn plain_only(name: &'static str) -> AggregateFunctionSimplification {
    Box::new(move |call, _| {
        refuse_distinct(name, call.params.distinct)?;
        Ok(Expr::AggregateFunction(call))
    })
}

pub(crate) fn refuse_distinct(name: &str, is_distinct: bool) -> Result<()> {
    if is_distinct {
        return not_impl_err!(
            "{name}(DISTINCT ...) is not supported: remove duplicate rows in a subquery first, \
             e.g. SELECT {name}(...) FROM (SELECT DISTINCT ...)"
        );
    }
    Ok(())
}

/// The fields of an aggregate's state.
pub(crate) fn state_fields<S: State>(args: &StateFieldsArgs, clustering: Clustering) -> Vec<FieldRef> {
    let field = |(name, data_type)| Arc::new(Field::new(format_state_name(args.name, name), data_type, false));
    S::fields().into_iter().chain(S::cluster_fields(clustering)).map(field).collect()
}

/// The state of a single group, for an accumulator.
pub(crate) fn state_of_one(state: &impl State) -> Result<Vec<ScalarValue>> {
    state.clone().arrays().iter().map(|array| ScalarValue::try_from_array(array, 0)).collect()
}

/// The state of every group.
#[derive(Debug)]
struct Groups<F: Function> {
    state: F::State,
    call: Arc<Call>,
}

/// A single group: an aggregate without `GROUP BY`, or a window.
#[derive(Debug)]
struct One<F: Function>(Groups<F>);

// Not derived, for that asks for a function that is Clone.
impl<F: Function> Clone for One<F> {
    fn clone(&self) -> Self {
        Self(Groups { state: self.0.state.clone(), call: Arc::clone(&self.0.call) })
    }
}

/// The rows of a sliding window, for a state that they cannot be taken out of.
#[derive(Debug)]
pub(crate) struct Window<A> {
    name: &'static str,
    /// The accumulator before any row.
    empty: A,
    frame: VecDeque<Vec<ArrayRef>>,
}

impl<A> Window<A> {
    pub(crate) fn new(name: &'static str, empty: A) -> Self {
        Self { name, empty, frame: VecDeque::new() }
    }
}

impl<F: Function> Groups<F> {
    fn call(args: &AccumulatorArgs) -> Result<Arc<Call>> {
        refuse_distinct(F::SPEC.name, args.is_distinct)?;
        Ok(Arc::new(Call::read(F::SPEC, args)?))
    }

    fn one(call: Arc<Call>) -> Self {
        let mut state = F::State::new(call.clustering);
        state.resize(1);
        Self { state, call }
    }

    fn add(
        state: &mut F::State,
        call: &Call,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        match Rows::read(F::SPEC, values, filter)? {
            Some(rows) => state.add_grouped(&rows, &F::terms(&rows, call), &rows.keep(groups)),
            None => Ok(()),
        }
    }

    fn values(&self, state: &F::State) -> Result<ArrayRef> {
        F::values(state, &self.call)
    }
}

impl<F: Function> Accumulator for One<F> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match Rows::read(F::SPEC, values, None)? {
            Some(rows) => self.0.state.add(&rows, &F::terms(&rows, &self.0.call)),
            None => Ok(()),
        }
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(retract) = F::State::RETRACT else {
            return internal_err!("{}: rows are not taken out of its state again", F::SPEC.name);
        };
        match Rows::read(F::SPEC, values, None)? {
            Some(rows) => retract(&mut self.0.state, &rows, &F::terms(&rows, &self.0.call)),
            None => Ok(()),
        }
    }

    fn supports_retract_batch(&self) -> bool {
        F::retracts(&self.0.call)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.state.merge(F::SPEC, states, |_| 0)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.0.values(&self.0.state)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        state_of_one(&self.0.state)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.state.size()
    }
}

impl<A: Accumulator + Clone> Accumulator for Window<A> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.frame.push_back(values.to_vec());
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        // The rows that leave a frame are those that came first.
        let mut leaving = values[0].len();
        while leaving > 0 {
            let Some(batch) = self.frame.front_mut() else {
                return internal_err!("{}: rows left a window that they were not in", self.name);
            };
            let rows = batch[0].len();
            if rows > leaving {
                batch.iter_mut().for_each(|array| *array = array.slice(leaving, rows - leaving));
                break;
            }
            leaving -= rows;
            self.frame.pop_front();
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        internal_err!("{}: windows are not merged", self.name)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut whole = self.empty.clone();
        self.frame.iter().try_for_each(|values| whole.update_batch(values))?;
        whole.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("{}: windows are not merged", self.name)
    }

    fn size(&self) -> usize {
        let arrays = self.frame.iter().flatten();
        size_of_val(self) + arrays.map(|array| array.get_array_memory_size()).sum::<usize>()
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
        Self::add(&mut self.state, &self.call, values, group_indices, opt_filter)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.state.resize(total_num_groups);
        self.state.merge(F::SPEC, values, |i| group_indices[i])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let each: Vec<_> = (0..rows).collect();
        let mut state = F::State::new(self.call.clustering);
        state.resize(rows);
        Self::add(&mut state, &self.call, values, &each, opt_filter)?;
        Ok(state.arrays())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let state = self.state.take(emit_to);
        self.values(&state)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(self.state.take(emit_to).arrays())
    }

    fn size(&self) -> usize {
        self.state.size()
    }
}
