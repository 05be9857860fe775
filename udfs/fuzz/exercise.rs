//! Calls of aggregates with whatever arguments some bytes spell: no call may panic.

use std::ops::Range;
use std::sync::Arc;

use arbitrary::{Result as Bytes, Unstructured};
use counterweight_udfs::{all_aggregates, balance_drift_udf, balance_test_of_udf, balance_vector_of_udf, bmse_of_udf};
use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, ListArray, StringArray, StructArray, UInt16Array, UInt64Array,
    new_empty_array, new_null_array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{CastOptions, cast_with_options, take};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Accumulator, AggregateUDF, ColumnarValue, EmitTo, ScalarFunctionArgs, ScalarUDF};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::{Column, Literal};

const ROWS: usize = 24;

/// What became of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// They spell no call, or one that is refused when it is planned.
    Refused,
    /// The call ended in an error that its user can read.
    Failed,
    /// Every way of calling the aggregate gave a result.
    Answered,
}

/// Plans the call that `bytes` spell, and runs it as DataFusion would: in pieces, merged, in windows and in groups.
///
/// # Panics
/// Where an aggregate does, or breaks a promise of its interface.
pub(crate) fn exercise(bytes: &[u8]) -> (String, Outcome) {
    let u = &mut Unstructured::new(bytes);
    let functions = all_aggregates();
    let Ok(function) = u.choose(&functions) else { return (String::new(), Outcome::Refused) };
    let name = function.name().to_string();
    let outcome = match Call::read(u, function) {
        Ok(Some(call)) => match call.run(u) {
            Ok(()) => Outcome::Answered,
            Err(error) => {
                assert!(!matches!(error.find_root(), DataFusionError::Internal(_)), "{name}: {error}");
                Outcome::Failed
            }
        },
        _ => Outcome::Refused,
    };
    (name, outcome)
}

struct Call {
    aggregate: AggregateFunctionExpr,
    arguments: Vec<ArrayRef>,
}

enum Argument {
    Column(ArrayRef),
    Literal(ScalarValue),
}

impl Argument {
    fn data_type(&self) -> DataType {
        match self {
            Argument::Column(array) => array.data_type().clone(),
            Argument::Literal(value) => value.data_type(),
        }
    }
}

impl Call {
    /// `None` if the planner refuses the call.
    fn read(u: &mut Unstructured<'_>, function: &Arc<AggregateUDF>) -> Bytes<Option<Self>> {
        let tame = u.ratio(3, 4)?;
        let parameters = function.signature().parameter_names.clone().unwrap_or_default();
        let mut arguments = vec![];
        for parameter in &parameters {
            match parameter.as_str() {
                "phi" | "covariate" => {
                    if u.ratio(1, 3)? {
                        arguments.push(Argument::Column(lists(u, tame)?));
                    } else {
                        for _ in 0..u.int_in_range(0..=3)? {
                            arguments.push(Argument::Column(numbers(u, "phi", tame)?));
                        }
                    }
                }
                "directions" => arguments.push(Argument::Column(directions(u, tame)?)),
                "day" => arguments.push(Argument::Column(days(u, tame)?)),
                "state" if function.name() == "balance_alarm" => {
                    arguments.push(Argument::Column(day_states(u, tame)?));
                }
                "state" => arguments.push(Argument::Column(states(u, tame)?)),
                "treated" | "propensity" | "error" | "imputed_error" => {
                    arguments.push(Argument::Column(numbers(u, parameter, tame)?));
                }
                literal => arguments.push(Argument::Literal(literal_of(u, literal, tame)?)),
            }
        }
        if u.ratio(1, 8)? {
            arguments.truncate(u.int_in_range(0..=arguments.len())?);
        }
        let types: Vec<_> = arguments.iter().map(Argument::data_type).collect();
        let Ok(coerced) = function.coerce_types(&types) else { return Ok(None) };
        Ok(Self::plan(function, arguments, &coerced).ok())
    }

