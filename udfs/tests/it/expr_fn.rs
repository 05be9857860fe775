//! Calls built in Rust: every function has a constructor, and it gives what SQL gives.

use std::collections::BTreeMap;
use std::sync::Arc;

use counterweight_udfs::expr_fn::*;
use counterweight_udfs::{all_aggregates, all_scalars};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::DataType;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{Expr, ExprFunctionExt};
use datafusion::prelude::{SessionConfig, SessionContext, cast, col, lit};

use crate::sql::session;

/// Calls of every function beside the SQL that says the same; the first of a function has all of its arguments.
fn calls() -> Vec<(Expr, &'static str)> {
    let (o, p, before) = (|| col("o"), || col("p"), || col("q"));
    let (e, i) = (|| col("e"), || col("i"));
    let phi = || vec![col("x"), col("y")];
    let level = || Some(lit(0.8));
    let state = || balance_state(o(), p(), phi());
    vec![
        (bmse(o(), p(), phi()), "bmse(o, p, x, y)"),
        (bmse(o(), p(), vec![]), "bmse(o, p)"),
        (bmse(o(), p(), vec![col("l")]), "bmse(o, p, l)"),
        (bmse_unbiased(o(), p(), phi()), "bmse_unbiased(o, p, x, y)"),
        (bmse_noise_floor(o(), p(), phi()), "bmse_noise_floor(o, p, x, y)"),
        (balance_vector(o(), p(), phi()), "balance_vector(o, p, x, y)"),
        (balance_test(o(), p(), phi()), "balance_test(o, p, x, y)"),
        (state(), "balance_state(o, p, x, y)"),
        (balance_merge(col("s")), "balance_merge(s)"),
        (bmse_change(o(), before(), p(), phi()), "bmse_change(o, q, p, x, y)"),
        (imbalance(o(), p(), phi()), "imbalance(o, p, x, y)"),
        (imbalance_both(o(), p(), phi()), "imbalance_both(o, p, x, y)"),
        (imbalance_bias(o(), p(), e(), vec![]), "imbalance_bias(o, p, e)"),
        (imbalance_bias_dr(o(), p(), e(), i(), phi()), "imbalance_bias_dr(o, p, e, i, x, y)"),
        (alarm_directions(o(), p(), phi()), "alarm_directions(o, p, x, y)"),
        (alarm_state(o(), p(), col("a"), phi()), "alarm_state(o, p, a, x, y)"),
        (
            balance_alarm(
                cast(col("x") * lit(10), DataType::Int64),
                col("w"),
                Some(lit(0.2)),
                Some(lit(0.05)),
                Some(lit(14)),
            ),
            "balance_alarm(CAST(x * 10 AS BIGINT), w, 0.2, 0.05, 14)",
        ),
        (
            balance_alarm(cast(col("x") * lit(10), DataType::Int64), col("w"), None, None, None),
            "balance_alarm(CAST(x * 10 AS BIGINT), w)",
        ),
        (smd(o(), p(), phi()), "smd(o, p, x, y)"),
        (variance_ratio(o(), p(), vec![col("x")]), "variance_ratio(o, p, x)"),
        (ks(o(), p(), col("x")), "ks(o, p, x)"),
        (naive(o(), e()), "naive(o, e)"),
        (naive_treated(o(), e()), "naive_treated(o, e)"),
        (eib(o(), e(), i()), "eib(o, e, i)"),
        (ips(o(), p(), e()), "ips(o, p, e)"),
        (snips(o(), p(), e()), "snips(o, p, e)"),
        (dr(o(), p(), e(), i()), "dr(o, p, e, i)"),
        (snips_dr(o(), p(), e(), i()), "snips_dr(o, p, e, i)"),
        (ips_clipped(o(), p(), e(), lit(2)), "ips_clipped(o, p, e, 2)"),
        (switch_dr(o(), p(), e(), i(), lit(3)), "switch_dr(o, p, e, i, 3)"),
        (dr_os(o(), p(), e(), i(), lit(4.5)), "dr_os(o, p, e, i, 4.5)"),
        (ips_v2(o(), p(), e(), lit(0.1), phi()), "ips_v2(o, p, e, 0.1, x, y)"),
        (dr_v2(o(), p(), e(), i(), lit(0.1), phi()), "dr_v2(o, p, e, i, 0.1, x, y)"),
        (naive_interval(o(), e(), level()), "naive_interval(o, e, 0.8)"),
        (naive_treated_interval(o(), e(), level()), "naive_treated_interval(o, e, 0.8)"),
        (eib_interval(o(), e(), i(), level()), "eib_interval(o, e, i, 0.8)"),
        (ips_interval(o(), p(), e(), level()), "ips_interval(o, p, e, 0.8)"),
        (ips_interval(o(), p(), e(), None), "ips_interval(o, p, e)"),
        (snips_interval(o(), p(), e(), level()), "snips_interval(o, p, e, level => 0.8)"),
        (dr_interval(o(), p(), e(), i(), level()), "dr_interval(o, p, e, i, 0.8)"),
        (snips_dr_interval(o(), p(), e(), i(), level()), "snips_dr_interval(o, p, e, i, 0.8)"),
        (ips_clipped_interval(o(), p(), e(), lit(2), level()), "ips_clipped_interval(o, p, e, 2, 0.8)"),
        (switch_dr_interval(o(), p(), e(), i(), lit(3), level()), "switch_dr_interval(o, p, e, i, 3, 0.8)"),
        (dr_os_interval(o(), p(), e(), i(), lit(4.5), level()), "dr_os_interval(o, p, e, i, 4.5, 0.8)"),
        (ips_variance(o(), p(), e()), "ips_variance(o, p, e)"),
        (dr_variance(o(), p(), e(), i()), "dr_variance(o, p, e, i)"),
        (lambda_opt(o(), p(), e(), phi()), "lambda_opt(o, p, e, x, y)"),
        (lambda_opt_dr(o(), p(), e(), i(), phi()), "lambda_opt_dr(o, p, e, i, x, y)"),
        (ess(o(), p()), "ess(o, p)"),
        (propensity_profile(o(), p(), Some(lit(0.3)), Some(lit(0.6))), "propensity_profile(o, p, 0.3, 0.6)"),
        (propensity_profile(o(), p(), None, Some(lit(0.6))), "propensity_profile(o, p, 0.01, 0.6)"),
        (propensity_profile(o(), p(), None, None), "propensity_profile(o, p)"),
        (nll(o(), p()), "nll(o, p)"),
        (ppl(o(), p()), "ppl(o, p)"),
        (auc(o(), p()), "auc(o, p)"),
        (ece(o(), p(), Some(lit(3)), Some(lit("mass"))), "ece(o, p, 3, 'mass')"),
        (ece(o(), p(), None, Some(lit("mass"))), "ece(o, p, 10, 'mass')"),
        (ece(o(), p(), Some(lit(3)), None), "ece(o, p, 3, 'width')"),
        (calibration_curve(o(), p(), Some(lit(3)), Some(lit("width"))), "calibration_curve(o, p, 3, 'width')"),
        (calibration_curve(o(), p(), None, None), "calibration_curve(o, p)"),
        (sv(p()), "sv(p)"),
        (mis(p()), "mis(p)"),
        (squared_error(p(), e()), "squared_error(p, e)"),
        (log_loss(p(), o()), "log_loss(p, o)"),
        (inverse_propensity_weight(o(), p()), "inverse_propensity_weight(o, p)"),
        (balance_weight(o(), p()), "balance_weight(o, p)"),
        (mrdr_weight(o(), p()), "mrdr_weight(o, p)"),
        (clip_propensity(p(), lit(0.3), lit(0.6)), "clip_propensity(p, 0.3, 0.6)"),
        (skipped_for(o(), e(), phi()), "skipped_for(o, e, x, y)"),
        (refused_for(o(), lit(2.0), phi()), "refused_for(o, 2.0, x, y)"),
        (treatment(o(), col("day"), Some(col("y")), Some(lit(16))), "treatment(o, day, y, 16)"),
        (treatment(o(), col("day"), None, Some(lit(16))), "treatment(o, day, NULL, 16)"),
        (treatment(o(), col("day"), None, None), "treatment(o, day)"),
        (
            balance_verdict(
                imbalance(o(), p(), phi()),
                Some(imbalance_bias(o(), p(), e(), vec![])),
                Some(lit(0.2)),
                Some(lit(0.3)),
                Some(lit(0.9)),
            ),
            "balance_verdict(imbalance(o, p, x, y), imbalance_bias(o, p, e), 0.2, 0.3, 0.9)",
        ),
        (balance_verdict(imbalance(o(), p(), phi()), None, None, None, None), "balance_verdict(imbalance(o, p, x, y))"),
        (bmse_of(col("s")), "bmse_of(s)"),
        (bmse_of(state()), "bmse_of(balance_state(o, p, x, y))"),
        (balance_vector_of(col("s")), "balance_vector_of(s)"),
        (balance_test_of(col("s")), "balance_test_of(s)"),
        (balance_drift(col("s"), col("z")), "balance_drift(s, z)"),
    ]
}

