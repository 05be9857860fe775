//! `--set key.path=value`.

use toml::{Table as Toml, Value};

use crate::error::{Result, invalid};

/// Applies one `key.path=value`: the value is TOML, or else text. It takes the place of what has that key, and a section
/// on its path that of a value.
pub(super) fn assign(table: &mut Toml, assignment: &str) -> Result<()> {
    let Some((path, text)) =
        assignment.split_once('=').map(|(path, text)| (path.trim(), text)).filter(|(path, _)| !path.is_empty())
    else {
        invalid!("--set {assignment:?}: write it as key=value, such as --set vars.dir=/data or --set seed=3");
    };
    let value = match toml::from_str::<Toml>(&format!("value = {text}")) {
        Ok(mut parsed) if parsed.len() == 1 => parsed.remove("value").unwrap_or_else(|| Value::String(text.to_owned())),
        _ => Value::String(text.to_owned()),
    };
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut inner = table;
    for key in keys {
        let section = inner.entry(key).or_insert(Value::Table(Toml::new()));
        if !section.is_table() {
            *section = Value::Table(Toml::new());
        }
        inner = section.as_table_mut().expect("it is a table, or has just become one");
    }
    // Variables are text, whatever they look like.
    let is_text = path.starts_with("vars.") || (path.starts_with("secrets.") && !value.is_table());
    let value = if is_text { Value::String(text.to_owned()) } else { value };
    inner.insert(last.to_owned(), value);
    Ok(())
}
