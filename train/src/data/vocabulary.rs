//! Users and items: from an id in a table to a row of an embedding table.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, LargeStringArray, StringViewArray};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::HashMap;

use counterweight::advice::quoted;
use counterweight::error::{Result, invalid};

/// Distinct ids in ascending order, each with its index.
///
/// Ids are integers or text. The type of the column they came from is kept, but a look-up takes any integer type, or
/// any text type.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    ids: ArrayRef,
    index: Index,
}

#[derive(Debug, Clone)]
enum Index {
    Integers(HashMap<i64, u32>),
    Text(HashMap<String, u32>),
}

/// A column of ids, in one of the two forms that a vocabulary knows.
#[derive(Debug)]
pub(crate) enum Ids {
    Integers(Int64Array),
    Text(StringViewArray),
}

impl Ids {
    /// Reads the ids of `column`, whose name is for the error message.
    pub(crate) fn of(column: &ArrayRef, name: &str) -> Result<Self> {
        let data_type = id_type(column.data_type(), name)?;
        let exact = CastOptions { safe: false, ..CastOptions::default() };
        let text = match is_bytes(column.data_type()) {
            // The one cast of bytes that refuses those that are no text.
            true => cast_with_options(column, &DataType::LargeUtf8, &exact),
            false => Ok(Arc::clone(column)),
        };
        let ids = text.and_then(|column| cast_with_options(&column, &data_type, &exact));
        let ids = match ids {
            Ok(ids) => ids,
            Err(error) => invalid!(
                "column {name:?} holds an id that is neither an integer of 64 bits nor text: {error}; \
                 write the ids as text"
            ),
        };
        Ok(match data_type {
            DataType::Int64 => Self::Integers(ids.as_primitive::<Int64Type>().clone()),
            _ => Self::Text(ids.as_string_view().clone()),
        })
    }

    /// Appends the bytes of the id at `row`, so that different ids have different bytes.
    pub(crate) fn write(&self, row: usize, bytes: &mut Vec<u8>) {
        match self {
            Self::Integers(ids) => bytes.extend_from_slice(&ids.value(row).to_le_bytes()),
            Self::Text(ids) => {
                let id = ids.value(row).as_bytes();
                bytes.extend_from_slice(&(id.len() as u64).to_le_bytes());
                bytes.extend_from_slice(id);
            }
        }
    }

    /// The id at `row` as a person reads it.
    pub(crate) fn display(&self, row: usize) -> String {
        match self {
            Self::Integers(ids) if ids.is_valid(row) => ids.value(row).to_string(),
            Self::Text(ids) if ids.is_valid(row) => format!("{:?}", ids.value(row)),
            _ => "NULL".to_owned(),
        }
    }

    /// How many ids are NULL.
    pub(crate) fn null_count(&self) -> usize {
        match self {
            Self::Integers(ids) => ids.null_count(),
            Self::Text(ids) => ids.null_count(),
        }
    }
}

/// Whether a column holds bytes, as Parquet does text that is not said to be so.
fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// The form in which ids of `data_type` are looked up: `Int64`, or `Utf8View`.
///
/// # Errors
/// Where they are neither integers, decimals without a fraction, text, nor text in bytes.
pub(crate) fn id_type(data_type: &DataType, name: &str) -> Result<DataType> {
    match data_type {
        DataType::Dictionary(_, values) => id_type(values, name),
        integer if integer.is_integer() => Ok(DataType::Int64),
        DataType::Decimal128(_, 0) | DataType::Decimal256(_, 0) => Ok(DataType::Int64),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(DataType::Utf8View),
        bytes if is_bytes(bytes) => Ok(DataType::Utf8View),
        DataType::Float32 | DataType::Float64 => invalid!(
            "column {name:?} is {data_type}, which merges ids beyond 2^53: ids are integers or text; write them as such"
        ),
        other => invalid!("column {name:?} is {other}: ids are integers or text; CAST it to BIGINT or VARCHAR"),
    }
}

impl Vocabulary {
    /// The vocabulary whose ids are `ids`: distinct, and in ascending order.
    pub fn from_ids(ids: ArrayRef) -> Result<Self> {
        let index = match Ids::of(&ids, "id")? {
            Ids::Integers(ids) => Index::Integers(ids.values().iter().copied().zip(0..).collect()),
            Ids::Text(ids) => Index::Text(ids.iter().flatten().map(str::to_owned).zip(0..).collect()),
        };
        Ok(Self { ids, index })
    }

