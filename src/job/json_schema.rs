//! JSON Schemas of what a person writes: for editors, and for the key reference.
//!
//! They are of draft 7, which editors of TOML know.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json, json};
use toml::{Table as Toml, Value};

use super::load::{PRESETS, preset};
use super::{JobFile, Method};
use crate::error::Result;

/// The JSON Schema of a job file as it is written: what a preset may supply is not required, and where text has to
/// be of some form, text with `${name}` in it may stand as well.
///
/// # Errors
/// Where a preset does not parse.
pub fn json_schema() -> Result<Json> {
    let mut schema = json_schema_of::<JobFile>("Counterweight job");
    each(&mut schema, &mut |schema| {
        if is_restricted_text(schema) {
            let restricted: Map<String, Json> =
                RESTRICTIONS.iter().filter_map(|key| schema.remove_entry(*key)).collect();
            schema.insert("anyOf".to_owned(), json!([restricted, { "$ref": "#/definitions/Variable" }]));
        }
    });
    schema["definitions"]["Variable"] = json!({
        "description": "Text that refers to variables.",
        "type": "string",
        "pattern": r"\$\{[^}]+\}",
    });
    for (name, _) in PRESETS {
        not_required(&mut schema, "/definitions/TrainSpec", &preset(name)?);
    }
    describe_entailed(&mut schema["definitions"]["LossSpec"]["properties"]);
    Ok(schema)
}

/// The JSON Schema of a type as it is written in TOML: without null, and with what has a default not required.
pub(crate) fn json_schema_of<T: JsonSchema>(title: &str) -> Json {
    let mut schema = Json::from(SchemaSettings::draft07().into_generator().into_root_schema_for::<T>());
    each(&mut schema, &mut |schema| {
        schema.remove("format");
        without_null(schema);
        describe_in_paragraphs(schema);
        let names = schema.get_mut("oneOf").and_then(Json::as_array_mut).into_iter().flatten();
        names.filter_map(Json::as_object_mut).for_each(describe_in_paragraphs);
        // The default of a section is that of its keys.
        if schema
            .get("default")
            .is_some_and(|default| default.is_null() || default.is_object() || *default == json!([]))
        {
            schema.remove("default");
        }
    });
    schema["title"] = title.into();
    schema
}

/// Keywords that say which text is valid.
const RESTRICTIONS: [&str; 7] = ["type", "const", "enum", "oneOf", "pattern", "minLength", "maxLength"];

/// Whether not every text is valid: a name out of several, or text of a form.
fn is_restricted_text(schema: &Map<String, Json>) -> bool {
    let of_names = |schema: &Json| schema.get("const").is_some_and(Json::is_string);
    schema.get("oneOf").and_then(Json::as_array).is_some_and(|names| names.iter().all(of_names))
        || (schema.get("type") == Some(&"string".into())
            && RESTRICTIONS[1..].iter().any(|key| schema.contains_key(*key)))
}

/// Applies `change` to every schema in `schema`, but for the names that a `oneOf` lists: the inner ones first.
fn each(schema: &mut Json, change: &mut impl FnMut(&mut Map<String, Json>)) {
    let Json::Object(schema) = schema else { return };
    for key in ["properties", "definitions"] {
        let inner = schema.get_mut(key).and_then(Json::as_object_mut);
        inner.into_iter().flatten().for_each(|(_, schema)| each(schema, change));
    }
    for key in ["items", "additionalProperties"] {
        schema.get_mut(key).into_iter().for_each(|schema| each(schema, change));
    }
    for key in ["anyOf", "allOf"] {
        let inner = schema.get_mut(key).and_then(Json::as_array_mut);
        inner.into_iter().flatten().for_each(|schema| each(schema, change));
    }
    change(schema);
}

/// TOML has no null: a key that may be absent is absent.
fn without_null(schema: &mut Map<String, Json>) {
    if let Some(Json::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    let Some(Json::Array(forms)) = schema.get_mut("anyOf") else { return };
    forms.retain(|form| *form != json!({ "type": "null" }));
    if forms.len() == 1 {
        // What stands beside a reference is not looked at.
        let forms = schema.remove("anyOf").unwrap_or_default();
        schema.insert("allOf".to_owned(), forms);
    }
}

/// Puts each paragraph of a description, whose lines were broken to fit a source file, on one line.
fn describe_in_paragraphs(schema: &mut Map<String, Json>) {
    let Some(Json::String(description)) = schema.get_mut("description") else { return };
    let one_line = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    *description = description.split("\n\n").map(one_line).collect::<Vec<_>>().join("\n\n");
}

/// Takes the keys that are in `supplied` from those that the section at `pointer` requires, and its sections too.
fn not_required(schema: &mut Json, pointer: &str, supplied: &Toml) {
    for (key, value) in supplied {
        let Some(Json::Object(section)) = schema.pointer_mut(pointer) else { return };
        if let Some(Json::Array(required)) = section.get_mut("required")
            && let Some(at) = required.iter().position(|required| required == key)
        {
            required.remove(at);
            if required.is_empty() {
                section.remove("required");
            }
            describe(&mut section["properties"][key], "Required, unless the preset gives it.");
        }
        let inner = section.get("properties").and_then(|properties| reference(properties.get(key)?));
        if let (Value::Table(supplied), Some(inner)) = (value, inner) {
            not_required(schema, &inner, supplied);
        }
    }
}

/// The pointer to what a property refers to, if it does.
fn reference(property: &Json) -> Option<String> {
    let reference = property.get("$ref").or_else(|| property.get("allOf")?.get(0)?.get("$ref"));
    Some(reference?.as_str()?.strip_prefix('#')?.to_owned())
}

/// Adds a paragraph to a description.
fn describe(schema: &mut Json, paragraph: &str) {
    if let Json::String(description) = &mut schema["description"] {
        description.push_str("\n\n");
        description.push_str(paragraph);
    }
}

/// Adds to each key's description the values that methods entail.
fn describe_entailed(properties: &mut Json) {
    let mut entailed: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for method in Method::ALL {
        let name = format!("`{}`", method.info().name);
        for (key, value) in method.defaults() {
            entailed.entry(key).or_default().entry(value.to_string()).or_default().push(name.clone());
        }
    }
    for (key, values) in entailed {
        let values = values.into_iter().map(|(value, methods)| format!("`{value}` with {}", methods.join(", ")));
        describe(&mut properties[key], &format!("The default is {}.", values.collect::<Vec<_>>().join("; ")));
    }
}
