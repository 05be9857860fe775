//! What verdicts promise: at which effects and errors each is given, and how often over simulated logs.

use datafusion::prelude::SessionContext;

use crate::sql::{config, numbers, session, session_with};
use crate::worlds::{Part, Row, independent, logs, of_users, of_users_and_items, tilted, truth_of_tilted};

/// A verdict in words, of effects given by hand: estimates, errors, degrees, p-values and the share of the largest group;
/// and estimate, error and degrees of the bias.
async fn verdict(imbalance: &str, share: &str, bias: &str, rest: &str) -> String {
    let sql = format!(
        "SELECT concat_ws(' ', v['verdict'], v['effect'], CAST(v['element'] AS VARCHAR),
           CAST(v['rows_to_decide'] AS VARCHAR)) AS v
         FROM (SELECT balance_verdict(named_struct('n', 1000, {imbalance}, 'clusters', NULL, 'largest_share', {share}),
                                      {bias}{rest}) AS v)"
    );
    let ctx = session(Default::default());
    let batches = ctx.sql(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).collect().await.unwrap();
    let text = datafusion::arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
    text.lines().nth(3).unwrap().trim_matches(['|', ' ']).to_string()
}

fn effects(estimate: &str, std_error: &str, degrees: &str, p_value: &str) -> String {
    format!(
        "'estimate', {estimate}, 'std_error', {std_error}, 'lower', {estimate}, 'upper', {estimate}, \
         'degrees', {degrees}, 'p_value', {p_value}"
    )
}

fn bias(estimate: &str, std_error: &str) -> String {
    format!(
        "named_struct('n', 1000, 'estimate', {estimate}, 'std_error', {std_error}, 'lower', {estimate}, 'upper', \
         {estimate}, 'degrees', 1e9, 'mean_error', 1.0, 'ess', 100.0)"
    )
}

#[tokio::test]
async fn a_verdict_follows_from_effects_their_errors_and_the_tolerances() {
    let many = |estimate: &str, std_error: &str, p_value: &str| effects(estimate, std_error, "[1e9, 1e9]", p_value);
    // The quantile of 5 % is 1.645, that of 1 % for two effects 2.575, and for three 2.712.
    for (imbalance, share, of_bias, rest, expected) in [
        (many("[0.0, 0.05]", "[0.03, 0.03]", "[1, 1]"), "NULL", "NULL".into(), "", "balanced imbalance 2"),
        (many("[0.0, 0.051]", "[0.03, 0.03]", "[1, 1]"), "NULL", "NULL".into(), "", "undecided imbalance 2 2315"),
        (many("[0.0, -0.051]", "[0.03, 0.03]", "[1, 1]"), "NULL", "NULL".into(), ", 0.2", "balanced imbalance 2"),
        (many("[0.178, 0.0]", "[0.03, 0.03]", "[0.009, 1]"), "NULL", "NULL".into(), "", "unbalanced imbalance 1"),
        (many("[-0.178, 0.0]", "[0.03, 0.03]", "[0.009, 1]"), "NULL", "NULL".into(), "", "unbalanced imbalance 1"),
        (many("[0.177, 0.0]", "[0.03, 0.03]", "[0.009, 1]"), "NULL", "NULL".into(), "", "undecided imbalance 1 1771"),
        // Right propensities would explain it.
        (many("[0.5, 0.0]", "[0.03, 0.03]", "[0.011, 1]"), "NULL", "NULL".into(), "", "undecided imbalance 1 66"),
        (
            many("[0.5, 0.0]", "[0.03, 0.03]", "[0.011, 1]"),
            "NULL",
            "NULL".into(),
            ", 0.1, 0.05, 0.98",
            "unbalanced imbalance 1",
        ),
        (many("[0.0, 0.0]", "[0.03, 0.03]", "[1, 1]"), "0.11", "NULL".into(), "", "undecided cluster"),
        (many("[0.0, 0.0]", "[0.03, 0.03]", "[1, 1]"), "0.1", "NULL".into(), "", "balanced imbalance 1"),
        (many("[0.0, 0.05]", "[0.03, NULL]", "[1, 1]"), "NULL", "NULL".into(), "", "undecided imbalance 2"),
        (many("[0.0, NULL]", "[0.03, NULL]", "[1, NULL]"), "NULL", "NULL".into(), "", "balanced imbalance 1"),
        (many("[0.0, 0.05]", "[0.03, 0.03]", "[1, 1]"), "NULL", bias("0.02", "0.01"), "", "balanced imbalance 2"),
        (many("[0.0, 0.05]", "[0.03, 0.03]", "[1, 1]"), "NULL", bias("0.04", "0.01"), "", "undecided bias 6175"),
        (many("[0.0, 0.05]", "[0.03, 0.03]", "[1, 0.01]"), "NULL", bias("0.08", "0.01"), "", "unbalanced bias"),
        (many("[0.0, 0.05]", "[0.03, 0.03]", "[1, 0.02]"), "NULL", bias("0.08", "0.01"), "", "undecided bias 1402"),
        (many("[0.0, 0.05]", "[0.03, 0.03]", "[1, 0.01]"), "NULL", bias("0.077", "0.01"), "", "undecided bias 1731"),
        (many("[0.0, 0.05]", "[0.03, 0.03]", "[1, 1]"), "NULL", bias("NULL", "NULL"), "", "undecided bias"),
        // Of few degrees: Student's quantile of 5 % is 2.920 with two.
        (effects("[0.0]", "[0.034]", "[2.0]", "[1]"), "NULL", "NULL".into(), "", "balanced imbalance 1"),
        (effects("[0.0]", "[0.035]", "[2.0]", "[1]"), "NULL", "NULL".into(), "", "undecided imbalance 1 1732"),
        // An error of 0.
        (effects("[0.05]", "[0.0]", "[2.0]", "[1]"), "NULL", "NULL".into(), "", "balanced imbalance 1"),
        (effects("[0.15]", "[0.0]", "[2.0]", "[0]"), "NULL", "NULL".into(), "", "unbalanced imbalance 1"),
    ] {
        assert_eq!(verdict(&imbalance, share, &of_bias, rest).await, expected, "{imbalance}, {share}, {of_bias}{rest}");
    }
}

