//! NULLs in every place, and every type of argument.

use crate::sql::{assert_close, number};

/// `function(arguments)` over rows of `(o, p, e, i, f)`.
async fn over(call: &str, rows: &str) -> Option<f64> {
    number(&format!("SELECT {call} FROM (VALUES {rows}) AS log (o, p, e, i, f)")).await
}

const TWO_ROWS: &str = "(1, 0.5, 0.2, 0.3, 1.0), (0, 0.25, 0.7, 0.6, 2.0)";

const CALLS: [(&str, &str); 25] = [
    ("bmse(o, p, f)", "opf"),
    ("bmse(o, p, [f, f])", "opf"),
    ("bmse_unbiased(o, p, f)", "opf"),
    ("bmse_noise_floor(o, p, f)", "opf"),
    ("naive(o, e)", "oe"),
    ("naive_treated(o, e)", "oe"),
    ("eib(o, e, i)", "oei"),
    ("ips(o, p, e)", "ope"),
    ("snips(o, p, e)", "ope"),
    ("dr(o, p, e, i)", "opei"),
    ("snips_dr(o, p, e, i)", "opei"),
    ("ips_clipped(o, p, e, 3)", "ope"),
    ("switch_dr(o, p, e, i, 3)", "opei"),
    ("dr_os(o, p, e, i, 3)", "opei"),
    ("ips_variance(o, p, e)", "ope"),
    ("dr_variance(o, p, e, i)", "opei"),
    ("ips_v2(o, p, e, 0.5, f)", "opef"),
    ("dr_v2(o, p, e, i, 0.5, [f])", "opeif"),
    ("nll(o, p)", "op"),
    ("ppl(o, p)", "op"),
    ("sv(p)", "p"),
    ("mis(p)", "p"),
    ("auc(o, p)", "op"),
    ("ece(o, p, 3)", "op"),
    ("ece(o, p, 2, 'mass')", "op"),
];

