//! End to end: the real binary, on files and against a real S3 server.

#![allow(clippy::type_complexity, clippy::unwrap_used, missing_docs)]

mod audit;
mod audit_input;
mod audit_verdicts;
mod documentation;
mod end_to_end;
mod ends;
mod executables;
mod experiment;
mod importers;
mod proxy;
mod reading;
mod remote;
mod resume;
mod s3_server;
mod schema;
mod score;
mod simulate;
mod sql;
mod stores;
mod support;
