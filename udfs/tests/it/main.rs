//! The functions as a user meets them: through SQL, on every path that DataFusion has.
#![allow(clippy::unwrap_used)]

mod accumulators;
mod alarm;
mod arguments;
mod balance;
mod day_worlds;
mod differential;
mod documentation;
mod effects;
mod errors;
mod expr_fn;
mod fuzz;
mod intervals;
mod invariance;
mod known;
mod population;
mod precision;
mod properties;
mod quality;
mod reference;
mod scalars;
mod simulation;
mod slt;
mod sql;
mod statistics;
mod verdicts;
mod windows;
mod worlds;
