//! λ, the weight of the regularizer: a number, a schedule, or the one of theorem 4.2.

use std::borrow::Cow;
use std::f64::consts::PI;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Result, invalid};
use crate::job::validate::non_negative;

/// λ: how much the regularizer weighs in the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lambda {
    /// The same in every epoch; 0 leaves the regularizer out.
    Fixed(f64),
    /// Another in every epoch.
    Scheduled(Schedule),
    /// Written `"optimal"`: the λ at which the estimate of the ideal loss and λ·BMSE together vary least from batch to
    /// batch, where that is not negative (Li et al., ICML 2023, theorem 4.2). 0 in the first epoch, and then what the
    /// epoch before says.
    Optimal,
}

/// A schedule: from one weight to another over the first epochs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The weight in the first epoch.
    #[schemars(range(min = 0))]
    pub from: f64,
    /// The weight in epoch `epochs` and all that follow.
    #[schemars(range(min = 0))]
    pub to: f64,
    /// The epoch that reaches `to`; at least 2.
    #[schemars(range(min = 2))]
    pub epochs: usize,
    /// How the weight moves in between.
    #[serde(default)]
    pub curve: Curve,
}

/// How a schedule moves from its first value to its last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Curve {
    /// By the same amount every epoch.
    #[default]
    Linear,
    /// Along half a cosine: slowly at both ends.
    Cosine,
}

impl Schedule {
    /// The weight in `epoch`, counted from 1.
    pub fn at(&self, epoch: usize) -> f64 {
        let Self { from, to, epochs, curve } = *self;
        if epoch >= epochs {
            return to;
        }
        let progress = (epoch - 1) as f64 / (epochs - 1) as f64;
        let share = match curve {
            Curve::Linear => progress,
            Curve::Cosine => (1.0 - (PI * progress).cos()) / 2.0,
        };
        from + (to - from) * share
    }
}

impl Lambda {
    /// Whether the regularizer is left out of every epoch.
    pub fn is_zero(self) -> bool {
        self == Self::Fixed(0.0)
    }

    pub(super) fn validate(self) -> Result<()> {
        let key = "train.loss.lambda";
        match self {
            Self::Fixed(weight) => non_negative(key, weight),
            Self::Optimal => Ok(()),
            Self::Scheduled(Schedule { from, to, epochs, .. }) => {
                non_negative(&format!("{key}.from"), from)?;
                non_negative(&format!("{key}.to"), to)?;
                if epochs < 2 {
                    invalid!("{key}.epochs = {epochs}: give at least 2, or a number in place of the schedule");
                }
                Ok(())
            }
        }
    }
}

impl Default for Lambda {
    fn default() -> Self {
        Self::Fixed(0.0)
    }
}

impl fmt::Display for Lambda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(weight) => write!(f, "{weight}"),
            Self::Scheduled(Schedule { from, to, epochs, .. }) => {
                write!(f, "{{ from = {from}, to = {to}, epochs = {epochs} }}")
            }
            Self::Optimal => write!(f, "\"optimal\""),
        }
    }
}

impl Serialize for Lambda {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(weight) => weight.serialize(serializer),
            Self::Scheduled(schedule) => schedule.serialize(serializer),
            Self::Optimal => serializer.serialize_str("optimal"),
        }
    }
}

impl<'de> Deserialize<'de> for Lambda {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = Lambda;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number, \"optimal\" or {{ from = NUMBER, to = NUMBER, epochs = NUMBER }}")
            }

            fn visit_f64<E>(self, weight: f64) -> std::result::Result<Lambda, E> {
                Ok(Lambda::Fixed(weight))
            }

            fn visit_i64<E>(self, weight: i64) -> std::result::Result<Lambda, E> {
                Ok(Lambda::Fixed(weight as f64))
            }

            fn visit_u64<E>(self, weight: u64) -> std::result::Result<Lambda, E> {
                Ok(Lambda::Fixed(weight as f64))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Lambda, E> {
                match text {
                    "optimal" => Ok(Lambda::Optimal),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> std::result::Result<Lambda, M::Error> {
                Schedule::deserialize(MapAccessDeserializer::new(map)).map(Lambda::Scheduled)
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl JsonSchema for Lambda {
    fn schema_name() -> Cow<'static, str> {
        "Lambda".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number, the same in every epoch, where 0 leaves the regularizer out; a schedule, another in \
                every epoch; or `\"optimal\"`: the λ at which the estimate of the ideal loss and λ·BMSE together vary \
                least from batch to batch, where that is not negative (Li et al., ICML 2023, theorem 4.2), 0 in the \
                first epoch, and then what the epoch before says.",
            "anyOf": [
                { "type": "number", "minimum": 0 },
                { "type": "string", "const": "optimal" },
                generator.subschema_for::<Schedule>(),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(curve: Curve) -> Schedule {
        Schedule { from: 2.0, to: 0.5, epochs: 5, curve }
    }

    #[test]
    fn a_schedule_goes_from_its_first_value_to_its_last() {
        let linear = (1..=7).map(|epoch| schedule(Curve::Linear).at(epoch));
        assert_eq!(linear.collect::<Vec<_>>(), [2.0, 1.625, 1.25, 0.875, 0.5, 0.5, 0.5]);
        let quarter = 2.0 - 1.5 * (1.0 - 0.5_f64.sqrt()) / 2.0;
        for (epoch, wanted) in [(1, 2.0), (2, quarter), (3, 1.25), (4, 2.5 - quarter), (5, 0.5), (100, 0.5)] {
            let weight = schedule(Curve::Cosine).at(epoch);
            assert!((weight - wanted).abs() < 1e-12, "epoch {epoch}: {weight} is not {wanted}");
        }
        let up = Schedule { from: 0.0, to: 1.0, epochs: 2, curve: Curve::Linear };
        assert_eq!([1, 2, 3].map(|epoch| up.at(epoch)), [0.0, 1.0, 1.0]);
    }

    #[test]
    fn every_form_survives_being_written_and_read() {
        for weight in [Lambda::Fixed(0.1), Lambda::Scheduled(schedule(Curve::Cosine)), Lambda::Optimal] {
            let json = serde_json::to_string(&weight).unwrap();
            assert_eq!(serde_json::from_str::<Lambda>(&json).unwrap(), weight, "{json}");
        }
        assert_eq!(serde_json::from_str::<Lambda>("3").unwrap(), Lambda::Fixed(3.0));
    }
}
