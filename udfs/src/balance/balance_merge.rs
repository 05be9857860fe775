use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion_expr::utils::AggregateOrderSensitivity;
use datafusion_expr::{
    Accumulator, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, ReversedUDAF, Signature,
};

use super::stored::{States, coerce, state_signature, state_type, stored};
use crate::args::{Clustering, Spec};
use crate::docs;
use crate::state::{Clustered, Imbalances, State};
use crate::udaf::{Window, plain_only, refuse_distinct, state_fields, state_of_one};

aggregate! {
    /// Puts stored states together: what `balance_state` would give for all of their rows.
    ///
    /// The states must come from the same phi. NULL states are skipped; NULL if there is no other. Rolling windows of
    /// days need no rescan: `balance_merge(state) OVER (ORDER BY day ROWS 6 PRECEDING)`.
    ///
    /// # Details
    /// The order of the states does not matter, and the result equals a scan of the rows up to rounding.
    balance_merge(state: Expr), balance_merge_udaf: BalanceMerge
}

const EXAMPLE: &str = "> SELECT bmse_of(balance_merge(state)) AS bmse
  FROM (SELECT day, balance_state(clicked, p, age) AS state
        FROM (VALUES (1, 1, 0.5, 3.0), (1, 0, 0.5, 4.0), (2, 1, 0.8, 2.0), (2, 0, 0.2, 1.0)) AS log (day, clicked, p, age)
        GROUP BY day);
+------------+
| bmse       |
+------------+
| 0.03515625 |
+------------+";

#[derive(Debug, PartialEq, Eq, Hash)]
struct BalanceMerge {
    signature: Signature,
    documentation: Documentation,
}

impl BalanceMerge {
    const SPEC: &'static Spec = &Spec::new("balance_merge", &[]).with_vector("state");

    fn new() -> Self {
        let arguments = [("state", docs::STATE)];
        let documentation =
            docs::documentation::<Self>("balance_merge(state)", &arguments, EXAMPLE, &["balance_state"]);
        Self { signature: state_signature(), documentation }
    }
}

impl AggregateUDFImpl for BalanceMerge {
    fn name(&self) -> &str {
        Self::SPEC.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        coerce(Self::SPEC.name, arg_types)
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(state_type())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(state_fields::<Clustered<Imbalances>>(&args, KEPT))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let mut merged = Merged::new(&args)?;
        merged.0.resize(1);
        Ok(Box::new(merged))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let mut merged = Merged::new(&args)?;
        merged.0.resize(1);
        Ok(Box::new(Window::new(Self::SPEC.name, merged)))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Merged::new(&args)?))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        Some(plain_only(Self::SPEC.name))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// States tell whether their rows belong together, not their type: room for it is kept in any case.
const KEPT: Clustering = Clustering::OneWay;

#[derive(Debug, Clone)]
struct Merged(Clustered<Imbalances>);

impl Merged {
    fn new(args: &AccumulatorArgs) -> Result<Self> {
        refuse_distinct(BalanceMerge::SPEC.name, args.is_distinct)?;
        Ok(Self(Clustered::new(KEPT)))
    }

    fn add(
        state: &mut Clustered<Imbalances>,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
        group: impl Fn(usize) -> usize,
    ) -> Result<()> {
        let states = States::read(BalanceMerge::SPEC.name, 1, "state", &values[0]);
        let passes = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        for row in (0..states.len()).filter(|&row| passes(row)) {
            let Some(other) = states.get(row)? else { continue };
            state.rows.add_one(BalanceMerge::SPEC, group(row), &other)?;
            state.add_sums(BalanceMerge::SPEC, group(row), other.clusters)?;
        }
        Ok(())
    }
}

impl Accumulator for Merged {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Self::add(&mut self.0, values, None, |_| 0)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge(BalanceMerge::SPEC, states, |_| 0)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&stored(&self.0), 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        state_of_one(&self.0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.size()
    }
}

impl GroupsAccumulator for Merged {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.0.resize(total_num_groups);
        Self::add(&mut self.0, values, opt_filter, |row| group_indices[row])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.0.resize(total_num_groups);
        self.0.merge(BalanceMerge::SPEC, values, |row| group_indices[row])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut state = Clustered::new(KEPT);
        state.resize(values[0].len());
        Self::add(&mut state, values, opt_filter, |row| row)?;
        Ok(state.arrays())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(stored(&self.0.take(emit_to)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(self.0.take(emit_to).arrays())
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
