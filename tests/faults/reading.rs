//! Random tables, read as DuckDB reads them: `reading.py` makes and compares them.

use std::path::Path;
use std::process::Command;

use crate::process::{binary, seed};

#[test]
fn random_tables_are_read_as_duckdb_reads_them_or_refused() {
    let python = std::env::var_os("COUNTERWEIGHT_FAULTS_PYTHON")
        .expect("COUNTERWEIGHT_FAULTS_PYTHON names a Python with duckdb and pyarrow; `make test-faults` sets it");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/reading.py");
    let status = Command::new(python).arg(script).arg(binary()).args(["--seed", &seed().to_string()]).status().unwrap();
    assert!(status.success(), "tables are read wrong: see above");
}