fn session_of(world: u64, count: u64, make: impl Fn(&mut rand::rngs::StdRng) -> Vec<Row>) -> SessionContext {
    let (first, second): (Vec<_>, Vec<_>) =
        logs(world, count, make).into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    let batches = |part: Vec<(usize, _)>| part.into_iter().map(|(_, batch)| batch).collect();
    session_with(config(2, 8192), vec![batches(first), batches(second)])
}

/// The shares of logs for which each condition holds.
async fn shares(ctx: &SessionContext, calls: &str, conditions: &[String]) -> Vec<f64> {
    let shares = conditions.iter().map(|holds| format!("avg(CAST({holds} AS DOUBLE))")).collect::<Vec<_>>();
    let sql = format!("SELECT {} FROM (SELECT {calls} FROM log GROUP BY log)", shares.join(", "));
    let found = numbers(ctx, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    found[0].iter().map(|share| share.unwrap_or_else(|| panic!("{sql}"))).collect()
}

/// How many times the standard deviation of a binomial share a share may be above a level.
const SIGMAS: f64 = 4.5;

#[tokio::test]
async fn the_exact_tail_rejects_right_propensities_no_more_often_than_it_says() {
    let worlds: [(u64, &[Part], bool); 6] = [
        (4000, &[Part(1000, 0.003, 1.0)], false),
        (4000, &[Part(100, 0.001, 1.0)], false),
        (2000, &[Part(500, 0.02, 1.0)], false),
        (2000, &[Part(200, 0.4, 1.0)], false),
        (150, &[Part(500, 0.002, 1.0), Part(20_000, 0.3, 0.0)], true),
        (400, &[Part(100, 0.001, 10.0), Part(4_000, 0.5, 0.1)], true),
    ];
    for (world, (count, parts, with_phi)) in (1..).zip(worlds) {
        let ctx = session_of(world, count, |rng| independent(rng, parts));
        let call = if with_phi { "imbalance(o, p, x)['p_value'] AS p" } else { "imbalance(o, p)['p_value'] AS p" };
        let levels = [0.2, 0.05, 0.01, 1e-3, 1e-4];
        let conditions = levels.map(|level| format!("least(p[1], coalesce(p[2], 1)) <= {level}"));
        for (level, share) in levels.into_iter().zip(shares(&ctx, call, &conditions).await) {
            let most = level + SIGMAS * f64::sqrt(level * (1.0 - level) / count as f64);
            assert!(share <= most, "{parts:?}: p ≤ {level} in {share}");
        }
    }
}

#[tokio::test]
async fn clustered_intervals_hold_where_independent_ones_do_not() {
    let covers = |name: &str, truth: f64, list: bool| {
        let at = if list { "[1]" } else { "" };
        format!("{name}['lower']{at} <= {truth} AND {truth} <= {name}['upper']{at}")
    };
    let zipf = |users: usize| (1..=users).map(|user| 4000 / user).collect::<Vec<usize>>();
    let (few, many) = (vec![60; 400], vec![200; 20]);
    let worlds: [(u64, Vec<usize>, f64, bool); 4] = [
        (300, few, 0.05, true),
        (300, many, 0.05, true),
        (300, zipf(12), 0.05, true),
        (300, vec![1; 2000], 0.0, false),
    ];
    for (world, (count, users, rho, is_clustered)) in (20..).zip(worlds) {
        let ctx = session_of(world, count, |rng| of_users(rng, &users, rho, 0.15));
        let calls = "imbalance(treatment(o, u), p) AS a, imbalance(o, p) AS b,
            ips_interval(treatment(o, u), p, e) AS c, ips_interval(o, p, e) AS d";
        let conditions =
            [covers("a", 0.0, true), covers("b", 0.0, true), covers("c", 1.0, false), covers("d", 1.0, false)];
        let found = shares(&ctx, calls, &conditions).await;
        let what = format!("{} users, ρ = {rho}: {found:?}", users.len());
        assert!(found[0] > 0.91 && found[2] > 0.91, "{what}");
        match is_clustered {
            true => assert!(found[1] < 0.88 && found[3] < 0.88, "{what}"),
            false => assert!(found[1] > 0.91 && found[3] > 0.91 && found[0] < 0.99, "{what}"),
        }
    }
}

#[tokio::test]
async fn rows_that_share_users_or_items_belong_together_in_two_ways() {
    let ctx = session_of(30, 150, |rng| of_users_and_items(rng, 60, 60, 0.02, 0.2));
    let calls = "imbalance(treatment(o, u, i), p) AS a, imbalance(treatment(o, u), p) AS b, imbalance(o, p) AS c";
    let covers = |name: &str| format!("{name}['lower'][1] <= 0 AND 0 <= {name}['upper'][1]");
    let found = shares(&ctx, calls, &["a", "b", "c"].map(covers)).await;
    assert!(found[0] > 0.89 && found[1] < found[0] - 0.02 && found[2] < 0.75, "{found:?}");
}

/// With one row for each cluster, the errors are the independent ones but for the jackknife's noise of about 4 %.
#[tokio::test]
async fn clusters_of_one_row_have_the_errors_of_independent_rows() {
    let ctx = session_of(31, 60, |rng| tilted(rng, 4000, 0.2, 0.5, 0.3));
    for (call, at) in [
        ("imbalance({o}, p, x)", "['std_error'][1]"),
        ("imbalance({o}, p, x)", "['std_error'][2]"),
        ("ips_interval({o}, p, e)", "['std_error']"),
        ("snips_interval({o}, p, e)", "['std_error']"),
        ("imbalance_bias({o}, p, e, x)", "['std_error']"),
        ("balance_test({o}, p, x)", "['std_errors'][1]"),
        ("bmse_change({o}, (p + 0.3) / 2, p, x)", "['std_error']"),
    ] {
        let pair = call.replace("{o}", "treatment(o, u)") + at + " AS a, " + &call.replace("{o}", "o") + at + " AS b";
        let sql = format!("SELECT avg(a / b), stddev(a / b) FROM (SELECT {pair} FROM log GROUP BY log)");
        let found = &numbers(&ctx, &sql).await.unwrap()[0];
        let (mean, deviation) = (found[0].unwrap(), found[1].unwrap());
        let most = if call.contains("bias") { 0.14 } else { 0.07 };
        assert!((0.96..1.05).contains(&mean) && deviation < most, "{call}: {mean} ± {deviation}");
    }
}

#[tokio::test]
async fn an_effect_as_large_as_its_tolerance_is_rarely_decided_and_one_of_three_times_it_is() {
    let logit = |p: f64| (p / (1.0 - p)).ln();
    let p = 0.15;
    // True propensities that are `times` what is said: the imbalance of the constant is `times − 1`.
    let constant = |times: f64| logit(p * times) - logit(p);
    for (world, (times, rows, verdicts)) in (40..).zip([
        (1.0, 20_000, [(0.85, 1.0), (0.0, 0.01)]),
        (1.0, 1_000, [(0.0, 0.1), (0.0, 0.01)]),
        (1.1, 4_000, [(0.0, 0.095), (0.0, 0.035)]),
        (1.3, 4_000, [(0.0, 0.0), (0.7, 1.0)]),
    ]) {
        let count = 250;
        let ctx = session_of(world, count, |rng| {
            let truth = 1.0 / (1.0 + (-(logit(p) + constant(times))).exp());
            let mut rows = independent(rng, &[Part(rows, truth, 0.0)]);
            rows.iter_mut().for_each(|row| row.p = p);
            rows
        });
        let calls = "balance_verdict(imbalance(o, p))['verdict'] AS v";
        let found = shares(&ctx, calls, &["balanced", "unbalanced"].map(|word| format!("v = '{word}'"))).await;
        for ((least, most), share) in verdicts.into_iter().zip(&found) {
            assert!((least..=most).contains(share), "{times} times: {found:?}");
        }
    }
}

#[tokio::test]
async fn the_bias_of_ips_lies_in_its_interval() {
    let (p, tilt, slope) = (0.1, 0.4, 0.5);
    let [constant, element, bias] = truth_of_tilted(p, tilt, slope);
    for (world, o) in [(50, "o"), (51, "treatment(o, u)")] {
        let ctx = session_of(world, 250, |rng| tilted(rng, 6000, p, tilt, slope));
        let calls = format!(
            "imbalance({o}, p, x) AS i, imbalance_bias({o}, p, e, x) AS b, imbalance_bias({o}, p, e, x, 2 * x + 3, 1) AS c"
        );
        let conditions = [
            format!("i['lower'][1] <= {constant} AND {constant} <= i['upper'][1]"),
            format!("i['lower'][2] <= {element} AND {element} <= i['upper'][2]"),
            format!("b['lower'] <= {bias} AND {bias} <= b['upper']"),
            "abs(b['estimate'] - c['estimate']) < 1e-9".into(),
        ];
        let found = shares(&ctx, &calls, &conditions).await;
        assert!(found[..3].iter().all(|share| *share > 0.89), "{o}: {found:?}");
        assert_eq!(found[3], 1.0, "collinear φ changes nothing");
    }
}