    /// The ids in the order of their indices, in the type of the column they came from.
    pub fn ids(&self) -> &ArrayRef {
        &self.ids
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no id.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The index of every id in `ids`; none where it is NULL or unknown.
    pub(crate) fn look_up(&self, ids: &Ids, name: &str) -> Result<Vec<Option<u32>>> {
        Ok(match (&self.index, ids) {
            (Index::Integers(index), Ids::Integers(ids)) => ids.iter().map(|id| index.get(&id?).copied()).collect(),
            (Index::Text(index), Ids::Text(ids)) => ids.iter().map(|id| index.get(id?).copied()).collect(),
            (Index::Integers(_), Ids::Text(_)) => invalid!("column {name:?} is text, and the known ids are integers"),
            (Index::Text(_), Ids::Integers(_)) => invalid!("column {name:?} is integers, and the known ids are text"),
        })
    }
}

/// Collects ids into a [`Vocabulary`].
#[derive(Debug)]
pub(crate) struct Interner {
    name: String,
    data_type: DataType,
    index: Index,
}

impl Interner {
    /// An empty collection for a column of that name and type.
    pub(crate) fn new(name: &str, data_type: &DataType) -> Result<Self> {
        let index = match id_type(data_type, name)? {
            DataType::Int64 => Index::Integers(HashMap::default()),
            _ => Index::Text(HashMap::default()),
        };
        Ok(Self { name: name.to_owned(), data_type: data_type.clone(), index })
    }

    /// Adds every id, and returns their indices in order of first appearance: see [`Interner::finish`].
    pub(crate) fn intern(&mut self, ids: &Ids) -> Result<Vec<u32>> {
        if ids.null_count() > 0 {
            let (name, quoted) = (&self.name, quoted(&self.name));
            invalid!("column {name:?} is NULL in some rows; leave them out with WHERE {quoted} IS NOT NULL");
        }
        match (&mut self.index, ids) {
            (Index::Integers(index), Ids::Integers(ids)) => ids
                .values()
                .iter()
                .map(|id| {
                    let next = next_index(index.len(), &self.name)?;
                    Ok(*index.entry(*id).or_insert(next))
                })
                .collect(),
            (Index::Text(index), Ids::Text(ids)) => ids
                .iter()
                .flatten()
                .map(|id| {
                    let next = next_index(index.len(), &self.name)?;
                    Ok(*index.entry_ref(id).or_insert(next))
                })
                .collect(),
            _ => invalid!("column {:?} changes its type", self.name),
        }
    }