const LOG: &str = "
    SELECT log.*, [x, y] AS l, s, z, a, alarm_state(o, p, a, x, y) OVER () AS w
    FROM (VALUES (1, true, 0.5, 0.4, 0.25, 0.5, 1.0, 3.0), (1, true, 0.8, 0.5, 0.5, 0.25, -2.0, 1.0),
                 (1, false, 0.5, 0.6, NULL, 0.5, 0.5, -1.0), (2, false, 0.2, 0.3, NULL, 0.125, 1.5, 2.0),
                 (2, true, 0.3, 0.2, 0.75, 0.5, -1.0, 4.0), (2, false, 0.7, 0.4, NULL, 0.25, 2.5, -3.0))
           AS log (day, o, p, q, e, i, x, y)
    CROSS JOIN (SELECT balance_state(o, p, p) AS s FROM (VALUES (true, 0.5), (false, 0.25)) AS t (o, p))
    CROSS JOIN (SELECT balance_state(o, p, p) AS z FROM (VALUES (false, 0.5), (true, 0.75)) AS t (o, p))
    CROSS JOIN (SELECT alarm_directions(o, p, p, 2 * p) AS a FROM (VALUES (false, 0.5), (true, 0.75)) AS t (o, p))";

async fn log() -> (SessionContext, DataFrame) {
    let ctx = session(SessionConfig::new().with_target_partitions(2));
    let log = ctx.sql(LOG).await.unwrap().cache().await.unwrap();
    ctx.register_table("log", log.clone().into_view()).unwrap();
    (ctx, log)
}