    fn plan(function: &Arc<AggregateUDF>, arguments: Vec<Argument>, types: &[DataType]) -> Result<Self> {
        let strict = CastOptions { safe: false, ..Default::default() };
        let (mut fields, mut expressions, mut arrays) = (vec![], vec![], vec![]);
        for (at, (argument, data_type)) in arguments.into_iter().zip(types).enumerate() {
            let name = format!("c{at}");
            let (expression, array): (Arc<dyn PhysicalExpr>, _) = match argument {
                Argument::Column(array) => {
                    (Arc::new(Column::new(&name, at)), cast_with_options(&array, data_type, &strict)?)
                }
                Argument::Literal(value) => {
                    let value = value.cast_to(data_type)?;
                    let array = value.to_array_of_size(ROWS)?;
                    (Arc::new(Literal::new(value)), array)
                }
            };
            fields.push(Field::new(name, data_type.clone(), true));
            expressions.push(expression);
            arrays.push(array);
        }
        let schema = Arc::new(Schema::new(fields));
        let builder = AggregateExprBuilder::new(Arc::clone(function), expressions);
        let aggregate = builder.schema(schema).alias("result").build()?;
        Ok(Self { aggregate, arguments: arrays })
    }

    fn slice(&self, rows: Range<usize>) -> Vec<ArrayRef> {
        self.arguments.iter().map(|array| array.slice(rows.start, rows.len())).collect()
    }

    fn run(&self, u: &mut Unstructured<'_>) -> Result<()> {
        let whole = self.merged(u);
        let window = self.window(u);
        let grouped = self.grouped(u);
        let stored = self.stored();
        whole.and(window).and(grouped).and(stored)
    }

    fn check(&self, result: &ScalarValue) {
        assert_eq!(&result.data_type(), self.aggregate.field().data_type());
    }

    fn check_state(&self, state: &[ArrayRef], groups: usize) -> Result<()> {
        let fields = self.aggregate.state_fields()?;
        assert_eq!(fields.len(), state.len());
        for (field, array) in fields.iter().zip(state) {
            assert_eq!((field.data_type(), groups, 0), (array.data_type(), array.len(), array.null_count()));
        }
        Ok(())
    }

    /// Some accumulators for pieces of the rows, merged into a last one.
    fn merged(&self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut last = self.aggregate.create_accumulator()?;
        let mut from = 0;
        while from < ROWS {
            let to = (from + 1 + number(u) as usize % ROWS).min(ROWS);
            let mut part = self.aggregate.create_accumulator()?;
            part.update_batch(&self.slice(from..to))?;
            part.update_batch(&self.slice(from..from))?;
            let state: Vec<_> = part.state()?.iter().map(ScalarValue::to_array).collect::<Result<_>>()?;
            self.check_state(&state, 1)?;
            last.merge_batch(&state)?;
            from = to;
        }
        self.check(&last.evaluate()?);
        let mut all: Box<dyn Accumulator> = self.aggregate.create_accumulator()?;
        self.check(&all.evaluate()?);
        all.update_batch(&self.arguments)?;
        self.check(&all.evaluate()?);
        assert!(all.size() > 0);
        Ok(())
    }

    /// A frame whose rows come and go.
    fn window(&self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut sliding = self.aggregate.create_sliding_accumulator()?;
        let (mut from, mut to) = (0, 0);
        while to < ROWS {
            let steps = number(u);
            let (add, retract) = (1 + steps as usize % 5, steps as usize / 5 % 6);
            let end = (to + add).min(ROWS);
            sliding.update_batch(&self.slice(to..end))?;
            to = end;
            let start = (from + retract).min(to);
            sliding.retract_batch(&self.slice(from..start))?;
            from = start;
            self.check(&sliding.evaluate()?);
        }
        Ok(())
    }

