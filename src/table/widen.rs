//! The one schema of files that differ: columns by name, each of the narrowest type that holds all of its values.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::error::{Result, invalid};

/// The narrowest type that holds every value of both; none where something would be lost.
fn common(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::*;
    if a == b {
        return Some(a.clone());
    }
    Some(match (a, b) {
        (Null, other) | (other, Null) => other.clone(),
        (Dictionary(_, a), b) | (b, Dictionary(_, a)) => common(a, b)?,
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => Utf8View,
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => BinaryView,
        (a, b) if a.is_integer() && b.is_integer() => common_integer(a, b),
        (a, b) if a.is_floating() && b.is_floating() => {
            if a.primitive_width() > b.primitive_width() {
                a.clone()
            } else {
                b.clone()
            }
        }
        (integer, float) | (float, integer) if integer.is_integer() && float.is_floating() => {
            // A double has 53 bits for an integer.
            if integer.primitive_width()? > 4 {
                return None;
            }
            Float64
        }
        (Decimal128(p, s), Decimal128(q, t)) => decimal(p - *s as u8, q - *t as u8, *s.max(t))?,
        (Decimal128(p, s), integer) | (integer, Decimal128(p, s)) if integer.is_integer() => {
            decimal(p.saturating_sub(*s as u8), digits(integer), *s)?
        }
        (Timestamp(a, zone), Timestamp(b, other)) if zone == other => Timestamp(*a.max(b), zone.clone()),
        (Date32, Timestamp(unit, None)) | (Timestamp(unit, None), Date32) => Timestamp(*unit, None),
        (Date32, Date64) | (Date64, Date32) => Date64,
        (
            List(one) | LargeList(one) | FixedSizeList(one, _),
            List(other) | LargeList(other) | FixedSizeList(other, _),
        ) => {
            let item = Arc::new(Field::new_list_field(common(one.data_type(), other.data_type())?, true));
            if matches!((a, b), (LargeList(_), _) | (_, LargeList(_))) { LargeList(item) } else { List(item) }
        }
        _ => return None,
    })
}

fn common_integer(a: &DataType, b: &DataType) -> DataType {
    let (wide, narrow) = if a.primitive_width() >= b.primitive_width() { (a, b) } else { (b, a) };
    let is_wider = wide.primitive_width() > narrow.primitive_width();
    if wide.is_signed_integer() == narrow.is_signed_integer() || (wide.is_signed_integer() && is_wider) {
        return wide.clone();
    }
    // What holds an unsigned integer is signed and wider.
    match wide.primitive_width() {
        Some(1) => DataType::Int16,
        Some(2) => DataType::Int32,
        Some(4) => DataType::Int64,
        _ => DataType::Decimal128(20, 0),
    }
}

fn digits(integer: &DataType) -> u8 {
    match integer.primitive_width() {
        Some(1) => 3,
        Some(2) => 5,
        Some(4) => 10,
        _ => 20,
    }
}

fn decimal(whole: u8, other: u8, scale: i8) -> Option<DataType> {
    let precision = whole.max(other).checked_add(u8::try_from(scale).ok()?)?;
    (precision <= 38).then_some(DataType::Decimal128(precision, scale))
}

/// A schema for all of `files`, each given by its name and its own schema: the columns in the order in which they first
/// appear, all of which may be NULL.
///
/// # Errors
/// Where two files hold a column in types that have none in common: the message names both.
pub(super) fn merge(files: &[(String, SchemaRef)]) -> Result<SchemaRef> {
    let mut fields: Vec<(Field, usize)> = Vec::new();
    for (index, (name, schema)) in files.iter().enumerate() {
        for (column, field) in schema.fields().iter().enumerate() {
            if schema.fields()[..column].iter().any(|other| other.name() == field.name()) {
                invalid!("{name} has two columns {:?}; rename one", field.name());
            }
            match fields.iter_mut().find(|(known, _)| known.name() == field.name()) {
                None => fields.push((Field::new(field.name(), field.data_type().clone(), true), index)),
                Some((known, first)) => match common(known.data_type(), field.data_type()) {
                    Some(wider) => {
                        if wider != *known.data_type() {
                            *known = Field::new(known.name(), wider, true);
                            *first = index;
                        }
                    }
                    None => invalid!(
                        "column {:?} is {} in {} and {} in {name}, and no type holds the values of both{}; \
                         state the columns and their types in the table's `schema`, or write it as one type",
                        field.name(),
                        known.data_type(),
                        files[*first].0,
                        field.data_type(),
                        match known.data_type().is_numeric() && field.data_type().is_numeric() {
                            true => " (a double merges integers beyond 2^53)",
                            false => "",
                        }
                    ),
                },
            }
        }
    }
    let plain = |(field, _): (Field, usize)| match field.data_type() {
        DataType::Null => field.with_data_type(DataType::Utf8View),
        _ => field,
    };
    Ok(Arc::new(Schema::new(fields.into_iter().map(plain).collect::<Vec<_>>())))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn a_common_type_loses_nothing() {
        use DataType::*;
        for (a, b, wider) in [
            (Int32, Int64, Some(Int64)),
            (UInt32, Int32, Some(Int64)),
            (UInt8, Int64, Some(Int64)),
            (UInt64, Int64, Some(Decimal128(20, 0))),
            (Float32, Float64, Some(Float64)),
            (Int32, Float32, Some(Float64)),
            (Int64, Float64, None),
            (Date32, Utf8, None),
            (Utf8, Utf8View, Some(Utf8View)),
            (Dictionary(Box::new(Int32), Box::new(Utf8)), Utf8, Some(Utf8)),
            (Decimal128(10, 2), Int32, Some(Decimal128(12, 2))),
            (Boolean, Int32, None),
            (Null, Date32, Some(Date32)),
            (Date32, Timestamp(TimeUnit::Microsecond, None), Some(Timestamp(TimeUnit::Microsecond, None))),
            (Timestamp(TimeUnit::Second, None), Timestamp(TimeUnit::Second, Some("UTC".into())), None),
        ] {
            assert_eq!(common(&a, &b), wider, "{a} and {b}");
            assert_eq!(common(&b, &a), wider, "{b} and {a}");
        }
    }

    #[test]
    fn files_that_disagree_are_both_named() {
        let schema = |data_type| Arc::new(Schema::new(vec![Field::new("r", data_type, false)]));
        let files = [("a".to_owned(), schema(DataType::Date32)), ("b".to_owned(), schema(DataType::Utf8))];
        let error = merge(&files).unwrap_err().to_string();
        assert!(error.contains("Date32 in a and Utf8 in b") && error.contains("`schema`"), "{error}");
    }
}
