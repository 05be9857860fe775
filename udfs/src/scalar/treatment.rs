use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray, UInt8Array, UInt16Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use datafusion_common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion_expr::{ColumnarValue, Documentation, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use twox_hash::XxHash64;

use crate::args::{Clustering, MOST_GROUPS, is_number, named_signature};
use crate::docs;

scalar! {
    /// The treatment of a row, and the clusters that the row belongs to, such as its user: what every aggregate takes for
    /// `treated`.
    ///
    /// Rows of one cluster are not independent, and more so the more rows it has. `imbalance`, `imbalance_bias`,
    /// `balance_test`, `balance_state` and what is made of it, `bmse_change` and the intervals of the estimates then have
    /// the errors of rows that belong together; all other aggregates give what they give for `treated` alone. With a
    /// `second` cluster, such as the item, rows belong together that share either. A row with a NULL cluster is skipped:
    /// where rows without a user are independent, give each a cluster of its own, e.g. `coalesce(user, request)`.
    ///
    /// # Details
    /// A struct of `treated`, `groups` (how many there are) and `cluster`, the group that the cluster is in, from 0; with a
    /// second cluster also `second` and `both`, the groups of the second cluster and of the pair. The struct itself is never
    /// NULL.
    ///
    /// A cluster is put into its group by XXH64 with seed 0: of the bytes of text and of binary values, of the 8 bytes,
    /// little endian, of whole numbers, dates and times, and of numbers that are whole, of whichever type; of a struct, of
    /// its fields' hashes. The group is `⌊hash · groups / 2⁶⁴⌋`. So it is the same in every process and on every machine,
    /// whatever the column's type.
    ///
    /// Memory: some numbers for each group that has a row; fewer groups take less and make errors less precise, by a share
    /// of about `√(1/(2·groups))`. States of different numbers of groups are not merged.
    treatment(treated: Expr, cluster: Expr, second: Option<Expr>, groups: Option<Expr>), treatment_udf: Treatment
}

const NAME: &str = "treatment";

const SYNTAX: &str = "treatment(treated, cluster [, second [, groups]])";

const EXAMPLE: &str = "> SELECT i['clusters'] AS clusters
  FROM (SELECT imbalance(treatment(clicked, user), p) AS i
        FROM (VALUES ('ann', 1, 0.5), ('ann', 1, 0.8), ('bob', 0, 0.5), ('eve', 0, 0.2)) AS log (user, clicked, p));
+----------+
| clusters |
+----------+
| 3        |
+----------+";

const PARAMETERS: [(&str, &str); 4] = [
    ("treated", "The treatment o: a boolean, or a number that is 0 or 1."),
    (
        "cluster",
        "What rows of one cluster have in common, such as a user's id: text, binary, a boolean, a number, a date or a \
         time, a dictionary of one of these, or a struct of several. A row with a NULL is skipped.",
    ),
    ("second", "Another cluster, such as an item's id; none if left out or the literal NULL."),
    ("groups", "Into how many groups clusters are put: a literal whole number from 2 to 256, 256 if left out."),
];

#[derive(Debug, PartialEq, Eq, Hash)]
struct Treatment {
    signature: Signature,
    documentation: Documentation,
}

impl Treatment {
    fn new() -> Self {
        Self {
            signature: named_signature(PARAMETERS.map(|(name, _)| name).to_vec()),
            documentation: docs::documentation::<Self>(
                SYNTAX,
                &PARAMETERS,
                EXAMPLE,
                &["imbalance", "imbalance_bias", "balance_test", "ips_interval", "skipped_for"],
            ),
        }
    }
}

fn clustering(types: &[DataType]) -> Clustering {
    match types.get(2) {
        None | Some(DataType::Null) => Clustering::OneWay,
        Some(_) => Clustering::TwoWay,
    }
}

/// Whether values of a type can be told apart by [`hashes`].
fn is_hashable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null | DataType::Boolean => true,
        DataType::Dictionary(_, values) => is_hashable(values),
        DataType::Struct(fields) => fields.iter().all(|field| is_hashable(field.data_type())),
        DataType::FixedSizeBinary(_) => true,
        other => {
            is_number(other) || other.is_string() || other.is_binary() || (other.is_temporal() && !is_interval(other))
        }
    }
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_))
}