    /// Rows in groups, some filtered out; states of groups and of single rows, merged into other groups.
    fn grouped(&self, u: &mut Unstructured<'_>) -> Result<()> {
        const GROUPS: usize = 4;
        let mut choices = || -> Vec<usize> { (0..ROWS).map(|_| number(u) as usize).collect() };
        let groups: Vec<_> = choices().into_iter().map(|choice| choice % GROUPS).collect();
        let kept = choices().into_iter().map(|choice| (choice % 8 > 0).then_some(choice % 8 > 1));
        let filter: BooleanArray = kept.collect();
        let (half, first) = (groups[0] * ROWS / GROUPS, groups[1]);
        let mut accumulator = self.aggregate.create_groups_accumulator()?;
        accumulator.update_batch(&self.slice(0..half), &groups[..half], Some(&filter.slice(0, half)), GROUPS)?;
        let state = accumulator.convert_to_state(&self.slice(half..ROWS), Some(&filter.slice(half, ROWS - half)))?;
        self.check_state(&state, ROWS - half)?;
        accumulator.merge_batch(&state, &groups[half..], GROUPS)?;
        let emitted = accumulator.state(EmitTo::First(first))?;
        self.check_state(&emitted, first)?;
        let mut last = self.aggregate.create_groups_accumulator()?;
        last.merge_batch(&emitted, &(0..first).collect::<Vec<_>>(), GROUPS)?;
        last.update_batch(&self.arguments, &groups, None, GROUPS)?;
        let rest = accumulator.evaluate(EmitTo::All)?;
        let results = [(rest, GROUPS - first), (last.evaluate(EmitTo::First(first))?, first)];
        for (results, expected) in results {
            assert_eq!((results.len(), results.data_type()), (expected, self.aggregate.field().data_type()));
        }
        assert_eq!(last.evaluate(EmitTo::All)?.len(), GROUPS - first);
        Ok(())
    }

    /// What the functions of a state say of states that this aggregate was called with.
    fn stored(&self) -> Result<()> {
        let [states] = &self.arguments[..] else { return Ok(()) };
        if !matches!(states.data_type(), DataType::Struct(_)) {
            return Ok(());
        }
        for function in [bmse_of_udf(), balance_vector_of_udf(), balance_test_of_udf()] {
            assert_eq!(invoke(&function, &[states])?.len(), ROWS);
        }
        let reversed = take(states, &UInt64Array::from_iter_values((0..ROWS as u64).rev()), None)?;
        assert_eq!(invoke(&balance_drift_udf(), &[states, &reversed])?.len(), ROWS);
        Ok(())
    }
}

fn invoke(function: &ScalarUDF, arrays: &[&ArrayRef]) -> Result<ArrayRef> {
    let types: Vec<DataType> = arrays.iter().map(|array| array.data_type().clone()).collect();
    let data_type = function.return_type(&types)?;
    let arguments = ScalarFunctionArgs {
        args: arrays.iter().map(|array| ColumnarValue::Array(Arc::clone(array))).collect(),
        arg_fields: types.into_iter().map(|data_type| Arc::new(Field::new("state", data_type, true))).collect(),
        number_rows: ROWS,
        return_field: Arc::new(Field::new("result", data_type, true)),
        config_options: Arc::new(ConfigOptions::default()),
    };
    function.invoke_with_args(arguments)?.into_array(ROWS)
}

fn number(u: &mut Unstructured<'_>) -> u8 {
    u.arbitrary().unwrap_or_default()
}

/// A number that could be this argument; where not `tame`, now and then one that could not.
fn value(u: &mut Unstructured<'_>, role: &str, tame: bool) -> Bytes<f64> {
    const WILD: [f64; 16] = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        -0.0,
        0.0,
        1.0,
        -1.0,
        1e-160,
        1e160,
        1e-17,
        2.0,
        0.5,
    ];
    if !tame && u.ratio(1, 6)? {
        return if u.ratio(1, 4)? { u.arbitrary() } else { Ok(*u.choose(&WILD)?) };
    }
    Ok(match role {
        "treated" => f64::from(u.arbitrary::<bool>()?),
        "propensity" => f64::from(u.int_in_range(1..=99)?) / 100.0,
        "state" => f64::from(number(u)),
        _ => f64::from(u.arbitrary::<i8>()?) * [0.125, 1.0, 1e6, 1e-9][usize::from(u.int_in_range(0..=3u8)?)],
    })
}

