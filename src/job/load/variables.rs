//! `${name}` in the text of a job.

use std::collections::BTreeMap;

use toml::{Table as Toml, Value};

use crate::error::{Result, invalid, nearest};

/// Replaces `${name}` in every text of the job.
pub(super) fn substitute(table: &mut Toml) -> Result<()> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for key in ["name", "seed"] {
        match table.get(key) {
            Some(Value::String(text)) => known.insert(key.to_owned(), text.clone()),
            Some(other) => known.insert(key.to_owned(), other.to_string()),
            None => known.insert(key.to_owned(), "0".to_owned()),
        };
    }
    if let Some(Value::Table(vars)) = table.get("vars") {
        for (key, value) in vars {
            let Value::String(text) = value else {
                invalid!("vars.{key} = {value}: a variable is text; put it in quotes")
            };
            known.insert(key.clone(), text.clone());
        }
    }
    for (key, value) in table.iter_mut().filter(|(key, _)| *key != "vars") {
        substitute_value(value, &known, key)?;
    }
    Ok(())
}

fn substitute_value(value: &mut Value, known: &BTreeMap<String, String>, path: &str) -> Result<()> {
    match value {
        Value::String(text) => *text = substitute_text(text, known, path)?,
        Value::Array(values) => {
            for value in values {
                substitute_value(value, known, path)?;
            }
        }
        Value::Table(table) => {
            for (key, value) in table {
                substitute_value(value, known, &format!("{path}.{key}"))?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn substitute_text(text: &str, known: &BTreeMap<String, String>, path: &str) -> Result<String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else { invalid!("{path}: ${{ without its }}") };
        let name = &rest[start + 2..start + length];
        let Some(value) = known.get(name) else {
            let near = nearest(name, known.keys().map(String::as_str))
                .map_or(String::new(), |near| format!(" (there is ${{{near}}})"));
            invalid!(
                "{path} refers to ${{{name}}}, which is not set{near}; put it in [vars], or pass --set vars.{name}=…"
            );
        };
        result.push_str(&rest[..start]);
        result.push_str(value);
        rest = &rest[start + length + 1..];
    }
    result.push_str(rest);
    Ok(result)
}
