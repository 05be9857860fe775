//! The seeds of an experiment.

use std::collections::BTreeSet;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Error, Result, invalid};

/// Seeds, written as a list of numbers or as text such as `"0-9"` or `"0-4,7"`; each once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "SeedsText")]
pub struct Seeds(pub Vec<u64>);

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum SeedsText {
    List(#[schemars(length(min = 1))] Vec<u64>),
    Text(#[schemars(regex(pattern = r"^ *[0-9]+ *(- *[0-9]+ *)?(, *[0-9]+ *(- *[0-9]+ *)?)*$"))] String),
}

impl TryFrom<SeedsText> for Seeds {
    type Error = Error;

    fn try_from(text: SeedsText) -> Result<Self> {
        let seeds = match text {
            SeedsText::List(seeds) => seeds,
            SeedsText::Text(text) => return text.parse(),
        };
        if seeds.is_empty() || seeds.iter().collect::<BTreeSet<_>>().len() < seeds.len() {
            invalid!("{seeds:?}: give at least one seed, and each once");
        }
        Ok(Self(seeds))
    }
}

impl FromStr for Seeds {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let mut seeds = Vec::new();
        for part in text.split(',') {
            let range = match part.split_once('-') {
                Some((first, last)) => number(first).zip(number(last)),
                None => number(part).map(|seed| (seed, seed)),
            };
            match range {
                Some((first, last)) if first <= last && last - first < 1 << 16 => seeds.extend(first..=last),
                _ => invalid!("{text:?} names no seeds; write them as 0-9 or 0,3,5"),
            }
        }
        SeedsText::List(seeds).try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_list_or_ranges() {
        #[derive(Deserialize, JsonSchema)]
        struct File {
            seeds: Seeds,
        }
        let read = |text: &str| toml::from_str::<File>(&format!("seeds = {text}")).map(|file| file.seeds.0);
        assert_eq!("0-2,7".parse::<Seeds>().unwrap().0, [0, 1, 2, 7]);
        assert_eq!(read("\"0-2\"").unwrap(), [0, 1, 2]);
        assert_eq!(read("[5, 3]").unwrap(), [5, 3]);
        for wrong in ["", "x", "3-1", "1,1", "0-99999999"] {
            assert!(wrong.parse::<Seeds>().is_err(), "{wrong}");
        }
    }
}
