//! Candidates from lists of values: every combination.

use std::collections::BTreeMap;

use toml::Value;

use super::settings::Settings;

/// Every combination of one value of each list, the last list's values varying fastest.
pub(super) fn combinations(lists: &BTreeMap<String, Vec<Value>>) -> Vec<Settings> {
    let mut combinations = vec![Settings::new()];
    for (key, values) in lists {
        let with = |settings: &Settings, value: &Value| {
            let mut settings = settings.clone();
            settings.insert(key.clone(), value.clone());
            settings
        };
        let extended = combinations.iter().flat_map(|settings| values.iter().map(move |value| with(settings, value)));
        combinations = extended.collect();
    }
    combinations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::settings::assignment;

    #[test]
    fn the_last_list_varies_fastest() {
        assert_eq!(combinations(&BTreeMap::new()), [Settings::new()]);
        let lists =
            BTreeMap::from([("a".to_owned(), vec![1.into(), 2.into()]), ("b".to_owned(), vec![3.into(), 4.into()])]);
        let text = |settings: &Settings| settings.iter().map(|(key, value)| assignment(key, value)).collect::<Vec<_>>();
        let pairs: Vec<Vec<String>> = combinations(&lists).iter().map(text).collect();
        assert_eq!(pairs, [["a=1", "b=3"], ["a=1", "b=4"], ["a=2", "b=3"], ["a=2", "b=4"]]);
    }
}
