//! Figures that other libraries compute from the same log; `reference/estimators.py` writes both.

use std::path::Path;

use datafusion::prelude::{CsvReadOptions, SessionConfig};
use serde_json::Value;

use crate::sql::{assert_close, numbers, session};

#[tokio::test]
async fn estimators() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    let ctx = session(SessionConfig::new());
    let log = reference.join("estimators.csv");
    ctx.register_csv("log", log.to_str().unwrap(), CsvReadOptions::new()).await.unwrap();
    let figures = std::fs::read_to_string(reference.join("estimators.json")).unwrap();
    let figures: Vec<Value> = serde_json::from_str(&figures).unwrap();
    assert!(figures.len() > 40, "{} figures", figures.len());
    for figure in &figures {
        let (query, source) = (figure["query"].as_str().unwrap(), figure["source"].as_str().unwrap());
        let result = numbers(&ctx, query).await.unwrap()[0][0];
        let expected = figure["expected"].as_f64().unwrap();
        assert_close(result, Some(expected), 1e-9, &format!("{query}, by {source}"));
    }
}
