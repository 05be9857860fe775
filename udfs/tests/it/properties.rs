//! What must hold for every aggregate on any rows: pieces add up to the whole, and what is taken out is forgotten.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use counterweight_udfs::all_aggregates;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat, concat_batches, take};
use datafusion::arrow::datatypes::{DataType, Float64Type, UInt16Type, UInt32Type, UInt64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionConfig;
use datafusion::scalar::ScalarValue;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestRng, TestRunner};

use crate::sql::session_with;

/// Each aggregate in the shapes that it has a state of its own for; columns are those of [`batch`].
const CALLS: &[&str] = &[
    "bmse(o, p, x, y)",
    "bmse(o, p)",
    "bmse_unbiased(o, p, x, y)",
    "bmse_noise_floor(o, p, [x, y])",
    "balance_vector(o, p, x, y)",
    "balance_test(o, p, x, y)",
    "balance_state(o, p, x, y)",
    "bmse_change(o, p, (p + 0.5) / 2, x, y)",
    "balance_merge(state)",
    "alarm_directions(o, p, x, y)",
    "alarm_state(o, p, directions, x, y)",
    "alarm_state(treatment(o, c, d), p, directions, [x, y])",
    "balance_alarm(seq, day)",
    "balance_alarm(seq, day, 0.5, 0.1, 14)",
    "balance_test(treatment(o, c), p, x, y)",
    "balance_state(treatment(o, c, d), p, x, y)",
    "bmse_change(treatment(o, c), p, (p + 0.5) / 2, x, y)",
    "imbalance(o, p, x, y)",
    "imbalance(treatment(o, c), p, [x, y])",
    "imbalance(treatment(o, c, d, 16), p)",
    "imbalance_both(o, p)",
    "imbalance_both(treatment(o, c, d), p, x)",
    "imbalance_bias(o, p, e, x)",
    "imbalance_bias(treatment(o, c), p, e, x, y)",
    "imbalance_bias(treatment(o, c, d), p, e)",
    "imbalance_bias_dr(treatment(o, d), p, e, i, x)",
    "ips_interval(treatment(o, c), p, e)",
    "snips_interval(treatment(o, c, d), p, e)",
    "snips_dr_interval(treatment(o, c, NULL, 3), p, e, i)",
    "ips(treatment(o, c), p, e)",
    "smd(o, p, x)",
    "smd(o, p, [x, y])",
    "variance_ratio(o, p, x, y)",
    "ks(o, p, x)",
    "naive(o, e)",
    "naive_treated(o, e)",
    "eib(o, e, i)",
    "ips(o, p, e)",
    "snips(o, p, e)",
    "dr(o, p, e, i)",
    "snips_dr(o, p, e, i)",
    "ips_clipped(o, p, e, 50)",
    "switch_dr(o, p, e, i, 50)",
    "dr_os(o, p, e, i, 50)",
    "ips_v2(o, p, e, 0.5, x)",
    "dr_v2(o, p, e, i, 0.5, x, y)",
    "naive_interval(o, e)",
    "naive_treated_interval(o, e)",
    "eib_interval(o, e, i)",
    "ips_interval(o, p, e)",
    "snips_interval(o, p, e)",
    "dr_interval(o, p, e, i)",
    "snips_dr_interval(o, p, e, i)",
    "ips_clipped_interval(o, p, e, 50)",
    "switch_dr_interval(o, p, e, i, 50)",
    "dr_os_interval(o, p, e, i, 50)",
    "ips_variance(o, p, e)",
    "dr_variance(o, p, e, i)",
    "lambda_opt(o, p, e, x)",
    "lambda_opt_dr(o, p, e, i, x)",
    "ess(o, p)",
    "propensity_profile(o, p)",
    "nll(o, p)",
    "ppl(o, p)",
    "auc(o, p)",
    "ece(o, p)",
    "ece(o, p, 3, 'mass')",
    "calibration_curve(o, p, 5)",
    "calibration_curve(o, p, 4, 'mass')",
    "sv(p)",
    "mis(p)",
];