    /// The vocabulary, and for each index that [`Interner::intern`] gave out the one it has there.
    pub(crate) fn finish(self) -> Result<(Vocabulary, Vec<u32>)> {
        let (ids, text, order): (ArrayRef, usize, Vec<u32>) = match self.index {
            Index::Integers(index) => {
                let mut pairs: Vec<(i64, u32)> = index.into_iter().collect();
                pairs.sort_unstable();
                let (ids, order): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
                (Arc::new(Int64Array::from(ids)), 0, order)
            }
            Index::Text(index) => {
                let mut pairs: Vec<(String, u32)> = index.into_iter().collect();
                pairs.sort_unstable();
                let order = pairs.iter().map(|(_, first)| *first).collect();
                let text = pairs.iter().map(|(id, _)| id.len()).sum();
                (Arc::new(LargeStringArray::from_iter_values(pairs.into_iter().map(|(id, _)| id))), text, order)
            }
        };
        let mut moved = vec![0; order.len()];
        for (last, first) in order.iter().enumerate() {
            moved[*first as usize] = last as u32;
        }
        Ok((Vocabulary::from_ids(cast(&ids, &stored_type(&self.data_type, text))?)?, moved))
    }
}

/// The type in which distinct ids of `data_type` are kept, whose text has so many bytes in all.
fn stored_type(data_type: &DataType, text: usize) -> DataType {
    let stored = match data_type {
        DataType::Dictionary(_, values) => values,
        bytes if is_bytes(bytes) => &DataType::Utf8,
        DataType::Decimal128(..) | DataType::Decimal256(..) => &DataType::Int64,
        other => other,
    };
    match stored {
        DataType::Utf8 if i32::try_from(text).is_err() => DataType::LargeUtf8,
        stored => stored.clone(),
    }
}

fn next_index(count: usize, name: &str) -> Result<u32> {
    match u32::try_from(count) {
        Ok(next) if next < u32::MAX => Ok(next),
        _ => invalid!("column {name:?} has more than {} distinct ids", u32::MAX - 1),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{BinaryViewArray, Decimal128Array, Int32Array, StringArray, UInt64Array};

    use super::*;

    fn vocabulary(column: ArrayRef) -> (Vocabulary, Vec<u32>) {
        let mut interner = Interner::new("user", column.data_type()).unwrap();
        let first = interner.intern(&Ids::of(&column, "user").unwrap()).unwrap();
        let (vocabulary, moved) = interner.finish().unwrap();
        (vocabulary, first.into_iter().map(|index| moved[index as usize]).collect())
    }

    #[test]
    fn ids_keep_their_type_and_are_ordered() {
        let (users, rows) = vocabulary(Arc::new(Int32Array::from(vec![7, -2, 7, 5])));
        assert_eq!(users.ids().as_ref(), &Int32Array::from(vec![-2, 5, 7]));
        assert_eq!(rows, [2, 0, 2, 1]);
        let asked: ArrayRef = Arc::new(UInt64Array::from(vec![Some(5), None, Some(6)]));
        let found = users.look_up(&Ids::of(&asked, "u").unwrap(), "u").unwrap();
        assert_eq!(found, [Some(1), None, None]);

        let (items, rows) = vocabulary(Arc::new(StringArray::from(vec!["b", "a", "b"])));
        assert_eq!(items.ids().as_ref(), &StringArray::from(vec!["a", "b"]));
        assert_eq!(rows, [1, 0, 1]);
        let error = items.look_up(&Ids::of(&asked, "u").unwrap(), "u").unwrap_err().to_string();
        assert!(error.contains("\"u\" is integers") && error.contains("text"), "{error}");
    }

    #[test]
    fn decimals_and_bytes_are_ids_where_they_are_integers_and_text() {
        let decimals = Decimal128Array::from(vec![7, 5, 7]).with_precision_and_scale(38, 0).unwrap();
        let (users, rows) = vocabulary(Arc::new(decimals));
        assert_eq!((users.ids().as_ref(), rows), (&Int64Array::from(vec![5, 7]) as &dyn Array, vec![1, 0, 1]));
        let (items, rows) = vocabulary(Arc::new(BinaryViewArray::from_iter_values([b"b", b"a"])));
        assert_eq!((items.ids().as_ref(), rows), (&StringArray::from(vec!["a", "b"]) as &dyn Array, vec![1, 0]));

        let huge = Decimal128Array::from(vec![i128::from(i64::MAX) + 1]).with_precision_and_scale(38, 0).unwrap();
        let bytes = BinaryViewArray::from_iter_values([[0xff, 0xfe]]);
        for column in [Arc::new(huge) as ArrayRef, Arc::new(bytes)] {
            let error = Ids::of(&column, "user").unwrap_err();
            assert!(error.is_invalid_input() && error.to_string().contains("\"user\""), "{error}");
        }
    }

    #[test]
    fn text_beyond_two_gib_is_kept_with_offsets_of_64_bits() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        for of in [DataType::Utf8, DataType::Binary, DataType::BinaryView, dictionary] {
            assert_eq!(stored_type(&of, i32::MAX as usize), DataType::Utf8, "{of}");
            assert_eq!(stored_type(&of, i32::MAX as usize + 1), DataType::LargeUtf8, "{of}");
        }
        assert_eq!(stored_type(&DataType::Utf8View, usize::MAX), DataType::Utf8View);
        assert_eq!(stored_type(&DataType::Int32, 0), DataType::Int32);
    }

    #[test]
    fn strange_ids_are_refused() {
        let error = id_type(&DataType::Float64, "item").unwrap_err().to_string();
        assert!(error.contains("\"item\" is Float64") && !error.contains("CAST"), "{error}");
        let huge: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        assert!(Ids::of(&huge, "user").unwrap_err().to_string().contains("\"user\""));
        let null: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        let mut interner = Interner::new("user", null.data_type()).unwrap();
        let error = interner.intern(&Ids::of(&null, "user").unwrap()).unwrap_err().to_string();
        assert!(error.contains("\"user\" is NULL") && error.contains("IS NOT NULL"), "{error}");
    }
}