impl ScalarUDFImpl for Treatment {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if !(2..=4).contains(&arg_types.len()) {
            return plan_err!("{NAME} takes 2 to 4 arguments, not {}; usage: {SYNTAX}", arg_types.len());
        }
        let refuse = |at: usize, expects: &str| {
            let (name, _) = PARAMETERS[at];
            plan_err!(
                "argument {} ({name}) of {NAME} must be {expects}, not {}; usage: {SYNTAX}",
                at + 1,
                arg_types[at]
            )
        };
        let mut coerced = Vec::with_capacity(arg_types.len());
        for (at, data_type) in arg_types.iter().enumerate() {
            coerced.push(match (at, data_type) {
                (0, DataType::Boolean) => DataType::Boolean,
                (0, number) if is_number(number) => DataType::Float64,
                (0, _) => return refuse(at, "a boolean, or a number that is 0 or 1"),
                (1 | 2, id) if is_hashable(id) => id.clone(),
                (1 | 2, _) => return refuse(at, "text, binary, a number, a date or a time, or a struct of such"),
                (_, number) if is_number(number) => DataType::Float64,
                _ => return refuse(at, "a literal whole number from 2 to 256"),
            });
        }
        Ok(coerced)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(clustering(arg_types).treatment_type(arg_types[0].clone()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let groups = groups(args.args.get(3))?;
        let rows = args.number_rows;
        let array = |at: usize| args.args[at].to_array(rows);
        let treated = array(0)?;
        let types: Vec<DataType> = args.args.iter().map(ColumnarValue::data_type).collect();
        let put = |hashes: &[u64], nulls: Option<NullBuffer>| -> ArrayRef {
            let group = |hash: u64| ((u128::from(hash) * u128::from(groups)) >> 64) as u8;
            Arc::new(UInt8Array::new(hashes.iter().map(|&hash| group(hash)).collect(), nulls))
        };
        let first = array(1)?;
        let (hashes_of_first, nulls) = (hashes(&first)?, first.logical_nulls());
        let mut columns: Vec<ArrayRef> = vec![
            Arc::clone(&treated),
            Arc::new(UInt16Array::from(vec![groups; rows])),
            put(&hashes_of_first, nulls.clone()),
        ];
        if clustering(&types) == Clustering::TwoWay {
            let second = array(2)?;
            let (hashes_of_second, second_nulls) = (hashes(&second)?, second.logical_nulls());
            let pairs =
                hashes_of_first.iter().zip(&hashes_of_second).map(|(first, second)| combined([*first, *second]));
            let pairs: Vec<u64> = pairs.collect();
            columns.push(put(&hashes_of_second, second_nulls.clone()));
            columns.push(put(&pairs, NullBuffer::union(nulls.as_ref(), second_nulls.as_ref())));
        }
        let DataType::Struct(fields) = clustering(&types).treatment_type(treated.data_type().clone()) else {
            return internal_err!("{NAME}: a treatment is a struct");
        };
        Ok(ColumnarValue::Array(Arc::new(StructArray::try_new(fields, columns, None)?)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

fn groups(argument: Option<&ColumnarValue>) -> Result<u16> {
    let given = match argument {
        None => return Ok(MOST_GROUPS as u16),
        Some(ColumnarValue::Scalar(ScalarValue::Float64(Some(groups))))
            if groups.fract() == 0.0 && (2.0..=MOST_GROUPS as f64).contains(groups) =>
        {
            return Ok(*groups as u16);
        }
        Some(ColumnarValue::Scalar(value)) => value.to_string(),
        Some(ColumnarValue::Array(_)) => "a column".to_owned(),
    };
    exec_err!("{NAME}: argument 4 (groups) is {given}: it must be a literal whole number from 2 to {MOST_GROUPS}")
}

fn hash(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

fn combined(hashes: impl IntoIterator<Item = u64>) -> u64 {
    hash(&hashes.into_iter().flat_map(u64::to_le_bytes).collect::<Vec<u8>>())
}

/// A hash of each value, the same for equal values of whichever type; any of a NULL.
fn hashes(array: &ArrayRef) -> Result<Vec<u64>> {
    let cast = |to: &DataType| cast_with_options(array, to, &CastOptions::default());
    let of_bytes =
        |bytes: &dyn Fn(usize) -> Vec<u8>| (0..array.len()).map(|row| hash(&bytes(row))).collect::<Vec<u64>>();
    Ok(match array.data_type() {
        DataType::Null => vec![0; array.len()],
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            if dictionary.values().is_empty() {
                return Ok(vec![0; array.len()]);
            }
            let of_values = hashes(dictionary.values())?;
            let keys = dictionary.normalized_keys();
            keys.into_iter().map(|key| of_values.get(key).copied().unwrap_or_default()).collect()
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter().map(hashes).collect::<Result<Vec<_>>>()?;
            (0..array.len()).map(|row| combined(columns.iter().map(|column| column[row]))).collect()
        }
        DataType::Utf8 => (0..array.len()).map(|row| hash(array.as_string::<i32>().value(row).as_bytes())).collect(),
        DataType::LargeUtf8 => of_bytes(&|row| array.as_string::<i64>().value(row).as_bytes().to_vec()),
        DataType::Utf8View => (0..array.len()).map(|row| hash(array.as_string_view().value(row).as_bytes())).collect(),
        DataType::Binary => of_bytes(&|row| array.as_binary::<i32>().value(row).to_vec()),
        DataType::LargeBinary => of_bytes(&|row| array.as_binary::<i64>().value(row).to_vec()),
        DataType::BinaryView => of_bytes(&|row| array.as_binary_view().value(row).to_vec()),
        DataType::FixedSizeBinary(_) => of_bytes(&|row| array.as_fixed_size_binary().value(row).to_vec()),
        DataType::UInt64 => {
            array.as_primitive::<UInt64Type>().values().iter().map(|id| hash(&id.to_le_bytes())).collect()
        }
        other if other.is_floating() => {
            let numbers = cast(&DataType::Float64)?;
            numbers.as_primitive::<Float64Type>().values().iter().map(|&number| hash(&whole_or_bits(number))).collect()
        }
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            let text = cast(&DataType::Utf8)?;
            let bytes = |row| {
                let text = text.as_string::<i32>().value(row);
                let whole = text.trim_end_matches('0').trim_end_matches('.');
                match (text.contains('.'), text.parse::<i64>(), whole.parse::<i64>()) {
                    (false, Ok(whole), _) | (true, _, Ok(whole)) => whole.to_le_bytes().to_vec(),
                    _ => text.as_bytes().to_vec(),
                }
            };
            of_bytes(&bytes)
        }
        _ => {
            let numbers = cast(&DataType::Int64)?;
            numbers.as_primitive::<Int64Type>().values().iter().map(|id| hash(&id.to_le_bytes())).collect()
        }
    })
}

/// The bytes of a whole number as an integer's, of another as its own.
fn whole_or_bits(number: f64) -> [u8; 8] {
    /// Up to it, every whole number has its own float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.fract() == 0.0 && number.abs() <= EXACT {
        true => (number as i64).to_le_bytes(),
        false => number.to_le_bytes(),
    }
}
