//! The treatment of a row together with the clusters that the row belongs to, as `treatment()` gives it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::datatypes::{DataType, Field, UInt8Type, UInt16Type};
use datafusion_common::{Result, exec_err};

/// How rows belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Clustering {
    #[default]
    Independent,
    /// Rows of one cluster belong together.
    OneWay,
    /// Rows belong together that share a cluster of either of two kinds.
    TwoWay,
}

/// The most groups that clusters are put into.
pub(crate) const MOST_GROUPS: usize = 256;

const TREATED: &str = "treated";
const GROUPS: &str = "groups";

/// The names of the ways in which rows belong together: by the first cluster, by the second, and by both at once.
const WAYS: [&str; 3] = ["cluster", "second", "both"];

impl Clustering {
    /// How the rows of an argument of this type belong together.
    pub(crate) fn of(data_type: &DataType) -> Self {
        let fits = |clustering: &Self| {
            let types = [DataType::Boolean, DataType::Float64].map(|treated| clustering.treatment_type(treated));
            types.iter().any(|wanted| alike(data_type, wanted))
        };
        [Self::OneWay, Self::TwoWay].into_iter().find(fits).unwrap_or_default()
    }

    /// How many ways there are of putting rows into groups.
    pub(crate) fn ways(self) -> usize {
        match self {
            Self::Independent => 0,
            Self::OneWay => 1,
            Self::TwoWay => WAYS.len(),
        }
    }

    /// The type of a treatment, where that of `treated` alone is given.
    pub(crate) fn treatment_type(self, treated: DataType) -> DataType {
        let field = |name: &str, data_type| Arc::new(Field::new(name, data_type, true));
        let ways = WAYS.iter().take(self.ways()).map(|way| field(way, DataType::UInt8));
        DataType::Struct([field(TREATED, treated), field(GROUPS, DataType::UInt16)].into_iter().chain(ways).collect())
    }
}

/// Whether this is the type of a treatment.
pub(crate) fn is_treatment(data_type: &DataType) -> bool {
    Clustering::of(data_type) != Clustering::Independent
}

/// Whether two structs have the same fields, but for whether these may be NULL.
fn alike(one: &DataType, other: &DataType) -> bool {
    let (DataType::Struct(one), DataType::Struct(other)) = (one, other) else { return false };
    let of = |field: &Arc<Field>| (field.name().clone(), field.data_type().clone());
    one.iter().map(of).eq(other.iter().map(of))
}

/// An argument that is a treatment, or the plain column of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Treatment<'a> {
    clustered: Option<&'a StructArray>,
    plain: &'a ArrayRef,
}

impl<'a> Treatment<'a> {
    pub(super) fn read(array: &'a ArrayRef) -> Self {
        let clustered = array.as_struct_opt();
        Self { clustered, plain: clustered.map_or(array, |parts| parts.column(0)) }
    }

    /// The column of treatments alone.
    pub(super) fn treated(self) -> &'a ArrayRef {
        self.plain
    }

    /// All columns, none of which may be NULL where the row is to count.
    pub(super) fn columns(self) -> &'a [ArrayRef] {
        match self.clustered {
            Some(parts) => parts.columns(),
            None => std::slice::from_ref(self.plain),
        }
    }

    /// Where the rows belong, of those in `selection`; `None` where they are independent.
    ///
    /// # Errors
    /// Where the clusters of some rows were put into more groups than those of others.
    pub(super) fn membership(self, function: &str, selection: Option<&[usize]>) -> Result<Option<Membership>> {
        let Some(parts) = self.clustered else { return Ok(None) };
        let rows = parts.len();
        let places = || -> Box<dyn Iterator<Item = usize>> {
            match selection {
                None => Box::new(0..rows),
                Some(rows) => Box::new(rows.iter().copied()),
            }
        };
        let counts = parts.column(1).as_primitive::<UInt16Type>().values();
        let groups = places().next().map_or(0, |row| counts[row]);
        if let Some(other) = places().map(|row| counts[row]).find(|other| *other != groups) {
            return exec_err!(
                "{function}: argument 1 (treated) has clusters in {groups} and in {other} groups: call treatment() with the \
                 same number of groups for all rows"
            );
        }
        let ways = parts.columns()[2..].iter().enumerate().map(|(way, column)| {
            let column = column.as_primitive::<UInt8Type>().values();
            places().map(|row| (way * MOST_GROUPS) as u16 + u16::from(column[row])).collect()
        });
        Ok(Some(Membership { groups, keys: ways.collect() }))
    }
}

/// The groups that rows were put into by their clusters.
#[derive(Debug)]
pub(crate) struct Membership {
    /// How many groups there are.
    pub(crate) groups: u16,
    /// For each way, the key of each row: its group, and [`MOST_GROUPS`] times the number of the way.
    pub(crate) keys: Vec<Vec<u16>>,
}
