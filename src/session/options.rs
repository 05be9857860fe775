//! What a session may use, and how.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, invalid};

/// What a session may use of the machine. The defaults are DataFusion's: all cores, no memory limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionOptions {
    /// What queries may hold before they spill; any amount by default.
    pub memory_limit: Option<Bytes>,
    /// Threads that run queries, and partitions of a scan; as many as cores by default.
    #[schemars(range(min = 1))]
    pub threads: Option<usize>,
    /// Where sorts and aggregations spill; the system's temporary directory by default.
    pub spill_directory: Option<PathBuf>,
    /// The zone in which a time without one is read where a query wants one with; `UTC` by default.
    pub time_zone: Option<String>,
    /// Whether other work runs on the same processors. The trainer's threads then sleep early where they wait for one another,
    /// which they do by themselves under a CPU limit and in experiments.
    pub beside_others: bool,
    /// Rows of a batch of a query; 8192 by default.
    #[schemars(range(min = 1))]
    pub batch_size: Option<usize>,
}

/// A number of bytes, written `1024`, `"512MB"` (10⁶) or `"2GiB"` (2³⁰).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "BytesText", into = "u64")]
pub struct Bytes(pub u64);

#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number of bytes, such as 1024, \"512MB\" or \"2GiB\", is wanted")]
enum BytesText {
    Number(#[schemars(range(min = 1))] u64),
    Text(#[schemars(regex(pattern = r"^ *[0-9.]+ *([KkMmGgTt][Ii]?)?[Bb]? *$"))] String),
}

impl TryFrom<BytesText> for Bytes {
    type Error = Error;

    fn try_from(text: BytesText) -> Result<Self> {
        match text {
            BytesText::Number(bytes) => Ok(Self(bytes)),
            BytesText::Text(text) => text.parse(),
        }
    }
}

impl From<Bytes> for u64 {
    fn from(bytes: Bytes) -> u64 {
        bytes.0
    }
}

impl std::str::FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const UNITS: [(&str, u64); 10] = [
            ("kib", 1 << 10),
            ("mib", 1 << 20),
            ("gib", 1 << 30),
            ("tib", 1 << 40),
            ("kb", 1_000),
            ("mb", 1_000_000),
            ("gb", 1_000_000_000),
            ("tb", 1_000_000_000_000),
            ("b", 1),
            ("", 1),
        ];
        let lower = text.trim().to_ascii_lowercase();
        let (unit, scale) = UNITS.into_iter().find(|(unit, _)| lower.ends_with(unit)).unwrap_or(("", 1));
        let number: Option<f64> = lower[..lower.len() - unit.len()].trim().parse().ok();
        match number.map(|number| number * scale as f64) {
            Some(bytes) if (1.0..=u64::MAX as f64).contains(&bytes) => Ok(Self(bytes as u64)),
            _ => invalid!("{text:?} is not a number of bytes; write it as 512MB or 2GiB"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_both_families_of_units() {
        let cases = [("1024", 1024), ("512MB", 512_000_000), ("2GiB", 2 << 30), ("1.5 kib", 1536), ("3b", 3)];
        for (text, bytes) in cases {
            assert_eq!(text.parse::<Bytes>().unwrap(), Bytes(bytes), "{text}");
        }
        for text in ["", "GB", "-1MB", "0", "1PBX"] {
            let error = text.parse::<Bytes>().unwrap_err().to_string();
            assert!(error.contains("512MB or 2GiB"), "{error}");
        }
    }
}
