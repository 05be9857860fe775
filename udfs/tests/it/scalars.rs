//! Errors and weights of single rows.

use crate::sql::{assert_close, failure, number};

async fn check(call: &str, answer: Option<f64>) {
    let constant = format!("SELECT {call}");
    assert_close(number(&constant).await, answer, 1e-15, &constant);
    let column = format!("SELECT {} FROM (VALUES (0.25, true)) AS t (q, r)", call);
    assert_close(number(&column).await, answer, 1e-15, &column);
}

#[tokio::test]
async fn values() {
    check("squared_error(0.75, 1)", Some(0.0625)).await;
    check("squared_error(0.75, NULL)", None).await;
    check("log_loss(0.25, true)", Some(4f64.ln())).await;
    check("log_loss(0.25, 0)", Some(-(0.75f64.ln()))).await;
    check("log_loss(0.5, 0.5)", Some(2f64.ln())).await;
    check("log_loss(1, 1)", Some(0.0)).await;
    check("log_loss(0, false)", Some(0.0)).await;
    check("log_loss(NULL, 1)", None).await;
    check("inverse_propensity_weight(true, 0.25)", Some(4.0)).await;
    check("inverse_propensity_weight(0, 0.25)", Some(0.0)).await;
    check("inverse_propensity_weight(0, 1)", Some(0.0)).await;
    check("inverse_propensity_weight(NULL, 0.25)", None).await;
    check("balance_weight(1, 0.25)", Some(4.0)).await;
    check("balance_weight(false, 0.75)", Some(-4.0)).await;
    check("balance_weight(0, 0)", Some(-1.0)).await;
    check("mrdr_weight(1, 0.25)", Some(12.0)).await;
    check("mrdr_weight(true, 1)", Some(0.0)).await;
    check("mrdr_weight(false, 0)", Some(0.0)).await;
    check("mrdr_weight(true, NULL)", None).await;
    check("clip_propensity(0.001, 0.01, 0.99)", Some(0.01)).await;
    check("clip_propensity(1.0, 0.01, 0.99)", Some(0.99)).await;
    check("clip_propensity(0.5, 0.01, 0.99)", Some(0.5)).await;
    check("clip_propensity(NULL, 0.01, 0.99)", None).await;
    assert_eq!(number("SELECT log_loss(0, 1)").await, Some(f64::INFINITY));
}

#[tokio::test]
async fn columns() {
    let rows = "(VALUES (0.25, true), (0.5, false), (NULL, true), (0.5, NULL)) AS t (q, r)";
    for (call, sum) in [
        ("sum(squared_error(q, r))", 0.5625 + 0.25),
        ("sum(log_loss(q, r))", 8f64.ln()),
        ("sum(inverse_propensity_weight(r, q))", 4.0),
        ("sum(balance_weight(r, q))", 2.0),
        ("sum(mrdr_weight(r, q))", 12.0),
        ("sum(clip_propensity(q, 0.3, 1))", 1.3),
        ("count(balance_weight(treated => r, propensity => q))", 2.0),
    ] {
        let sql = format!("SELECT {call} FROM {rows}");
        assert_close(number(&sql).await, Some(sum), 1e-15, &sql);
    }
}

#[tokio::test]
async fn errors() {
    for (call, says) in [
        ("log_loss(1.5, 1)", "log_loss: argument 1 (prediction) is 1.5: it must be from 0 to 1"),
        ("log_loss(0.5, 5)", "log_loss: argument 2 (outcome) is 5: it must be from 0 to 1"),
        ("log_loss('NaN'::DOUBLE, 1)", "log_loss: argument 1 (prediction) is NaN"),
        ("balance_weight(2, 0.5)", "balance_weight: argument 1 (treated) is 2: it must be 0 or 1"),
        ("balance_weight(0, 1)", "balance_weight: argument 2 (propensity) is 1: an untreated row"),
        ("inverse_propensity_weight(1, 0)", "argument 2 (propensity) is 0: a treated row"),
        ("mrdr_weight(0.5, 0.5)", "mrdr_weight: argument 1 (treated) is 0.5: it must be 0 or 1"),
        ("mrdr_weight(1, 0)", "mrdr_weight: argument 2 (propensity) is 0: a treated row"),
        ("mrdr_weight(0, 2)", "mrdr_weight: argument 2 (propensity) is 2: it must be a probability"),
        ("clip_propensity(0.5, -1, 1)", "clip_propensity: argument 2 (low) is -1"),
        ("clip_propensity(0.5, 0.6, 0.4)", "argument 3 (high) is 0.4: it must be from low to 1"),
        ("clip_propensity('NaN'::DOUBLE, 0, 1)", "argument 1 (propensity) is NaN"),
    ] {
        let message = failure(&format!("SELECT {call}")).await;
        assert!(message.contains(says), "{call}: {message}");
    }
}
