//! The functions as a user meets them: through SQL, on every path that DataFusion has.
#![allow(clippy::unwrap_used)]

mod accumulators;
mod arguments;
mod differential;
mod documentation;
mod errors;
mod known;
mod population;
mod precision;
mod quality;
mod scalars;
mod sql;
mod windows;
