//! Keys of a job with their values.

use std::collections::BTreeMap;

use toml::{Table as Toml, Value};

/// Keys of a job, as the JSON Schema has them: of any kind.
pub(super) type Keys = serde_json::Map<String, serde_json::Value>;

/// Keys of a job and their values.
pub(super) type Settings = BTreeMap<String, Value>;

/// A setting as `--set` takes it.
pub(super) fn assignment(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) if key.starts_with("vars.") => format!("{key}={text}"),
        value => format!("{key}={value}"),
    }
}

/// Whether a value is a leaf of nested tables.
pub(super) fn is_value(value: &Value) -> bool {
    !value.is_table()
}

/// The leaves of nested tables, by the path of keys to each.
pub(super) fn leaves(table: &Toml, is_leaf: fn(&Value) -> bool) -> Settings {
    let mut leaves = Settings::new();
    let mut open: Vec<(String, &Toml)> = vec![(String::new(), table)];
    while let Some((prefix, table)) = open.pop() {
        for (key, value) in table {
            let path = format!("{prefix}{key}");
            match value {
                Value::Table(inner) if !is_leaf(value) => open.push((format!("{path}."), inner)),
                value => drop(leaves.insert(path, value.clone())),
            }
        }
    }
    leaves
}
