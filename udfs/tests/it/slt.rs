//! The examples in `sql/*.slt`: they hold, and they show every function.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use counterweight_udfs::{all_aggregates, all_scalars};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Record, Runner, parse_file, strict_column_validator};

use crate::sql::session;

struct Database(SessionContext);

#[async_trait]
impl AsyncDB for Database {
    type Error = DataFusionError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, DataFusionError> {
        let frame = self.0.sql(sql).await?;
        let fields = frame.schema().fields().iter();
        let types: Vec<_> = fields.map(|field| column_type(field.data_type())).collect();
        let batches = frame.collect().await?;
        if types.is_empty() {
            return Ok(DBOutput::StatementComplete(0));
        }
        let options = FormatOptions::default().with_null("NULL");
        let mut rows = vec![];
        for batch in batches {
            let columns: Vec<_> = batch
                .columns()
                .iter()
                .map(|column| ArrayFormatter::try_new(column, &options))
                .collect::<Result<_, _>>()?;
            rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect()));
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}
}

fn column_type(data_type: &DataType) -> DefaultColumnType {
    match data_type {
        t if t.is_string() => DefaultColumnType::Text,
        t if t.is_integer() => DefaultColumnType::Integer,
        t if t.is_floating() => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Any,
    }
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut scripts: Vec<_> = files.filter(|file| file.extension().is_some_and(|ext| ext == "slt")).collect();
    scripts.sort();
    scripts
}

#[tokio::test]
async fn every_script_holds() {
    assert!(!scripts().is_empty());
    let mut wrong = String::new();
    for script in scripts() {
        let config = SessionConfig::new().with_target_partitions(2).with_batch_size(3);
        let mut runner = Runner::new(|| async { Ok(Database(session(config.clone()))) });
        runner.with_column_validator(strict_column_validator);
        for record in parse_file(&script).unwrap() {
            if let Err(error) = runner.run_async(record).await {
                wrong += &format!("{}\n\n", error.display(false));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_function_is_shown_to_give_something() {
    let mut queries = String::new();
    for script in scripts() {
        for record in parse_file::<DefaultColumnType>(script).unwrap() {
            if let Record::Query { sql, .. } = record {
                queries += &sql;
                queries += "\n";
            }
        }
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let called: HashSet<_> = queries.split('(').filter_map(|before| before.rsplit(|c| !is_word(c)).next()).collect();
    let aggregates = all_aggregates().into_iter().map(|function| function.name().to_string());
    let scalars = all_scalars().into_iter().map(|function| function.name().to_string());
    let missing: Vec<_> = aggregates.chain(scalars).filter(|name| !called.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "no query calls {missing:?}");
}
