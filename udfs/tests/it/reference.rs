//! Figures that other libraries compute from the same log: `reference/NAME.py` writes the log, NAME.csv, and what is
//! expected of it, NAME.json.

use std::path::Path;

use datafusion::prelude::{CsvReadOptions, SessionConfig};
use serde_json::Value;

use crate::sql::{assert_close, numbers, session};

async fn check(name: &str, count: usize) {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    let ctx = session(SessionConfig::new());
    let log = reference.join(format!("{name}.csv"));
    ctx.register_csv("log", log.to_str().unwrap(), CsvReadOptions::new()).await.unwrap();
    let figures = std::fs::read_to_string(reference.join(format!("{name}.json"))).unwrap();
    let figures: Vec<Value> = serde_json::from_str(&figures).unwrap();
    assert_eq!(figures.len(), count);
    for figure in &figures {
        let (query, source) = (figure["query"].as_str().unwrap(), figure["source"].as_str().unwrap());
        let result = numbers(&ctx, query).await.unwrap()[0][0];
        let expected = figure["expected"].as_f64().unwrap();
        assert_close(result, Some(expected), 1e-9, &format!("{query}, by {source}"));
    }
}

#[tokio::test]
async fn balance() {
    check("balance", 32).await;
}

#[tokio::test]
async fn estimators() {
    check("estimators", 42).await;
}

#[tokio::test]
async fn clusters() {
    check("clusters", 24).await;
}
