//! What the lines of NDJSON files hold.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::fault::fault;
use crate::error::{Error, Result, invalid};

/// Integers up to which a double holds each.
const EXACT: i128 = 1 << 53;

/// What values of a place in the lines are.
#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Null,
    Boolean,
    Integer {
        least: i128,
        most: i128,
    },
    Double,
    /// A double that may have been written as an integer of more than 64 bits.
    Huge,
    /// `"NaN"` or an infinity, which JSON has no number for.
    NotFinite,
    Text,
    List(Box<Shape>),
    Object(Vec<(String, Shape)>),
}

/// Two shapes that have no type in common, and the place.
#[derive(Debug)]
struct Conflict {
    path: String,
    is_loss: bool,
    shapes: [&'static str; 2],
}

impl Shape {
    fn name(&self) -> &'static str {
        match self {
            Shape::Null => "null",
            Shape::Boolean => "true or false",
            Shape::Integer { .. } => "an integer",
            Shape::Double => "a number",
            Shape::Huge => "an integer of more than 64 bits",
            Shape::NotFinite | Shape::Text => "text",
            Shape::List(_) => "a list",
            Shape::Object(_) => "an object",
        }
    }

    fn is_exact(&self) -> bool {
        matches!(self, Shape::Integer { least, most } if *least >= -EXACT && *most <= EXACT)
    }

    fn or(self, other: Self) -> Result<Self, Conflict> {
        use Shape::*;
        Ok(match (self, other) {
            (Null, other) | (other, Null) => other,
            (Integer { least, most }, Integer { least: low, most: high }) => {
                Integer { least: least.min(low), most: most.max(high) }
            }
            (integer @ Integer { .. }, Double | NotFinite) | (Double | NotFinite, integer @ Integer { .. })
                if integer.is_exact() =>
            {
                Double
            }
            (Double, NotFinite) | (NotFinite, Double) => Double,
            (Text, NotFinite) | (NotFinite, Text) => Text,
            (List(item), List(other)) => List(Box::new(item.or(*other).map_err(|conflict| conflict.below("[]"))?)),
            (Object(mut fields), Object(others)) => {
                for (name, shape) in others {
                    match fields.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => {
                            let joined = std::mem::replace(known, Null).or(shape);
                            *known = joined.map_err(|conflict| conflict.below(&name))?;
                        }
                        None => fields.push((name, shape)),
                    }
                }
                Object(fields)
            }
            (a, b) if a == b => a,
            (a, b) => {
                let number = |shape: &Shape| matches!(shape, Integer { .. } | Double | NotFinite | Huge);
                let is_loss = number(&a) && number(&b);
                return Err(Conflict { path: String::new(), is_loss, shapes: [a.name(), b.name()] });
            }
        })
    }

    fn data_type(&self) -> DataType {
        match self {
            Shape::Boolean => DataType::Boolean,
            Shape::Integer { least, most } if *least >= i64::MIN.into() && *most <= i64::MAX.into() => DataType::Int64,
            Shape::Integer { least: 0.., .. } => DataType::UInt64,
            Shape::Integer { .. } => DataType::Decimal128(20, 0),
            Shape::Double | Shape::Huge => DataType::Float64,
            Shape::Null | Shape::NotFinite | Shape::Text => DataType::Utf8,
            Shape::List(item) => DataType::new_list(item.data_type(), true),
            Shape::Object(fields) => DataType::Struct(fields.iter().map(field).collect()),
        }
    }
}

fn field((name, shape): &(String, Shape)) -> Field {
    Field::new(name, shape.data_type(), true)
}

impl Conflict {
    fn below(self, name: &str) -> Self {
        let path = match self.path.as_str() {
            "" => name.to_owned(),
            path if path.starts_with("[]") => format!("{name}{path}"),
            path => format!("{name}.{path}"),
        };
        Self { path, ..self }
    }

