//! Partitions: the folders `key=value` that files lie in.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::datasource::physical_plan::{wrap_partition_type_in_dict, wrap_partition_value_in_dict};
use datafusion::scalar::ScalarValue;
use object_store::ObjectMeta;
use percent_encoding::percent_decode_str;

use super::listing::{Found, below};
use super::location::Location;
use crate::error::{Context, Result, invalid};

/// The value of a partition for rows that have none, as Hive and Spark name its folder.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The columns that the folders make, and their values for each file.
#[derive(Debug, Clone, Default)]
pub(super) struct Partitions {
    pub(super) fields: Vec<FieldRef>,
    pub(super) values: Vec<Vec<ScalarValue>>,
}

impl Partitions {
    /// Those of the files found. A column is text but where it is declared.
    ///
    /// # Errors
    /// Where two files do not lie in partitions of the same keys.
    pub(super) fn of(location: &Location, found: &Found, declared: Option<&SchemaRef>) -> Result<Self> {
        let keys = |file: &ObjectMeta| -> Vec<(String, String)> {
            let path = below(&found.folder, &file.location);
            let folders = &path[..path.len() - 1];
            let decoded =
                |text: &str| percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text)).into_owned();
            let pairs = folders.iter().filter_map(|name| name.split_once('='));
            pairs.map(|(key, value)| (decoded(key), decoded(value))).collect()
        };
        let first: Vec<String> = keys(&found.files[0]).into_iter().map(|(key, _)| key).collect();
        for (index, key) in first.iter().enumerate() {
            if first[..index].contains(key) {
                invalid!("{} lies in two partitions {key:?}", location.show(&found.files[0]));
            }
        }
        let data_type = |key: &String| match declared.and_then(|schema| schema.field_with_name(key).ok()) {
            Some(field) => field.data_type().clone(),
            None => wrap_partition_type_in_dict(DataType::Utf8),
        };
        let fields: Vec<FieldRef> = first.iter().map(|key| Arc::new(Field::new(key, data_type(key), true))).collect();
        let mut values = Vec::new();
        for file in &found.files {
            let of_file = keys(file);
            if !of_file.iter().map(|(key, _)| key).eq(&first) {
                invalid!(
                    "{} and {} lie in partitions of other keys ({}; {}); name one of the folders",
                    location.show(&found.files[0]),
                    location.show(file),
                    first.join(", "),
                    of_file.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ")
                );
            }
            let pairs = of_file.iter().zip(&fields);
            values.push(pairs.map(|((_, text), field)| value(text, field, location, file)).collect::<Result<_>>()?);
        }
        Ok(Self { fields, values })
    }

    /// Whether there is a column of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name() == name)
    }
}

fn value(text: &str, field: &Field, location: &Location, file: &ObjectMeta) -> Result<ScalarValue> {
    let text = (text != NULL).then(|| text.to_owned());
    if let DataType::Dictionary(..) = field.data_type() {
        return Ok(wrap_partition_value_in_dict(ScalarValue::Utf8(text)));
    }
    let value = match &text {
        Some(text) => ScalarValue::try_from_string(text.clone(), field.data_type()),
        None => ScalarValue::try_from(field.data_type()),
    };
    match value {
        Ok(value) => Ok(value),
        Err(_) => invalid!(
            "the partition {}={} of {} is not a value of {}, which schema declares",
            field.name(),
            text.unwrap_or_default(),
            location.show(file),
            field.data_type()
        ),
    }
}

/// Whether a value that a file holds is that of its partition.
pub(super) fn agrees(held: &ScalarValue, partition: &ScalarValue) -> Result<bool> {
    let text = partition.cast_to(&DataType::Utf8)?;
    if text.is_null() || held.is_null() {
        return Ok(text.is_null() && held.is_null());
    }
    if held.cast_to(&DataType::Utf8).is_ok_and(|held| held == text) {
        return Ok(true);
    }
    let typed = text.cast_to(&held.data_type()).context(|| "partition");
    Ok(typed.is_ok_and(|typed| typed == *held))
}
