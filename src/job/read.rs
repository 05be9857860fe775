//! Reads TOML into a type; an error names its key by the path to it.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_path_to_error::{Path, Segment};
use toml::{Table as Toml, Value};

use crate::error::{Error, Result, suggestion};

/// Names that were others, old and new: an error about an old one gives the new.
const RENAMED: [(&str, &str); 7] = [
    ("balance_weight", "lambda"),
    ("mf", "naive"),
    ("coat-mf", "coat-naive"),
    ("1", "constant"),
    ("K", "product"),
    ("2K", "concat"),
    ("R", "prediction"),
];

/// The table that a text of TOML is.
///
/// # Errors
/// Where it is none; the message has line and column.
pub(crate) fn parse_toml(text: &str) -> Result<Toml> {
    toml::from_str(text).map_err(|error| Error::Invalid(error.to_string().trim_end().to_owned()))
}

/// What a table says, `file` being what its author calls it.
///
/// # Errors
/// Where a key is unknown (with the nearest known one) or missing, or a value is of the wrong kind. The message names the
/// key.
pub(crate) fn read<T: DeserializeOwned>(file: &str, table: Toml) -> Result<T> {
    serde_path_to_error::deserialize(Node(Value::Table(table)))
        .map_err(|error| Error::Invalid(error.inner().at(file, error.path())))
}

/// `; did you mean "x"?` for the nearest known name, or that which has taken the place of `word`, or else the list of
/// them.
pub(super) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let renamed = RENAMED.iter().find(|(old, new)| *old == word && known.clone().into_iter().any(|name| name == *new));
    match renamed {
        Some((_, new)) => format!("; it is now {new:?}"),
        None => suggestion(word, known),
    }
}

/// What is wrong at a place.
#[derive(Debug)]
enum Complaint {
    UnknownKey { key: String, known: &'static [&'static str] },
    UnknownName { value: String, known: &'static [&'static str] },
    MissingKey(&'static str),
    Other(String),
}

impl Complaint {
    /// The message, with the place.
    fn at(&self, file: &str, path: &Path) -> String {
        let keys: Vec<String> = path.iter().map(Segment::to_string).collect();
        let section = |keys: &[String]| if keys.is_empty() { file.to_owned() } else { format!("[{}]", keys.join(".")) };
        match self {
            Self::UnknownKey { key, known } => {
                // The path ends with the key itself.
                let section = section(&keys[..keys.len().saturating_sub(1)]);
                format!("unknown key {key:?} in {section}{}", hint(key, known.iter().copied()))
            }
            Self::MissingKey(key) => format!("{} lacks the key {key}", section(&keys)),
            Self::UnknownName { value, known } => {
                format!("{path} = {value:?} is not valid{}", hint(value, known.iter().copied()))
            }
            Self::Other(message) => format!("{path}: {message}"),
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key, .. } => write!(f, "unknown key {key:?}"),
            Self::UnknownName { value, .. } => write!(f, "{value:?} is not valid"),
            Self::MissingKey(key) => write!(f, "the key {key} is missing"),
            Self::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Complaint {}

impl serde::de::Error for Complaint {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Other(mismatch(found, expected))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Other(mismatch(found, expected))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownKey { key: key.to_owned(), known }
    }

    fn unknown_variant(value: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownName { value: value.to_owned(), known }
    }

    fn missing_field(key: &'static str) -> Self {
        Self::MissingKey(key)
    }
}

/// That a value is not of the kind that its key has, in the words of a job file's author.
fn mismatch(found: Unexpected<'_>, expected: &dyn Expected) -> String {
    let found = match found {
        Unexpected::Map => "a table".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Str(text) => format!("{text:?}"),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Float(number) => number.to_string(),
        Unexpected::Bool(value) => value.to_string(),
        other => other.to_string(),
    };
    let expected = match expected.to_string() {
        integer if ["u16", "u64", "usize"].contains(&&*integer) => "a whole number that is not negative".to_owned(),
        float if float == "f64" => "a number".to_owned(),
        text if text == "a string" => "text".to_owned(),
        boolean if boolean == "a boolean" => "true or false".to_owned(),
        list if list == "a sequence" => "a list".to_owned(),
        table if table == "a map" || table.starts_with("struct ") => "a table".to_owned(),
        other => other,
    };
    format!("{found} is not {expected}")
}

/// A value that is read with [`Complaint`]s.
struct Node(Value);

impl IntoDeserializer<'_, Complaint> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Node {
    type Error = Complaint;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Complaint> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            Value::Integer(number) => visitor.visit_i64(number),
            Value::Float(number) => visitor.visit_f64(number),
            Value::Boolean(value) => visitor.visit_bool(value),
            Value::Datetime(moment) => visitor.visit_string(moment.to_string()),
            Value::Array(values) => SeqDeserializer::new(values.into_iter().map(Node)).deserialize_any(visitor),
            Value::Table(table) => {
                MapDeserializer::new(table.into_iter().map(|(key, value)| (key, Node(value)))).deserialize_any(visitor)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Complaint> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Complaint> {
        visitor.visit_newtype_struct(self)
    }

    /// All of a job's enums are names; a number in place of one is taken for a name that is none.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Complaint> {
        let text = match self.0 {
            Value::String(text) => text,
            other => return Err(Complaint::UnknownName { value: other.to_string(), known }),
        };
        StringDeserializer::new(text).deserialize_enum(name, known, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}