#[tokio::test]
async fn a_null_argument_skips_the_row() {
    let row = ["1", "0.2", "0.9", "0.8", "3.0"];
    for (call, uses) in CALLS {
        let without = over(call, TWO_ROWS).await;
        for (place, name) in "opeif".char_indices() {
            let mut row = row.map(str::to_string);
            row[place] = "NULL".into();
            let with = over(call, &format!("{TWO_ROWS}, ({})", row.join(", "))).await;
            let what = format!("{call} with NULL for {name}");
            if uses.contains(name) {
                assert_close(with, without, 1e-15, &what);
            } else {
                assert!(with != without, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_null_error_of_an_untreated_row_does_not() {
    let rows = |e: &str| format!("{TWO_ROWS}, (0, 0.4, {e}, 0.8, 3.0)");
    for (call, uses) in CALLS.into_iter().filter(|(_, uses)| uses.contains('e')) {
        let unknown = over(call, &rows("NULL")).await;
        assert_eq!(unknown, over(call, &rows("123")).await, "{call}");
        assert_eq!(unknown, over(call, &rows("'NaN'::DOUBLE")).await, "{call}");
        if !matches!(call, "naive_treated(o, e)" | "snips(o, p, e)") {
            assert!(unknown != over(call, TWO_ROWS).await, "{call}, {uses}");
        }
    }
    assert_close(over("naive(o, e)", &rows("NULL")).await, Some(0.2 / 3.0), 1e-15, "naive");
}

#[tokio::test]
async fn nulls_and_filters_everywhere_give_null() {
    let nulls = "(NULL, 0.5, 0.2, 0.3, 1.0), (NULL, NULL, NULL, NULL, NULL)";
    for (call, uses) in CALLS {
        let rows = format!("{nulls}, (1, 0.5, 0.2, 0.3, 1.0)");
        let none = format!("{call} FILTER (WHERE {} IS NULL)", &uses[..1]);
        assert_eq!(over(&none, &rows).await, None, "{none}");
        let none = format!("{call} FILTER (WHERE NULL::BOOLEAN)");
        assert_eq!(over(&none, &rows).await, None, "{none}");
        let empty = format!("SELECT {call} FROM (VALUES {TWO_ROWS}) AS log (o, p, e, i, f) WHERE o > 1");
        assert_eq!(number(&empty).await, None, "{empty}");
    }
    assert_eq!(number("SELECT bmse(NULL, NULL, NULL)").await, None);
    assert_eq!(number("SELECT ips(true, 0.5, NULL)").await, None);
}

#[tokio::test]
async fn bad_values_in_rows_that_do_not_count_are_not_read() {
    let rows = format!("{TWO_ROWS}, (7, 9.0, 'NaN'::DOUBLE, 'NaN'::DOUBLE, 'NaN'::DOUBLE)");
    for (call, _) in CALLS {
        let filtered = format!("{call} FILTER (WHERE p < 1)");
        assert_eq!(over(&filtered, &rows).await, over(call, TWO_ROWS).await, "{call}");
    }
    assert_eq!(
        number(
            "SELECT bmse(o, p, f) FROM (VALUES (1, 0.5, [1.0]), (1, NULL, [1.0, 2.0]), \
             (1, 0.5, [NULL, 1.0, 2.0]), (1, 0.5, NULL)) AS log (o, p, f)"
        )
        .await,
        Some(4.0)
    );
}

#[tokio::test]
async fn types() {
    let rows = "(VALUES (1, 0.5, 3), (0, 0.75, 2)) AS log (o, p, f)";
    // (2·3 − 4·2) / 2 = −1
    for treated in [
        "o = 1",
        "o::TINYINT",
        "o::SMALLINT UNSIGNED",
        "o::BIGINT",
        "o::FLOAT",
        "o::DOUBLE",
        "o::DECIMAL(3, 1)",
        "arrow_cast(o, 'Float16')",
        "arrow_cast(o, 'Dictionary(Int32, Int64)')",
    ] {
        let sql = format!("SELECT bmse({treated}, p, f) FROM {rows}");
        assert_eq!(number(&sql).await, Some(1.0), "{sql}");
    }
    for propensity in
        ["p::FLOAT", "p::DECIMAL(4, 3)", "arrow_cast(p, 'Float16')", "arrow_cast(p, 'Dictionary(Int8, Float32)')"]
    {
        let sql = format!("SELECT bmse(o, {propensity}, f) FROM {rows}");
        assert_eq!(number(&sql).await, Some(1.0), "{sql}");
    }
    for phi in [
        "f::DOUBLE",
        "f::DECIMAL(6, 2)",
        "[f]",
        "[f::DECIMAL(6, 2)]",
        "arrow_cast([f], 'List(Float16)')",
        "arrow_cast([f], 'LargeList(Float32)')",
        "arrow_cast([f], 'LargeList(UInt8)')",
        "arrow_cast([f], 'FixedSizeList(1, Float32)')",
        "arrow_cast([f], 'FixedSizeList(1, Int64)')",
        "arrow_cast([f], 'ListView(Float64)')",
        "arrow_cast([f], 'ListView(Int32)')",
        "arrow_cast([f], 'LargeListView(Float16)')",
        "arrow_cast(f, 'Float16')",
        "arrow_cast(f, 'Dictionary(Int32, UInt8)')",
    ] {
        let sql = format!("SELECT bmse(o, p, {phi}) FROM {rows}");
        assert_eq!(number(&sql).await, Some(1.0), "{sql}");
    }
    for value in [
        "f::DECIMAL(6, 2)",
        "f::DECIMAL(40, 10)",
        "arrow_cast(f, 'Float16')",
        "arrow_cast(f, 'Dictionary(Int8, Float32)')",
        "arrow_cast(f::DECIMAL(6, 2), 'Dictionary(UInt16, Decimal128(6, 2))')",
        "f::BIGINT UNSIGNED",
    ] {
        // 3 / 0.5 / 2
        let sql = format!("SELECT ips(o, p, {value}) FROM {rows}");
        assert_eq!(number(&sql).await, Some(3.0), "{sql}");
        // (3 + 2) / 2
        let sql = format!("SELECT eib(o, e, {value}) FROM (SELECT o, f AS e, f FROM {rows})");
        assert_eq!(number(&sql).await, Some(2.5), "{sql}");
        let sql = format!("SELECT ks(o, p, {value})['raw'] FROM {rows}");
        assert_eq!(number(&sql).await, Some(1.0), "{sql}");
    }
    for covariate in ["f > 2", "NULL"] {
        let sql = format!("SELECT ks(o, p, {covariate})['raw'] FROM {rows}");
        assert_eq!(number(&sql).await, (covariate != "NULL").then_some(1.0), "{sql}");
    }
    // booleans as φ: (2·1 − 4·0) / 2 = 1
    let sql = format!("SELECT bmse(o, p, f > 2) FROM {rows}");
    assert_eq!(number(&sql).await, Some(1.0));
}

#[tokio::test]
async fn lists_are_not_cast() {
    let ctx = crate::sql::session(Default::default());
    for list in ["List(Float32)", "LargeList(Float16)", "FixedSizeList(1, Float64)"] {
        let sql = format!(
            "EXPLAIN SELECT bmse(o, p, f) FROM \
             (SELECT o, p, arrow_cast(f, '{list}') AS f FROM (VALUES (1, 0.5, [1.0])) AS t (o, p, f))"
        );
        let plan = ctx.sql(&sql).await.unwrap().to_string().await.unwrap();
        assert!(plan.contains("aggr=[[bmse(CAST(t.o AS Float64), t.p, f)"), "{plan}");
    }
}

#[tokio::test]
async fn names() {
    let rows = "(VALUES (1, 0.5, 3), (0, 0.75, 2)) AS log (o, p, f)";
    for call in ["BMSE(o, p, f)", "Bmse(treated => o, propensity => p, phi => f)", "bmse(o, phi => f, propensity => p)"]
    {
        let sql = format!("SELECT {call} FROM {rows}");
        assert_eq!(number(&sql).await, Some(1.0), "{sql}");
    }
}

#[tokio::test]
async fn lambda_is_any_constant_expression() {
    for lambda in ["2", "2.0", "1 + 1", "2::DECIMAL(3, 1)", "CAST('2' AS DOUBLE)", "sqrt(4.0)"] {
        let sql = format!("SELECT ips_v2(true, 0.5, 1, {lambda}, 3)");
        assert_eq!(number(&sql).await, Some(2.0 + 2.0 * 36.0), "{sql}");
    }
}