#[derive(Debug, Clone)]
struct Row {
    treated: Option<bool>,
    propensity: Option<f64>,
    error: Option<f64>,
    imputed: Option<f64>,
    x: Option<f64>,
    y: Option<f64>,
}

/// What a population is like as a whole.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// All treated, none treated, or as it comes.
    treated: Option<bool>,
    /// Added to errors and covariates.
    offset: f64,
    /// Whether y is 0 in most rows.
    is_sparse: bool,
    /// The largest weight that a row may have.
    weight: f64,
}

const ROWS: usize = 40;

fn kind() -> impl Strategy<Value = Kind> {
    let treated = prop_oneof![3 => Just(None), 1 => Just(Some(true)), 1 => Just(Some(false))];
    let extremes = prop_oneof![4 => Just((0.0, 20.0)), 1 => Just((1e8, 20.0)), 1 => Just((0.0, 1e6))];
    (treated, extremes, any::<bool>()).prop_map(|(treated, (offset, weight), is_sparse)| Kind {
        treated,
        offset,
        is_sparse,
        weight,
    })
}

fn or_null<T: std::fmt::Debug + Clone + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Option<T>> {
    prop_oneof![12 => value.prop_map(Some), 1 => Just(None)].boxed()
}

fn row(kind: Kind) -> impl Strategy<Value = Row> {
    let small = move || or_null((-16i8..=16).prop_map(move |x| f64::from(x) / 4.0 + kind.offset));
    let least = 1.0 / kind.weight;
    let extreme = prop_oneof![Just(least), Just(1.0 - least)];
    let propensity = prop_oneof![4 => least..1.0 - least, 1 => extreme];
    let treated = any::<bool>().prop_map(move |treated| kind.treated.unwrap_or(treated));
    // Like a column of a one-hot code, which is 0 in most rows, and in some windows in all.
    let rare = or_null(prop_oneof![12 => Just(0.0), 1 => Just(1.0)]);
    let y = if kind.is_sparse { rare } else { small() };
    let row = (or_null(treated), or_null(propensity), small(), small(), small(), y);
    row.prop_map(|(treated, propensity, error, imputed, x, y)| Row { treated, propensity, error, imputed, x, y })
}