fn values(u: &mut Unstructured<'_>, role: &str, tame: bool, count: usize) -> Bytes<Float64Array> {
    let nulls = u.ratio(1, 3)? && !(tame && role == "state");
    (0..count).map(|_| if nulls && u.ratio(1, 6)? { Ok(None) } else { value(u, role, tame).map(Some) }).collect()
}

/// A column of some type that a number may come in, or that it may not.
fn numbers(u: &mut Unstructured<'_>, role: &str, tame: bool) -> Bytes<ArrayRef> {
    let floats: ArrayRef = Arc::new(values(u, role, tame, ROWS)?);
    let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Float64));
    let mut types = vec![DataType::Float64, DataType::Float32, dictionary];
    if role != "propensity" {
        types.extend([DataType::Int64, DataType::Boolean, DataType::Decimal128(12, 2), DataType::Float16]);
    }
    if !tame {
        types.extend([DataType::Null, DataType::Utf8, DataType::UInt8, DataType::Date32]);
    }
    Ok(match u.choose(&types)? {
        _ if u.ratio(1, 2)? => floats,
        DataType::Null => new_null_array(&DataType::Null, ROWS),
        DataType::Boolean => boolean(&floats),
        other => cast_with_options(&floats, other, &CastOptions::default()).unwrap_or(floats),
    })
}

fn boolean(floats: &ArrayRef) -> ArrayRef {
    cast_with_options(floats, &DataType::Boolean, &CastOptions::default()).unwrap_or_else(|_| Arc::clone(floats))
}

/// A column of lists of numbers.
fn lists(u: &mut Unstructured<'_>, tame: bool) -> Bytes<ArrayRef> {
    let width = match u.int_in_range(0..=15u8)? {
        0 => 0,
        1 => u.int_in_range(60..=70)?,
        _ => u.int_in_range(1..=9)?,
    };
    let mut lengths = vec![width; ROWS];
    if !tame && u.ratio(1, 3)? {
        lengths[u.choose_index(ROWS)?] = u.int_in_range(0..=9)?;
    }
    let nulls = u.ratio(1, 3)?;
    let valid = (0..ROWS).map(|_| Ok(!nulls || u.ratio(5, 6)?)).collect::<Bytes<Vec<bool>>>()?;
    let lists = list_array(u, "phi", tame, &lengths, &valid)?;
    let element = |data_type| Arc::new(Field::new_list_field(data_type, true));
    let to = match u.int_in_range(0..=7u8)? {
        0 => DataType::LargeList(element(DataType::Float64)),
        1 => DataType::FixedSizeList(element(DataType::Float64), width as i32),
        2 => DataType::List(element(DataType::Float32)),
        3 => DataType::FixedSizeList(element(DataType::Float16), width as i32),
        4 => DataType::List(element(DataType::Int32)),
        5 if !tame => DataType::List(element(DataType::Utf8)),
        6 => DataType::LargeList(element(DataType::Float16)),
        _ => return Ok(lists),
    };
    Ok(cast_with_options(&lists, &to, &CastOptions::default()).unwrap_or(lists))
}

fn list_array(u: &mut Unstructured<'_>, role: &str, tame: bool, lengths: &[usize], valid: &[bool]) -> Bytes<ArrayRef> {
    let elements = values(u, role, tame, lengths.iter().sum())?;
    let field = Arc::new(Field::new_list_field(DataType::Float64, true));
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    let lists = ListArray::new(field, offsets, Arc::new(elements), Some(NullBuffer::from(valid.to_vec())));
    Ok(Arc::new(lists))
}

