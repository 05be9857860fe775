//! The accumulators themselves: states in any cut, order and shape.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{Float64Type, Schema};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionConfig;
use datafusion::scalar::ScalarValue;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::population::{Call, Phi, Row, calls, partitions, population};
use crate::sql::{assert_close, session_with};

/// A planned call, and its arguments for all rows.
struct Planned {
    call: Call,
    rows: Vec<Row>,
    aggregate: Arc<AggregateFunctionExpr>,
    arguments: Vec<ArrayRef>,
}

fn find_aggregate(plan: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    match (plan.as_ref() as &dyn std::any::Any).downcast_ref() {
        Some(aggregate) => Some(aggregate),
        None => plan.children().into_iter().find_map(find_aggregate),
    }
}

async fn plan(call: Call, rows: &[Row]) -> Planned {
    let config = SessionConfig::new().with_target_partitions(1);
    let ctx = session_with(config, partitions(rows, 1, rows.len()));
    let plan = ctx.sql(&format!("SELECT {} FROM log", call.sql)).await.unwrap();
    let plan = plan.create_physical_plan().await.unwrap();
    let exec = find_aggregate(&plan).unwrap();
    let input = collect(Arc::clone(exec.input()), ctx.task_ctx()).await.unwrap();
    let aggregate = Arc::clone(&exec.aggr_expr()[0]);
    let arguments = aggregate
        .expressions()
        .iter()
        .map(|argument| {
            let value = argument.evaluate(&input[0]).unwrap();
            value.into_array(rows.len()).unwrap()
        })
        .collect();
    Planned { call, rows: rows.to_vec(), aggregate, arguments }
}

async fn plans(rows: usize) -> Vec<Planned> {
    let rows = population(rows, 1, true, 11);
    let mut plans = vec![];
    for call in calls() {
        plans.push(plan(call, &rows).await);
    }
    plans
}

impl Planned {
    fn slice(&self, from: usize, to: usize) -> Vec<ArrayRef> {
        let arguments = self.arguments.iter();
        arguments.map(|array| array.slice(from, to - from)).collect()
    }

    fn accumulator(&self) -> Box<dyn Accumulator> {
        self.aggregate.create_accumulator().unwrap()
    }

    fn groups(&self) -> Box<dyn GroupsAccumulator> {
        self.aggregate.create_groups_accumulator().unwrap()
    }

    fn check_layout(&self, state: &[ArrayRef]) {
        let fields = self.aggregate.state_fields().unwrap();
        assert_eq!(fields.len(), state.len());
        for (field, array) in fields.iter().zip(state) {
            assert_eq!(field.data_type(), array.data_type());
            assert!(!field.is_nullable() && array.null_count() == 0);
        }
        let batch = datafusion::arrow::array::RecordBatch::try_new(Arc::new(Schema::new(fields)), state.to_vec());
        batch.unwrap();
    }

    fn check(&self, result: Option<f64>, rows: &[&Row]) {
        assert_close(result, self.call.expected(rows), 1e-9, &self.call.sql);
    }
}

fn float(value: ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Float64(value) => value,
        other => panic!("{other} is not a float"),
    }
}

fn floats(array: &ArrayRef) -> Vec<Option<f64>> {
    array.as_primitive::<Float64Type>().iter().collect()
}

fn arrays(state: &[ScalarValue]) -> Vec<ArrayRef> {
    state.iter().map(|value| value.to_array().unwrap()).collect()
}