async fn collect(frame: DataFrame) -> RecordBatch {
    let batches = frame.collect().await.unwrap();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// The function that an expression calls, and where it lives.
fn function(call: &Expr) -> (&str, *const ()) {
    match call {
        Expr::AggregateFunction(call) => (call.func.name(), Arc::as_ptr(&call.func).cast()),
        Expr::ScalarFunction(call) => (call.func.name(), Arc::as_ptr(&call.func).cast()),
        other => panic!("{other} is no call"),
    }
}

fn is_aggregate(call: &Expr) -> bool {
    match call {
        Expr::AggregateFunction(_) => true,
        Expr::ScalarFunction(call) => call.args.iter().any(is_aggregate),
        _ => false,
    }
}

#[test]
fn every_function_has_a_constructor_that_calls_its_one_instance() {
    let calls = calls();
    let constructed: BTreeMap<_, _> = calls.iter().map(|(call, _)| function(call)).collect();
    let aggregates = all_aggregates();
    let scalars = all_scalars();
    let aggregates = aggregates.iter().map(|udaf| (udaf.name(), Arc::as_ptr(udaf).cast::<()>()));
    let scalars = scalars.iter().map(|udf| (udf.name(), Arc::as_ptr(udf).cast::<()>()));
    assert_eq!(constructed, aggregates.chain(scalars).collect());
    let ctx = session(SessionConfig::new());
    for udaf in all_aggregates() {
        assert!(Arc::ptr_eq(&udaf, &ctx.state().aggregate_functions()[udaf.name()]), "{}", udaf.name());
    }
}

#[tokio::test]
async fn a_constructed_call_gives_what_sql_gives() {
    let (ctx, log) = log().await;
    for (call, sql) in calls() {
        let name = function(&call).0.to_owned();
        let query = ctx.sql(&format!("SELECT {sql} AS result FROM log")).await.unwrap();
        let frame = match &call {
            call if is_aggregate(call) && name != "bmse_of" => log.clone().aggregate(vec![], vec![call.clone()]),
            Expr::ScalarFunction(of) if is_aggregate(&call) => {
                let state = of.args[0].clone().alias("state");
                log.clone().aggregate(vec![], vec![state]).unwrap().select(vec![bmse_of(col("state"))])
            }
            call => log.clone().select(vec![call.clone()]),
        };
        let (frame, query) = (collect(frame.unwrap()).await, collect(query).await);
        assert!(sql.starts_with(&format!("{name}(")), "{sql}");
        assert_eq!(frame.columns(), query.columns(), "{sql}");
        assert!(query.column(0).null_count() < query.num_rows(), "{sql} gives nothing");
    }
}

#[tokio::test]
async fn a_constructed_call_is_filtered_and_named() {
    let (ctx, log) = log().await;
    let calls = vec![
        bmse(col("o"), col("p"), vec![col("x")]).filter(col("p").gt(lit(0.3))).build().unwrap().alias("bmse"),
        ips_interval(col("o"), col("p"), col("e"), None).filter(col("x").lt(lit(2))).build().unwrap().alias("ips"),
    ];
    let frame = log.aggregate(vec![col("day")], calls).unwrap().sort_by(vec![col("day")]).unwrap();
    let query = "SELECT day, bmse(o, p, x) FILTER (WHERE p > 0.3) AS bmse,
                        ips_interval(treated => o, propensity => p, error => e) FILTER (WHERE x < 2) AS ips
                 FROM log GROUP BY day ORDER BY day";
    let (frame, query) = (collect(frame).await, collect(ctx.sql(query).await.unwrap()).await);
    assert_eq!(frame.columns(), query.columns());
    let names = |batch: &RecordBatch| -> Vec<String> {
        batch.schema().fields().iter().map(|field| field.name().clone()).collect()
    };
    assert_eq!(names(&frame), names(&query));
}
