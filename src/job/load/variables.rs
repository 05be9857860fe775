//! `${name}` and `${name:sql}` in the text of a job.

use std::collections::BTreeMap;

use toml::{Table as Toml, Value};

use crate::error::{Result, invalid, nearest};
use crate::redact::keep_secret;

/// Characters that a secret has at least: a shorter one would be hidden in what has nothing to do with it.
const SECRET_CHARS: usize = 6;

/// Replaces `${name}` in every text of the job, and `${name:sql}` by the same as a value in SQL. From now on the job's secrets
/// are hidden.
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
    if let Some(Value::Table(secrets)) = table.get("secrets") {
        for (key, value) in secrets {
            let secret = secret(key, value)?;
            if known.insert(key.clone(), secret).is_some() {
                invalid!("secrets.{key} is the name of another variable, too; give it one of its own");
            }
        }
    }
    for (key, value) in table.iter_mut().filter(|(key, _)| !["vars", "secrets"].contains(&key.as_str())) {
        substitute_value(value, &known, key)?;
    }
    Ok(())
}

/// The value of a secret, which is hidden from now on.
fn secret(key: &str, value: &Value) -> Result<String> {
    let secret = match (value, value.get("env").and_then(Value::as_str)) {
        (Value::String(text), _) => text.clone(),
        (Value::Table(table), Some(name)) if table.len() == 1 => match std::env::var(name) {
            Ok(text) => text,
            Err(_) => invalid!("secrets.{key}: the environment variable {name} is not set, or not text"),
        },
        _ => invalid!("secrets.{key} is neither text nor {{ env = \"NAME\" }}"),
    };
    if secret.chars().count() < SECRET_CHARS {
        invalid!("secrets.{key} has fewer than {SECRET_CHARS} characters, and could not be told from other text");
    }
    keep_secret(&secret);
    Ok(secret)
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
        let (name, form) = name.split_once(':').map_or((name, None), |(name, form)| (name, Some(form)));
        let Some(value) = known.get(name) else {
            let near = nearest(name, known.keys().map(String::as_str))
                .map_or(String::new(), |near| format!(" (there is ${{{near}}})"));
            invalid!(
                "{path} refers to ${{{name}}}, which is not set{near}; put it in [vars], or pass --set vars.{name}=…"
            );
        };
        result.push_str(&rest[..start]);
        match form {
            None => result.push_str(value),
            Some("sql") => result.extend(["'", &value.replace('\'', "''"), "'"]),
            Some(form) => {
                invalid!("{path}: ${{{name}:{form}}} is no form of a variable; write ${{{name}}}, or ${{{name}:sql}}")
            }
        }
        rest = &rest[start + length + 1..];
    }
    result.push_str(rest);
    Ok(result)
}
