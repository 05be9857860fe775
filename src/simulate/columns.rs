use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Date32Array, FixedSizeListArray, Float32Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use super::Simulation;
use super::world::{COUNTRIES, DEVICES, Truth, World};
use crate::error::Result;
use crate::job::Shape;

/// What happened in one row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) user: usize,
    pub(super) item: usize,
    pub(super) device: usize,
    /// Position on the page, from 1. Log shape only.
    pub(super) position: Option<i32>,
    pub(super) day: i32,
    pub(super) split: &'static str,
    pub(super) treated: bool,
    /// Known where treated.
    pub(super) outcome: Option<f64>,
    /// 1 to 5; 4 and 5 are outcome 1. Matrix shape only.
    pub(super) rating: Option<i32>,
    pub(super) truth: Truth,
}

fn phi_item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float32, false))
}

/// The columns of a simulation's tables.
pub(super) fn schema(config: &Simulation) -> SchemaRef {
    let required = |name: &str, data_type| Field::new(name, data_type, false);
    let mut fields = vec![
        required("user_id", DataType::Int64),
        required("item_id", DataType::Int64),
        required("country", DataType::Utf8),
        required("segment", DataType::Utf8),
        required("device", DataType::Utf8),
        required("user_age", DataType::Float32),
        required("item_price", DataType::Float32),
    ];
    if config.shape == Shape::Log {
        fields.push(required("position", DataType::Int32));
    }
    fields.extend([
        required("day", DataType::Date32),
        required("split", DataType::Utf8),
        required("treated", DataType::Boolean),
        Field::new("outcome", DataType::Float64, true),
    ]);
    if config.shape == Shape::Matrix {
        fields.push(required("rating", DataType::Int32));
    }
    fields.extend([
        required("propensity", DataType::Float64),
        required("prediction", DataType::Float64),
        required("true_propensity", DataType::Float64),
        required("true_conversion", DataType::Float64),
        required("phi", DataType::FixedSizeList(phi_item(), config.dim as i32)),
    ]);
    Arc::new(Schema::new(fields))
}

/// The names of the segments, of one width so that they sort.
pub(super) fn segment_names(segments: u32) -> Vec<String> {
    let width = (segments - 1).to_string().len();
    (0..segments).map(|segment| format!("segment-{segment:0width$}")).collect()
}

/// The rows of `events`, in their order.
pub(super) fn record_batch(
    schema: &SchemaRef,
    world: &World,
    segments: &[String],
    events: &[Event],
) -> Result<RecordBatch> {
    let column = |field: &Field| -> Result<ArrayRef> {
        Ok(match field.name().as_str() {
            "user_id" => int64(events, |event| event.user),
            "item_id" => int64(events, |event| event.item),
            "country" => text(events, |event| COUNTRIES[world.users[event.user].country].0),
            "segment" => text(events, |event| segments[world.users[event.user].segment as usize].as_str()),
            "device" => text(events, |event| DEVICES[event.device].0),
            "user_age" => float32(events, |event| world.users[event.user].age),
            "item_price" => float32(events, |event| world.items[event.item].price),
            "position" => Arc::new(events.iter().map(|event| event.position).collect::<Int32Array>()),
            "day" => Arc::new(Date32Array::from_iter_values(events.iter().map(|event| event.day))),
            "split" => text(events, |event| event.split),
            "treated" => Arc::new(BooleanArray::from_iter(events.iter().map(|event| Some(event.treated)))),
            "outcome" => Arc::new(events.iter().map(|event| event.outcome).collect::<Float64Array>()),
            "rating" => Arc::new(events.iter().map(|event| event.rating).collect::<Int32Array>()),
            "propensity" => float64(events, |event| event.truth.stated_propensity),
            "prediction" => float64(events, |event| event.truth.prediction),
            "true_propensity" => float64(events, |event| event.truth.propensity),
            "true_conversion" => float64(events, |event| event.truth.conversion),
            "phi" => {
                let values =
                    Float32Array::from_iter_values(events.iter().flat_map(|event| world.phi(event.user, event.item)));
                Arc::new(FixedSizeListArray::try_new(phi_item(), world.dim() as i32, Arc::new(values), None)?)
            }
            name => unreachable!("{name} is no column of a simulation"),
        })
    };
    let columns = schema.fields().iter().map(|field| column(field)).collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn int64(events: &[Event], value: impl Fn(&Event) -> usize) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(events.iter().map(|event| value(event) as i64)))
}

fn float32(events: &[Event], value: impl Fn(&Event) -> f32) -> ArrayRef {
    Arc::new(Float32Array::from_iter_values(events.iter().map(value)))
}

fn float64(events: &[Event], value: impl Fn(&Event) -> f64) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(events.iter().map(value)))
}

fn text<'a>(events: &'a [Event], value: impl Fn(&'a Event) -> &'a str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(events.iter().map(value)))
}