    fn error(&self, file: &str, line: usize) -> Error {
        let Self { path, is_loss, shapes: [a, b] } = self;
        let cure = match is_loss {
            true => "a double would merge integers beyond 2^53: write them as text in every line",
            false => "write it as one type in every line",
        };
        Error::Invalid(format!("{file}: column {path:?} is {a} in some lines and {b} in line {line}; {cure}"))
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shapes)
    }
}

struct Shapes;

impl<'de> Visitor<'de> for Shapes {
    type Value = Shape;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Boolean)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Integer { least: value.into(), most: value.into() })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Integer { least: value.into(), most: value.into() })
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape, E> {
        Ok(if value.abs() >= u64::MAX as f64 { Shape::Huge } else { Shape::Double })
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape, E> {
        let unsigned = value.trim_start_matches(['-', '+']);
        let not_finite = ["NaN", "inf", "infinity"].iter().any(|name| unsigned.eq_ignore_ascii_case(name));
        Ok(if not_finite { Shape::NotFinite } else { Shape::Text })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let mut all = Shape::Null;
        while let Some(item) = items.next_element::<Shape>()? {
            all = all.or(item).map_err(|Conflict { shapes: [a, b], .. }| {
                serde::de::Error::custom(format!("a list holds {a} and {b}; its items are of one type"))
            })?;
        }
        Ok(Shape::List(Box::new(all)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shape, A::Error> {
        let mut fields: Vec<(String, Shape)> = Vec::new();
        while let Some((name, shape)) = entries.next_entry()? {
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(serde::de::Error::custom(format!("the name {name:?} stands twice in an object")));
            }
            fields.push((name, shape));
        }
        Ok(Shape::Object(fields))
    }
}

impl Shape {
    /// What a line holds; doubles that `line` writes as long integers are told from others.
    fn of(line: &[u8]) -> Result<Self, serde_json::Error> {
        let shape: Shape = serde_json::from_slice(line)?;
        let is_digits = |word: &[u8]| word.len() >= 20 && word.iter().all(u8::is_ascii_digit);
        let mut words = line.split(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'.' | b'+'));
        Ok(if words.any(is_digits) { shape } else { shape.without_huge() })
    }

    fn without_huge(self) -> Self {
        match self {
            Shape::Huge => Shape::Double,
            Shape::List(item) => Shape::List(Box::new(item.without_huge())),
            Shape::Object(fields) => {
                Shape::Object(fields.into_iter().map(|(name, shape)| (name, shape.without_huge())).collect())
            }
            other => other,
        }
    }
}

/// The columns of all lines of `files`, and of the types that hold all of their values.
///
/// The whole files are read: DataFusion looks at the first thousand lines, and its reader then takes 0.5 for 0 where those
/// held integers, and every integer beyond 64 bits for a double.
pub(super) async fn schema(
    store: &dyn ObjectStore,
    files: &[(String, ObjectMeta, FileCompressionType)],
) -> Result<SchemaRef> {
    let mut all = Shape::Object(Vec::new());
    for (name, file, compression) in files {
        let opened = async { Ok(store.get(&file.location).await?.into_stream().map_err(Into::into).boxed()) };
        let opened = opened.await.and_then(|bytes| compression.convert_stream(bytes));
        let mut bytes = opened.map_err(|error| fault(name, error))?;
        let (mut buffer, mut line) = (Vec::new(), 0);
        loop {
            let more = bytes.try_next().await.map_err(|error| fault(name, error))?;
            let is_end = more.is_none();
            buffer.extend_from_slice(more.as_deref().unwrap_or(b"\n"));
            let end = buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            for text in buffer[..end].split(|byte| *byte == b'\n') {
                line += 1;
                let text = if line == 1 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) } else { text };
                if text.trim_ascii().is_empty() {
                    continue;
                }
                all = add(all, text, name, line)?;
            }
            // The last of the parts is what follows the last line break: nothing.
            line -= 1;
            buffer.drain(..end);
            if is_end {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    match all {
        Shape::Object(fields) => Ok(Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))),
        _ => Ok(Arc::new(Schema::empty())),
    }
}