fn population() -> impl Strategy<Value = (Kind, Vec<Row>)> {
    kind().prop_flat_map(|kind| (Just(kind), vec(row(kind), ROWS)))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let floats = |f: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(f).collect::<Float64Array>()) };
    let cluster = |modulus: u32| -> ArrayRef {
        Arc::new(UInt32Array::from_iter((0..rows.len() as u32).map(|row| (row % 11 > 0).then_some(row % modulus))))
    };
    let columns: [(&str, ArrayRef); 9] = [
        ("seq", Arc::new(UInt32Array::from_iter_values(0..rows.len() as u32))),
        ("o", Arc::new(rows.iter().map(|row| row.treated).collect::<BooleanArray>())),
        ("p", floats(|row| row.propensity)),
        ("e", floats(|row| row.error)),
        ("i", floats(|row| row.imputed)),
        ("x", floats(|row| row.x)),
        ("y", floats(|row| row.y)),
        ("c", cluster(7)),
        ("d", cluster(3)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

/// A planned call, and its arguments for all rows.
struct Planned {
    call: &'static str,
    aggregate: Arc<AggregateFunctionExpr>,
    arguments: Vec<ArrayRef>,
}

fn find_aggregate(plan: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    match (plan.as_ref() as &dyn std::any::Any).downcast_ref() {
        Some(aggregate) => Some(aggregate),
        None => plan.children().into_iter().find_map(find_aggregate),
    }
}

/// The calls, planned over these rows.
async fn plan(calls: &[&'static str], rows: &[Row]) -> Vec<Planned> {
    let ctx = session_with(SessionConfig::new().with_target_partitions(1), vec![vec![batch(rows)]]);
    let stored = "(SELECT balance_state(o, p, x, y) AS state FROM log GROUP BY seq)";
    let directed = "log CROSS JOIN (SELECT alarm_directions(o, p, x, y) AS directions FROM log)";
    let days = format!("(SELECT seq, alarm_state(o, p, directions, x, y) AS day FROM {directed} GROUP BY seq)");
    let (of_days, others): (Vec<&str>, Vec<&str>) = calls.iter().partition(|call| call.contains("(seq, day"));
    let (of_states, of_rows): (Vec<&str>, Vec<&str>) = others.iter().partition(|call| call.contains("(state)"));
    let mut plans = vec![];
    for (calls, from) in
        [(of_rows, directed), (of_states, stored), (of_days, &days)].into_iter().filter(|(calls, _)| !calls.is_empty())
    {
        let plan = ctx.sql(&format!("SELECT {} FROM {from}", calls.join(", "))).await.unwrap();
        let plan = plan.create_physical_plan().await.unwrap();
        let exec = find_aggregate(&plan).unwrap();
        let input = collect(Arc::clone(exec.input()), ctx.task_ctx()).await.unwrap();
        let input = concat_batches(&exec.input().schema(), &input).unwrap();
        assert_eq!((calls.len(), rows.len()), (exec.aggr_expr().len(), input.num_rows()));
        for (call, aggregate) in calls.into_iter().zip(exec.aggr_expr()) {
            let expressions = aggregate.expressions();
            let value = |argument: &Arc<dyn PhysicalExpr>| argument.evaluate(&input)?.into_array(rows.len());
            let arguments = expressions.iter().map(value).collect::<Result<_>>().unwrap();
            plans.push(Planned { call, aggregate: Arc::clone(aggregate), arguments });
        }
    }
    plans
}

const OF_RANK: [&str; 9] =
    ["statistic", "dof", "p_value", "p_values", "worst_component", "worst_z", "lambda", "correlation", "degrees"];

/// What independent rows have from groups that they are put into by their place.
const OF_CHANCE: [&str; 4] = ["std_error", "lower", "upper", "degrees"];

impl Planned {
    fn slice(&self, rows: Range<usize>) -> Vec<ArrayRef> {
        self.arguments.iter().map(|array| array.slice(rows.start, rows.len())).collect()
    }

    fn take(&self, rows: &[usize]) -> Vec<ArrayRef> {
        let rows = UInt32Array::from_iter_values(rows.iter().map(|&row| row as u32));
        self.arguments.iter().map(|array| take(array, &rows, None).unwrap()).collect()
    }

    fn accumulator(&self) -> Box<dyn Accumulator> {
        self.aggregate.create_accumulator().unwrap()
    }

    /// The result of one pass.
    fn of(&self, rows: &[usize]) -> ScalarValue {
        let mut whole = self.accumulator();
        whole.update_batch(&self.take(rows)).unwrap();
        whole.evaluate().unwrap()
    }

    fn function(&self) -> &str {
        self.call.split('(').next().unwrap()
    }

    /// Compares each field and element, to a part in 1e9 of itself and in 1e12 of the largest number, squared where the
    /// function squares, that its sums may hold.
    fn check(&self, kind: Kind, result: &ScalarValue, expected: &ScalarValue, what: &str) {
        let largest = kind.weight * (kind.offset + 4.0);
        let squares = ["bmse", "balance", "_v2", "variance", "lambda_opt"];
        let scale = if squares.iter().any(|part| self.call.contains(part)) { largest * largest } else { largest };
        // Differences of covariates and of propensities have no weight in them.
        let (near, slack) = match self.function() {
            "smd" | "variance_ratio" if kind.offset > 0.0 => (1e-5, 1e-5),
            "smd" | "variance_ratio" | "ks" | "nll" | "ppl" | "auc" | "ece" | "calibration_curve" | "sv" => {
                (1e-9, 1e-9)
            }
            _ => (1e-9, 1e-12 * scale),
        };
        let (result, expected) = (fields(result), fields(expected));
        assert_eq!(result.len(), expected.len(), "{what}: {}", self.call);
        for ((name, actual), (_, wanted)) in result.iter().zip(&expected) {
            // Which row is the origin, and so the sums, is left to chance, and so is the order of the keys: what is told by them is compared, as
            // `balance_test`.
            if ["origin", "sums", "keys", "clusters"].contains(&name.as_str()) {
                continue;
            }
            if self.call.starts_with("imbalance_bias(o") && OF_CHANCE.contains(&name.as_str()) {
                continue;
            }
            // The likeliest shift of rare treatments is not determined, nor which of two equal elements is off.
            let of_alarm = self.function() == "balance_alarm";
            if of_alarm && (kind.is_extreme() || name == "element") {
                continue;
            }
            // The rank of a covariance, and what is divided by it, are not determined where elements hardly differ.
            let of_rank = OF_RANK.contains(&name.as_str());
            if of_rank && kind.is_extreme() {
                continue;
            }
            let (near, slack) = if of_rank || of_alarm { (1e-6, 1e-6) } else { (near, slack) };
            let close = match (actual, wanted) {
                (None, None) => true,
                (Some(a), Some(w)) => a == w || (a - w).abs() <= near * w.abs() + slack,
                _ => false,
            };
            assert!(close, "{what}: {name} of {} is {actual:?}, not {wanted:?}, {kind:?}", self.call);
        }
    }
}

impl Kind {
    fn is_extreme(self) -> bool {
        self.offset > 0.0 || self.weight > 20.0
    }
}

/// Numbers with the names of the fields that hold them, and for each list its length.
fn fields(value: &ScalarValue) -> Vec<(String, Option<f64>)> {
    let mut found = vec![];
    flatten("", &value.to_array().unwrap(), &mut found);
    found
}

fn flatten(name: &str, array: &ArrayRef, found: &mut Vec<(String, Option<f64>)>) {
    for row in 0..array.len() {
        match array.data_type() {
            _ if array.is_null(row) => found.push((name.into(), None)),
            DataType::Float64 => found.push((name.into(), Some(array.as_primitive::<Float64Type>().value(row)))),
            DataType::UInt16 => {
                found.push((name.into(), Some(f64::from(array.as_primitive::<UInt16Type>().value(row)))))
            }
            DataType::Utf8 => {
                let letters = array.as_string::<i32>().value(row).bytes().map(f64::from);
                found.push((name.into(), Some(letters.sum())));
            }
            DataType::UInt32 => {
                found.push((name.into(), Some(f64::from(array.as_primitive::<UInt32Type>().value(row)))))
            }
            DataType::UInt64 => found.push((name.into(), Some(array.as_primitive::<UInt64Type>().value(row) as f64))),
            DataType::List(_) => {
                let elements = array.as_list::<i32>().value(row);
                found.push((format!("length of {name}"), Some(elements.len() as f64)));
                flatten(name, &elements, found);
            }
            DataType::Struct(fields) => {
                for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                    flatten(field.name(), &column.slice(row, 1), found);
                }
            }
            other => panic!("{name} is a {other}"),
        }
    }
}

fn arrays(state: &[ScalarValue]) -> Vec<ArrayRef> {
    state.iter().map(|value| value.to_array().unwrap()).collect()
}

/// Tries `test` on random populations, and whatever else `strategy` makes.
fn run<S: Strategy>(cases: u32, strategy: S, test: impl Fn(Kind, &[Planned], S::Value)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 64, ..Default::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(Default::default()));
    let result = runner.run(&(population(), strategy), |((kind, rows), value)| {
        test(kind, &runtime.block_on(plan(CALLS, &rows)), value);
        Ok(())
    });
    result.unwrap();
}

#[test]
fn every_aggregate_is_tried() {
    let tried: HashSet<_> = CALLS.iter().map(|call| call.split('(').next().unwrap()).collect();
    let all = all_aggregates();
    let missing: Vec<_> = all.iter().map(|aggregate| aggregate.name()).filter(|name| !tried.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn pieces_merged_in_any_order_are_the_whole() {
    let strategy = (vec(0..=ROWS, 0..6), vec(any::<prop::sample::Index>(), 16), any::<bool>());
    run(48, strategy, |kind, plans, (mut cuts, order, at_once)| {
        cuts.extend([0, ROWS]);
        cuts.sort_unstable();
        for planned in plans {
            let mut states = vec![];
            for piece in cuts.windows(2) {
                let mut part = planned.accumulator();
                let middle = piece[0].midpoint(piece[1]);
                part.update_batch(&planned.slice(piece[0]..middle)).unwrap();
                part.update_batch(&planned.slice(middle..piece[1])).unwrap();
                states.push(arrays(&part.state().unwrap()));
            }
            for pair in order.chunks(2).take(states.len() - 1) {
                let one = states.swap_remove(pair[0].index(states.len()));
                let Some(other) = (!states.is_empty()).then(|| states.swap_remove(pair[1].index(states.len()))) else {
                    states.push(one);
                    break;
                };
                let mut merged = planned.accumulator();
                if at_once {
                    let both = one.iter().zip(&other).map(|(a, b)| concat(&[a.as_ref(), b.as_ref()]).unwrap());
                    merged.merge_batch(&both.collect::<Vec<_>>()).unwrap();
                } else {
                    merged.merge_batch(&one).unwrap();
                    merged.merge_batch(&other).unwrap();
                }
                states.push(arrays(&merged.state().unwrap()));
            }
            let mut last = planned.accumulator();
            states.iter().for_each(|state| last.merge_batch(state).unwrap());
            let whole = planned.of(&(0..ROWS).collect::<Vec<_>>());
            planned.check(kind, &last.evaluate().unwrap(), &whole, "merged");
        }
    });
}

#[test]
fn groups_are_what_their_rows_give_alone() {
    const GROUPS: usize = 5;
    let kept = prop::option::of(vec(prop::option::weighted(0.9, prop::bool::weighted(0.8)), ROWS));
    let strategy = (vec(0..GROUPS, ROWS), kept, 0..ROWS, 0..=GROUPS, any::<bool>());
    run(48, strategy, |kind, plans, (groups, kept, cut, first, convert)| {
        let filter = kept.clone().map(BooleanArray::from);
        let filter = |rows: Range<usize>| filter.as_ref().map(|filter| filter.slice(rows.start, rows.len()));
        for planned in plans {
            let create = || planned.aggregate.create_groups_accumulator().unwrap();
            let mut whole = create();
            whole.update_batch(&planned.slice(0..cut), &groups[..cut], filter(0..cut).as_ref(), GROUPS).unwrap();
            let rest = cut..ROWS;
            if convert {
                let state = create().convert_to_state(&planned.slice(rest.clone()), filter(rest).as_ref()).unwrap();
                whole.merge_batch(&state, &groups[cut..], GROUPS).unwrap();
            } else {
                let mut part = create();
                let filter = filter(rest.clone());
                part.update_batch(&planned.slice(rest), &groups[cut..], filter.as_ref(), GROUPS).unwrap();
                let firsts = part.state(EmitTo::First(first)).unwrap();
                whole.merge_batch(&firsts, &(0..first).collect::<Vec<_>>(), GROUPS).unwrap();
                let others = part.state(EmitTo::All).unwrap();
                whole.merge_batch(&others, &(first..GROUPS).collect::<Vec<_>>(), GROUPS).unwrap();
            }
            let results = [whole.evaluate(EmitTo::First(first)).unwrap(), whole.evaluate(EmitTo::All).unwrap()];
            let results = concat(&[results[0].as_ref(), results[1].as_ref()]).unwrap();
            assert_eq!(results.len(), GROUPS);
            for group in 0..GROUPS {
                let counts = |row: &usize| kept.as_ref().is_none_or(|kept| kept[*row] == Some(true));
                let rows: Vec<_> = (0..ROWS).filter(|&row| groups[row] == group).filter(counts).collect();
                let result = ScalarValue::try_from_array(&results, group).unwrap();
                planned.check(kind, &result, &planned.of(&rows), "grouped");
            }
        }
    });
}

#[test]
fn rows_taken_out_are_forgotten() {
    let order = Just((0..ROWS).collect::<Vec<_>>()).prop_shuffle();
    let strategy = (order, vec(1..12usize, 8), 0..=ROWS);
    run(48, strategy, |kind, plans, (order, sizes, left)| {
        let (staying, leaving) = order.split_at(left);
        let mut retracted = 0;
        for planned in plans.iter().filter(|planned| planned.accumulator().supports_retract_batch()) {
            retracted += 1;
            let mut accumulator = planned.accumulator();
            let mut batches = sizes.iter().cycle();
            let mut cut = |mut rows: &[usize], visit: &mut dyn FnMut(&[usize])| {
                while !rows.is_empty() {
                    let (batch, rest) = rows.split_at((*batches.next().unwrap()).min(rows.len()));
                    visit(batch);
                    rows = rest;
                }
            };
            let all: Vec<_> = (0..ROWS).collect();
            cut(&all, &mut |rows| accumulator.update_batch(&planned.take(rows)).unwrap());
            cut(leaving, &mut |rows| accumulator.retract_batch(&planned.take(rows)).unwrap());
            planned.check(kind, &accumulator.evaluate().unwrap(), &planned.of(staying), "retracted");
            cut(staying, &mut |rows| accumulator.retract_batch(&planned.take(rows)).unwrap());
            assert_eq!(accumulator.evaluate().unwrap(), planned.of(&[]), "{}", planned.call);
        }
        assert!(retracted > 25, "{retracted}");
    });
}

#[test]
fn windows_are_their_rows() {
    run(16, vec((1..8usize, 0..8usize), 6..20), |kind, plans, steps| {
        for planned in plans {
            let mut sliding = planned.aggregate.create_sliding_accumulator().unwrap();
            let (mut from, mut to) = (0, 0);
            for &(add, retract) in &steps {
                let end = (to + add).min(ROWS);
                sliding.update_batch(&planned.slice(to..end)).unwrap();
                to = end;
                let start = (from + retract).min(to);
                sliding.retract_batch(&planned.slice(from..start)).unwrap();
                from = start;
                let rows: Vec<_> = (from..to).collect();
                planned.check(kind, &sliding.evaluate().unwrap(), &planned.of(&rows), "window");
            }
        }
    });
}

#[tokio::test]
async fn a_merge_fails_where_one_pass_does() {
    let row = |error: f64, x: f64| Row {
        treated: Some(true),
        propensity: Some(0.5),
        error: Some(error),
        imputed: Some(0.0),
        x: Some(x),
        y: Some(0.0),
    };
    let cases: [(&[&'static str], [Row; 2]); 4] = [
        (&["ips(o, p, e)", "dr(o, p, e, i)"], [row(8e307, 0.0), row(8e307, 0.0)]),
        (&["ips_interval(o, p, e)", "snips_dr(o, p, e, i)"], [row(6e153, 0.0), row(6e153, 0.0)]),
        (&["bmse(o, p, x, y)"], [row(1.0, 6e153), row(1.0, -6e153)]),
        // Of these, the fourth powers are too much.
        (
            &["balance_test(o, p, x, y)", "balance_state(o, p, x, y)", "balance_merge(state)"],
            [row(1.0, 4.8e76), row(1.0, -4.8e76)],
        ),
    ];
    for (calls, rows) in cases {
        for planned in plan(calls, &rows).await {
            let mut last = planned.accumulator();
            let mut failure = None;
            for row in 0..2 {
                let mut part = planned.accumulator();
                part.update_batch(&planned.slice(row..row + 1)).unwrap();
                let state = arrays(&part.state().unwrap());
                failure = last.merge_batch(&state).err();
            }
            let (pieces, whole) = (failure, planned.accumulator().update_batch(&planned.arguments).err());
            for failure in [pieces, whole] {
                let message = failure.unwrap_or_else(|| panic!("{} gave a result", planned.call)).to_string();
                assert!(message.contains("the sums leave the range of a 64-bit float"), "{message}");
            }
        }
    }
}
