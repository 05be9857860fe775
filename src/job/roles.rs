//! The roles that columns play, and the columns that a job gives them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Declares [`Role`]: each line gives a role's meaning, its variant, its key in a job file, and what its column may hold.
macro_rules! roles {
    ($($(#[doc = $meaning:literal])+ $role:ident = $key:literal: $kind:ident,)+) => {
        /// What a column means to a job. This is the one list of the roles; audits name them in its order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Role {
            $($(#[doc = $meaning])+ $role,)+
        }

        impl Role {
            /// Every role.
            pub const ALL: &'static [Self] = &[$(Self::$role),+];

            /// The key of every role, in the order of [`Role::ALL`].
            pub const KEYS: &'static [&'static str] = &[$($key),+];

            /// The role's key in `[columns]`; audits and messages call it so, too.
            pub const fn key(self) -> &'static str {
                match self {
                    $(Self::$role => $key,)+
                }
            }

            /// What the role means: a sentence.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$role => concat!($($meaning),+).trim_ascii_start(),)+
                }
            }

            /// What a column in the role may hold.
            pub const fn kind(self) -> ColumnKind {
                match self {
                    $(Self::$role => ColumnKind::$kind,)+
                }
            }
        }
    };
}

roles! {
    /// User identity: integers or text.
    User = "user": Identity,
    /// Item identity: integers or text.
    Item = "item": Identity,
    /// o: whether the outcome was let happen, as by a click, an exposure or a rating; a boolean, or a number that is 0 or 1.
    Treated = "treated": Flag,
    /// p̂: the probability of being treated.
    Propensity = "propensity": Number,
    /// The propensity before the last change of its model, to compare with.
    PropensityBefore = "propensity_before": Number,
    /// r: known only where treated; 0 to 1 (conversion, or a binarised rating).
    Outcome = "outcome": Flag,
    /// r̂: the predicted outcome.
    Prediction = "prediction": Number,
    /// e: the error of the prediction; derived from prediction and outcome where absent.
    Error = "error": Number,
    /// ê: a model's estimate of the error.
    ImputedError = "imputed_error": Number,
    /// The true probability of the outcome, known in simulations: with it an audit shows the true error.
    TrueConversion = "true_conversion": Number,
    /// The true propensity, known in simulations.
    TruePropensity = "true_propensity": Number,
    /// When the row was made: a date, a moment (its date is taken), or numbers or text in the order of the days.
    Day = "day": Any,
    /// φ: numeric columns, or one column of vectors. Absent, φ = 1.
    Phi = "phi": Representation,
    /// What rows that belong together have in common, for the intervals and tests of an audit: one column, or a list of two of
    /// which rows may share either. Absent, the column of the role user, if an audit's query gives it; none where the list is
    /// empty.
    Cluster = "cluster": Identities,
}

/// What a column in a role may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColumnKind {
    /// An integer or text.
    Identity,
    /// What [`ColumnKind::Identity`] may, a date, or a moment. One column or two may have the role.
    Identities,
    /// A number.
    Number,
    /// A number or a boolean.
    Flag,
    /// A number, a boolean or a vector of numbers. Several columns may have the role.
    Representation,
    /// Anything that can be grouped by.
    Any,
}

impl Role {
    /// The role of that key, if there is one.
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.key() == key)
    }

    /// Whether several columns may play the role: its key then takes a list.
    pub fn is_list(self) -> bool {
        matches!(self.kind(), ColumnKind::Representation | ColumnKind::Identities)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.key())
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = String::deserialize(deserializer)?;
        Self::from_key(&key).ok_or_else(|| D::Error::unknown_field(&key, Self::KEYS))
    }
}

/// The column of a query's result that plays each role. A role without a column is absent.
///
/// In a job file it is a table: the name of one column under the key of each [`Role`], a list of names under a key of
/// several ([`Role::is_list`]). An empty list is as good as none, but for the role cluster: rows then belong to none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns(BTreeMap<Role, Vec<String>>);

impl Columns {
    /// The column in `role`, the first of several.
    pub fn get(&self, role: Role) -> Option<&str> {
        self.all(role).first().map(String::as_str)
    }

    /// The columns in `role`.
    pub fn all(&self, role: Role) -> &[String] {
        self.0.get(&role).map_or(&[], Vec::as_slice)
    }

    /// Whether the role has a column, or is said to have none.
    pub fn is_given(&self, role: Role) -> bool {
        self.0.contains_key(&role)
    }

    /// These columns and `column` in `role`: in place of the one that had it, or after the others of a role of several.
    pub fn with(mut self, role: Role, column: impl Into<String>) -> Self {
        let columns = self.0.entry(role).or_default();
        if !role.is_list() {
            columns.clear();
        }
        columns.push(column.into());
        self
    }