fn run<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value)) {
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig { cases, failure_persistence: None, ..Default::default() },
        proptest::test_runner::TestRng::deterministic_rng(Default::default()),
    );
    runner
        .run(&strategy, |value| {
            test(value);
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn states_merge_in_any_cut_and_order() {
    const N: usize = 60;
    for planned in plans(N).await {
        let cuts = vec(0..=N, 0..6);
        let order = vec(any::<prop::sample::Index>(), 16);
        run(12, (cuts, order, any::<bool>()), |(mut cuts, order, at_once)| {
            cuts.extend([0, N]);
            cuts.sort_unstable();
            let mut states = vec![];
            for piece in cuts.windows(2) {
                let mut part = planned.accumulator();
                part.update_batch(&planned.slice(piece[0], piece[1])).unwrap();
                states.push(arrays(&part.state().unwrap()));
                planned.check_layout(states.last().unwrap());
            }
            for index in order {
                if states.len() < 2 {
                    break;
                }
                let one = states.swap_remove(index.index(states.len()));
                let other = states.swap_remove(index.index(states.len()));
                let mut merged = planned.accumulator();
                if at_once {
                    let both: Vec<_> =
                        one.iter().zip(&other).map(|(a, b)| concat(&[a.as_ref(), b.as_ref()]).unwrap()).collect();
                    merged.merge_batch(&both).unwrap();
                } else {
                    merged.merge_batch(&one).unwrap();
                    merged.merge_batch(&other).unwrap();
                }
                states.push(arrays(&merged.state().unwrap()));
            }
            let mut last = planned.accumulator();
            for state in states {
                last.merge_batch(&state).unwrap();
            }
            let rows: Vec<_> = planned.rows.iter().collect();
            let result = float(last.evaluate().unwrap());
            planned.check(result, &rows);
            assert_eq!(result, float(last.evaluate().unwrap()));
        });
    }
}

#[tokio::test]
async fn groups_emit_merge_and_convert() {
    const N: usize = 60;
    const GROUPS: usize = 7;
    for planned in plans(N).await {
        let groups = vec(0..GROUPS, N);
        let kept = vec(prop::option::of(any::<bool>()), N);
        let strategy = (groups, prop::option::of(kept), 0..N, 0..=GROUPS, any::<bool>());
        run(12, strategy, |(groups, kept, cut, first, convert)| {
            let filter = kept.clone().map(BooleanArray::from);
            let mut whole = planned.groups();
            let mut merged = planned.groups();
            for (from, to) in [(0, cut), (cut, N)] {
                let arguments = planned.slice(from, to);
                let groups = &groups[from..to];
                let filter = filter.as_ref().map(|filter| filter.slice(from, to - from));
                let filter = filter.as_ref();
                whole.update_batch(&arguments, groups, filter, GROUPS).unwrap();
                if convert {
                    let state = planned.groups().convert_to_state(&arguments, filter).unwrap();
                    planned.check_layout(&state);
                    merged.merge_batch(&state, groups, GROUPS).unwrap();
                } else {
                    let mut part = planned.groups();
                    part.update_batch(&arguments, groups, filter, GROUPS).unwrap();
                    let mut at = 0;
                    for emit in [EmitTo::First(first), EmitTo::All] {
                        let state = part.state(emit).unwrap();
                        planned.check_layout(&state);
                        let ids: Vec<_> = (at..at + state[0].len()).collect();
                        at += ids.len();
                        merged.merge_batch(&state, &ids, GROUPS).unwrap();
                    }
                    assert_eq!(at, GROUPS);
                }
            }
            for mut accumulator in [whole, merged] {
                let mut results = floats(&accumulator.evaluate(EmitTo::First(first)).unwrap());
                results.extend(floats(&accumulator.evaluate(EmitTo::All).unwrap()));
                assert_eq!(results.len(), GROUPS);
                for (group, result) in results.into_iter().enumerate() {
                    let rows: Vec<_> = (0..N)
                        .filter(|&i| groups[i] == group)
                        .filter(|&i| kept.as_ref().is_none_or(|kept| kept[i] == Some(true)))
                        .map(|i| &planned.rows[i])
                        .collect();
                    planned.check(result, &rows);
                }
            }
        });
    }
}

#[tokio::test]
async fn groups_keep_their_place_after_the_first_are_emitted() {
    for planned in plans(40).await {
        let mut groups = planned.groups();
        let ids: Vec<_> = (0..20).map(|i| i / 5).collect();
        groups.update_batch(&planned.slice(0, 20), &ids, None, 4).unwrap();
        let first = floats(&groups.evaluate(EmitTo::First(3)).unwrap());
        assert_eq!(first.len(), 3);
        let ids: Vec<_> = (0..20).map(|i| i / 10).collect();
        groups.update_batch(&planned.slice(20, 40), &ids, None, 2).unwrap();
        let rest = floats(&groups.evaluate(EmitTo::All).unwrap());
        let of = |from: usize, to: usize| planned.rows[from..to].iter().collect::<Vec<_>>();
        planned.check(rest[0], &of(15, 30));
        planned.check(rest[1], &of(30, 40));
    }
}

#[tokio::test]
async fn sliding_accumulators_retract_what_they_added() {
    const N: usize = 60;
    for planned in plans(N).await {
        let steps = vec((1..8usize, 0..8usize), 1..20);
        run(12, steps, |steps| {
            let mut sliding = planned.aggregate.create_sliding_accumulator().unwrap();
            assert!(sliding.supports_retract_batch());
            let (mut from, mut to) = (0, 0);
            for (add, retract) in steps {
                let end = (to + add).min(N);
                sliding.update_batch(&planned.slice(to, end)).unwrap();
                to = end;
                let start = (from + retract).min(to);
                sliding.retract_batch(&planned.slice(from, start)).unwrap();
                from = start;
                let rows: Vec<_> = planned.rows[from..to].iter().collect();
                planned.check(float(sliding.evaluate().unwrap()), &rows);
            }
        });
    }
}

#[tokio::test]
async fn size_counts_the_heap() {
    for planned in plans(40).await {
        let mut groups = planned.groups();
        let ids: Vec<_> = (0..40).collect();
        groups.update_batch(&planned.arguments, &ids, None, 10_000).unwrap();
        let fields = planned.aggregate.state_fields().unwrap().len();
        assert!(groups.size() >= 10_000 * 8 * fields, "{}", planned.call.sql);
        assert!(planned.accumulator().size() >= 16);
    }
}

#[tokio::test]
async fn bins_that_are_not_in_use_take_no_memory() {
    let rows = population(40, 1, false, 12);
    let call = Call { sql: "ece(o, p, 10000)".into(), function: "ece", phi: Phi::Unused, literal: 10_000.0 };
    let planned = plan(call, &rows).await;
    let mut groups = planned.groups();
    let ids: Vec<_> = (0..40).collect();
    groups.update_batch(&planned.arguments, &ids, None, 40).unwrap();
    assert!(groups.size() < 40 * 1024, "{}", groups.size());
    let state = groups.state(EmitTo::All).unwrap();
    assert!(state.iter().all(|array| array.get_buffer_memory_size() < 40 * 1024));
}