/// A column of states, or of what looks like states.
fn states(u: &mut Unstructured<'_>, tame: bool) -> Bytes<ArrayRef> {
    let width: usize = if u.ratio(1, 8)? { u.int_in_range(63..=66)? } else { u.int_in_range(0..=4)? };
    let (packed, square) = if width <= 64 { (width * (width + 1) / 2, width * width) } else { (width, width) };
    let lengths = |u: &mut Unstructured<'_>, usual: usize| -> Bytes<Vec<usize>> {
        (0..ROWS).map(|_| if !tame && u.ratio(1, 16)? { u.int_in_range(0..=9) } else { Ok(usual) }).collect()
    };
    let valid = |u: &mut Unstructured<'_>| (0..ROWS).map(|_| u.ratio(9, 10)).collect::<Bytes<Vec<bool>>>();
    let all_sums = 3 + 3 * width + 3 * packed + square;
    let (means, origins, sums) = (lengths(u, width)?, lengths(u, width)?, lengths(u, all_sums)?);
    let counts = (0..ROWS).map(|_| if tame { Ok(u64::from(number(u))) } else { u.arbitrary() });
    let counts = counts.collect::<Bytes<Vec<u64>>>()?;
    let all = vec![true; ROWS];
    let (valid_means, valid_states) = (if tame { all } else { valid(u)? }, valid(u)?);
    let means = list_array(u, "state", tame, &means, &valid_means)?;
    let spreads = values(u, "state", tame, ROWS)?;
    let origins = list_array(u, "state", tame, &origins, &valid_means)?;
    let sums = list_array(u, "state", tame, &sums, &valid_means)?;
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("count", Arc::new(UInt64Array::from(counts))),
        ("mean", means),
        ("spread", Arc::new(spreads)),
        ("origin", origins),
        ("sums", sums),
    ];
    columns.extend(clusters(u, tame, width)?);
    let (fields, arrays): (Vec<_>, Vec<_>) = columns
        .into_iter()
        .map(|(name, array)| (Arc::new(Field::new(name, array.data_type().clone(), true)), array))
        .unzip();
    Ok(Arc::new(StructArray::new(fields.into(), arrays, Some(NullBuffer::from(valid_states)))))
}

/// What a state has of clusters: all or nothing, or where not `tame` anything.
fn clusters(u: &mut Unstructured<'_>, tame: bool, width: usize) -> Bytes<[(&'static str, ArrayRef); 3]> {
    let clustered = u.ratio(1, 2)?;
    let each = (0..ROWS).map(|_| if tame { Ok(clustered) } else { u.ratio(1, 2) }).collect::<Bytes<Vec<bool>>>()?;
    let groups = each.iter().map(|is_valid| is_valid.then_some(32)).collect::<UInt16Array>();
    let keys = (0..ROWS * 2).map(|at| if tame { Ok([5, 31][at % 2]) } else { u.int_in_range(0..=800) });
    let keys = keys.collect::<Bytes<Vec<u16>>>()?;
    let list = |element: &ArrayRef, length: usize| -> ArrayRef {
        let field = Arc::new(Field::new_list_field(element.data_type().clone(), true));
        let offsets = OffsetBuffer::from_repeated_length(length, ROWS);
        Arc::new(ListArray::new(field, offsets, Arc::clone(element), Some(NullBuffer::from(each.clone()))))
    };
    let keys: ArrayRef = Arc::new(UInt16Array::from(keys));
    let length = if tame { 2 * (1 + width) } else { u.int_in_range(0..=9)? };
    let sums: ArrayRef = Arc::new(values(u, "state", tame, ROWS * length)?);
    Ok([("groups", Arc::new(groups)), ("keys", list(&keys, 2)), ("clusters", list(&sums, length))])
}

/// A column of directions, or of what looks like directions; those of an alarm's φ only where it has as many elements.
fn directions(u: &mut Unstructured<'_>, tame: bool) -> Bytes<ArrayRef> {
    let width = u.int_in_range(1..=3usize)?;
    let valid = (0..ROWS).map(|_| u.ratio(19, 20)).collect::<Bytes<Vec<bool>>>()?;
    let count: ArrayRef = Arc::new(UInt64Array::from(vec![7; ROWS]));
    let lists = |u: &mut Unstructured<'_>| list_array(u, "state", tame, &[width; ROWS], &[true; ROWS]);
    let (mean, sd) = if u.ratio(1, 2)? {
        (repeated(&[1.0; 4][..width]), repeated(&[0.5; 4][..width]))
    } else {
        (lists(u)?, lists(u)?)
    };
    Ok(structs(vec![("count", count), ("mean", mean), ("sd", sd)], valid))
}