/// Refuses a declared type as which the reader would take what the lines hold for something else, or not at all.
pub(super) fn require_fit(declared: &SchemaRef, held: &SchemaRef) -> Result<()> {
    for field in declared.fields() {
        let Ok(of_lines) = held.field_with_name(field.name()) else { continue };
        let (wanted, found) = (field.data_type(), of_lines.data_type());
        if (wanted.is_integer() && found.is_floating()) || (wanted.is_string() && !found.is_string()) {
            invalid!(
                "schema declares column {:?} as {wanted}, and the lines hold {found}; declare it as that, and CAST it in a \
                 query",
                field.name()
            );
        }
    }
    Ok(())
}

fn add(all: Shape, text: &[u8], name: &str, line: usize) -> Result<Shape> {
    if line == 1 && text.trim_ascii().starts_with(b"[") {
        invalid!("{name} is a JSON array; NDJSON is read here, which has one object a line");
    }
    let shape = match Shape::of(text) {
        Ok(shape @ Shape::Object(_)) => shape,
        Ok(other) => invalid!("{name}, line {line}: {} is no object; NDJSON has one object a line", other.name()),
        Err(error) => invalid!("{name}, line {line}, is no JSON object: {error}"),
    };
    if let Some(path) = huge(&shape) {
        invalid!(
            "{name}, line {line}: column {path:?} holds an integer of more than 64 bits, which a double would merge with \
             others; write it as text"
        );
    }
    all.or(shape).map_err(|conflict| conflict.error(name, line))
}

fn huge(shape: &Shape) -> Option<String> {
    match shape {
        Shape::Huge => Some(String::new()),
        Shape::List(item) => huge(item),
        Shape::Object(fields) => fields.iter().find_map(|(name, shape)| {
            huge(shape).map(|below| format!("{name}{}{below}", if below.is_empty() { "" } else { "." }))
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(lines: &[&str]) -> Result<Vec<DataType>, String> {
        let mut all = Shape::Object(Vec::new());
        for (line, text) in lines.iter().enumerate() {
            all = add(all, text.as_bytes(), "x.json", line + 1).map_err(|error| error.to_string())?;
        }
        let Shape::Object(fields) = all else { panic!() };
        Ok(fields.iter().map(|(_, shape)| shape.data_type()).collect())
    }

    #[test]
    fn lines_have_types_that_hold_their_values() {
        use DataType::*;
        for (lines, data_type) in [
            (&[r#"{"a":1}"#, r#"{"a":0.5}"#][..], Float64),
            (&[r#"{"a":0.5}"#, r#"{"a":"NaN"}"#], Float64),
            (&[r#"{"a":1}"#, r#"{"b":1}"#, r#"{"a":null}"#], Int64),
            (&[r#"{"a":9223372036854775808}"#], UInt64),
            (&[r#"{"a":9223372036854775808}"#, r#"{"a":-1}"#], Decimal128(20, 0)),
            (&[r#"{"a":[1, 0.5]}"#, r#"{"a":[]}"#], DataType::new_list(Float64, true)),
            (&[r#"{"a":1e300}"#], Float64),
            (&[r#"{"a":true}"#], Boolean),
        ] {
            assert_eq!(types(lines).unwrap()[0], data_type, "{lines:?}");
        }
        for (lines, said) in [
            (&[r#"{"a":1}"#, r#"{"a":"x"}"#][..], "line 2"),
            (&[r#"{"a":{"b":1}}"#, r#"{"a":{"b":"x"}}"#], "a.b"),
            (&[r#"{"a":9007199254740993}"#, r#"{"a":0.5}"#], "2^53"),
            (&[r#"{"a":18446744073709551616}"#], "64 bits"),
            (&["[1]"], "JSON array"),
            (&["7"], "no object"),
            (&["{"], "no JSON object"),
        ] {
            let error = types(lines).unwrap_err();
            assert!(error.contains(said) && error.contains("x.json"), "{error}");
        }
    }
}
