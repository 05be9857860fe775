use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::redact::HIDDEN;

/// The value of a variable that nobody is to see.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "text, or { env = \"NAME\" }, is wanted")]
pub enum Secret {
    /// The value itself, of at least 6 characters.
    Text(String),
    /// The value of an environment variable.
    Variable {
        /// The environment variable's name.
        env: String,
    },
}

/// The value itself is written by nobody.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(_) => HIDDEN.serialize(serializer),
            Self::Variable { env } => std::collections::BTreeMap::from([("env", env)]).serialize(serializer),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => formatter.write_str(HIDDEN),
            Self::Variable { env } => write!(formatter, "${env}"),
        }
    }
}