/// The same list in each row.
fn repeated(list: &[f64]) -> ArrayRef {
    let field = Arc::new(Field::new_list_field(DataType::Float64, true));
    let offsets = OffsetBuffer::from_repeated_length(list.len(), ROWS);
    Arc::new(ListArray::new(field, offsets, Arc::new(Float64Array::from(list.repeat(ROWS))), None))
}

fn structs(columns: Vec<(&str, ArrayRef)>, valid: Vec<bool>) -> ArrayRef {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns
        .into_iter()
        .map(|(name, array)| (Arc::new(Field::new(name, array.data_type().clone(), true)), array))
        .unzip();
    Arc::new(StructArray::new(fields.into(), arrays, Some(NullBuffer::from(valid))))
}

fn days(u: &mut Unstructured<'_>, tame: bool) -> Bytes<ArrayRef> {
    let repeats = !tame && u.ratio(1, 2)?;
    let from = i64::from(number(u));
    let days = (0..ROWS as i64).map(|row| from + if repeats { row / 2 } else { row });
    let days: ArrayRef = Arc::new(datafusion::arrow::array::Int64Array::from_iter_values(days));
    let to = [DataType::Int64, DataType::Utf8, DataType::Date32, DataType::Float64];
    let to = &to[u.int_in_range(0..=if tame { 1 } else { 3 })?];
    let days = cast_with_options(&days, &DataType::Int32, &CastOptions::default()).unwrap_or(days);
    Ok(cast_with_options(&days, to, &CastOptions::default()).unwrap_or(days))
}

/// A column of states of days, or of what looks like them.
fn day_states(u: &mut Unstructured<'_>, tame: bool) -> Bytes<ArrayRef> {
    let width = u.int_in_range(1..=3usize)?;
    let numbers = 28 * (1 + width);
    let valid = (0..ROWS).map(|_| u.ratio(19, 20)).collect::<Bytes<Vec<bool>>>()?;
    let counts = (0..ROWS).map(|_| Ok(1 + u64::from(number(u)))).collect::<Bytes<Vec<u64>>>()?;
    let lengths = if !tame && u.ratio(1, 4)? { vec![numbers + 1; ROWS] } else { vec![numbers; ROWS] };
    let sums = match u.ratio(1, 2)? {
        true => list_array(u, "state", tame, &lengths, &[true; ROWS])?,
        false => repeated(&vec![1.0; numbers]),
    };
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("count", Arc::new(UInt64Array::from(counts))),
        ("mean", repeated(&[1.0; 4][..width])),
        ("sd", repeated(&[0.5; 4][..width])),
        ("sums", sums),
    ];
    columns.extend(clusters(u, tame, 2 * (1 + width))?);
    Ok(structs(columns, valid))
}

fn literal_of(u: &mut Unstructured<'_>, name: &str, tame: bool) -> Bytes<ScalarValue> {
    if !tame && u.ratio(1, 3)? {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["Mass"]));
        return Ok(match u.int_in_range(0..=3u8)? {
            0 => ScalarValue::Null,
            1 => ScalarValue::Float64(Some(value(u, "literal", false)?)),
            2 => ScalarValue::try_from_array(&text, 0).unwrap_or(ScalarValue::Null),
            _ => ScalarValue::List(Arc::new(ListArray::new_null(
                Arc::new(Field::new_list_field(new_empty_array(&DataType::Float64).data_type().clone(), true)),
                1,
            ))),
        });
    }
    Ok(match name {
        "reference_days" => ScalarValue::Int64(Some(*u.choose(&[14, 14, 21, 28])?)),
        "false_alarms" => ScalarValue::Float64(Some(*u.choose(&[0.5, 0.01, 1e-9])?)),
        "binning" => ScalarValue::from(*u.choose(&["width", "mass", "MASS"])?),
        "bins" => ScalarValue::Int64(Some(*u.choose(&[1, 2, 10, 10_000])?)),
        "level" | "lower" | "upper" => ScalarValue::Float64(Some(*u.choose(&[0.5, 0.95, 1e-17, 1.0 - 1e-16])?)),
        _ => ScalarValue::Float64(Some(*u.choose(&[1.0, 0.5, 1e6, 1e-300, 1e300])?)),
    })
}
