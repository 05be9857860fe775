//! Feeds every aggregate what the fuzzer makes up.

#![no_main]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    exercise::exercise(bytes);
});
