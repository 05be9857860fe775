//! Slow tests against the executables, run by `make test-faults`: runs that are killed at random moments while a reader
//! looks on, runs that have few resources or meet one another, and random tables read as DuckDB reads them.
//!
//! `COUNTERWEIGHT_FAULTS_SEED` repeats a run; `COUNTERWEIGHT_FAULTS_BINARY` names another executable to test.

#![allow(clippy::unwrap_used, missing_docs)]

mod folder;
mod interrupted;
mod limits;
mod process;
mod reading;
mod scene;