    /// These columns, with those in the roles that `over` names taken from there.
    pub fn overridden(&self, over: &Self) -> Self {
        let mut columns = self.clone();
        columns.0.extend(over.0.clone());
        columns
    }
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (role, columns) in &self.0 {
            match columns.as_slice() {
                [column] if !role.is_list() => map.serialize_entry(role, column)?,
                columns => map.serialize_entry(role, columns)?,
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of columns by role")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = BTreeMap::new();
                while let Some(role) = map.next_key::<Role>()? {
                    let names = match role.kind() {
                        ColumnKind::Representation => map.next_value()?,
                        ColumnKind::Identities => map.next_value::<OneOrSeveral>()?.names(),
                        _ => vec![map.next_value()?],
                    };
                    if columns.insert(role, names).is_some() {
                        return Err(A::Error::duplicate_field(role.key()));
                    }
                }
                columns.retain(|role, names: &mut Vec<String>| !names.is_empty() || *role == Role::Cluster);
                Ok(Columns(columns))
            }
        }

        deserializer.deserialize_map(Table)
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a column or a list of columns is wanted")]
enum OneOrSeveral {
    One(String),
    Several(Vec<String>),
}

impl OneOrSeveral {
    fn names(self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name],
            Self::Several(names) => names,
        }
    }
}

impl JsonSchema for Columns {
    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let column = |role: Role| match role.kind() {
            ColumnKind::Representation => {
                json_schema!({ "type": "array", "items": { "type": "string" }, "description": role.meaning() })
            }
            ColumnKind::Identities => json_schema!({
                "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
                "description": role.meaning(),
            }),
            _ => json_schema!({ "type": "string", "description": role.meaning() }),
        };
        let properties: BTreeMap<&str, Schema> = Role::ALL.iter().map(|role| (role.key(), column(*role))).collect();
        json_schema!({ "type": "object", "properties": properties, "additionalProperties": false })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_role_has_a_key_and_a_meaning_of_its_own() {
        for (role, key) in Role::ALL.iter().zip(Role::KEYS) {
            assert_eq!(role.key(), *key);
            assert_eq!(Role::from_key(key), Some(*role));
            assert!(role.meaning().ends_with('.') && !role.meaning().starts_with(' '), "{key}: {}", role.meaning());
        }
        assert_eq!(Role::from_key("Treated"), None);
    }

    #[test]
    fn every_role_is_in_the_guide() {
        let guide = include_str!("../../docs/guide.md");
        let table = guide.split("| role |").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
        for key in Role::KEYS {
            assert!(table.contains(&format!("`{key}`")), "{key} is not in the table of roles");
        }
    }

    #[test]
    fn columns_survive_being_written_and_read() {
        let columns = Columns::default()
            .with(Role::Treated, "rated")
            .with(Role::Treated, "clicked")
            .with(Role::Phi, "age")
            .with(Role::Phi, "x");
        let written = serde_json::to_value(&columns).unwrap();
        assert_eq!(written, json!({"treated": "clicked", "phi": ["age", "x"]}));
        assert_eq!(serde_json::from_value::<Columns>(written).unwrap(), columns);
        assert_eq!((columns.get(Role::Treated), columns.get(Role::Day)), (Some("clicked"), None));
        assert_eq!(columns.all(Role::Phi), ["age", "x"]);
    }

    #[test]
    fn keys_and_values_that_are_none_are_refused() {
        let error = |text: &str| serde_json::from_str::<Columns>(text).unwrap_err().to_string();
        assert!(error(r#"{"usr": "u"}"#).starts_with("unknown field `usr`, expected one of `user`, `item`, `treated`"));
        assert!(error(r#"{"user": ["u"]}"#).contains("expected a string"));
        assert!(error(r#"{"phi": "x"}"#).contains("expected a sequence"));
        assert!(error(r#"{"cluster": 3}"#).contains("a column or a list of columns is wanted"));
        assert!(error(r#"{"user": "u", "user": "v"}"#).contains("duplicate field `user`"));
        assert!(error("3").contains("expected a table of columns by role"));
    }

    #[test]
    fn clusters_are_one_column_or_a_list_and_an_empty_one_is_a_choice() {
        let columns = |text: &str| serde_json::from_str::<Columns>(text).unwrap();
        assert_eq!(columns(r#"{"cluster": "u"}"#), columns(r#"{"cluster": ["u"]}"#));
        assert_eq!(columns(r#"{"cluster": ["u", "i"]}"#).all(Role::Cluster), ["u", "i"]);
        let none = columns(r#"{"user": "u"}"#).overridden(&columns(r#"{"cluster": []}"#));
        assert!(none.is_given(Role::Cluster) && none.all(Role::Cluster).is_empty());
        assert!(!columns(r#"{"user": "u", "phi": []}"#).is_given(Role::Phi));
    }

    #[test]
    fn roles_given_elsewhere_win_and_the_others_stay() {
        let columns = |json| serde_json::from_value::<Columns>(json).unwrap();
        let ours = columns(json!({"treated": "clicked", "propensity": "p", "phi": ["x"]}));
        let over = columns(json!({"propensity": "q", "phi": [], "propensity_before": "p"}));
        let expected =
            columns(json!({"treated": "clicked", "propensity": "q", "propensity_before": "p", "phi": ["x"]}));
        assert_eq!(ours.overridden(&over), expected);
    }
}
