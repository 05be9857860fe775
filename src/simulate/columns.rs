use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Date32Array, FixedSizeListArray, Float32Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use super::Simulation;
use super::world::{COUNTRIES, DEVICES, Truth, User, World};
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

/// The rows of a chunk.
struct Rows<'a> {
    world: &'a World,
    segments: &'a [String],
    events: &'a [Event],
}

/// The values of a column.
type Values = fn(&Rows<'_>) -> ArrayRef;

/// The columns of a simulation's tables.
#[derive(Debug)]
pub(super) struct Columns {
    schema: SchemaRef,
    values: Vec<Values>,
    segments: Vec<String>,
}

impl Columns {
    pub(super) fn new(config: &Simulation) -> Self {
        let (fields, values): (Vec<Field>, _) = columns(config).into_iter().unzip();
        Self { schema: Arc::new(Schema::new(fields)), values, segments: segment_names(config.segments) }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows of `events`, in their order.
    pub(super) fn batch(&self, world: &World, events: &[Event]) -> Result<RecordBatch> {
        let rows = Rows { world, segments: &self.segments, events };
        let columns = self.values.iter().map(|values| values(&rows)).collect();
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

fn columns(config: &Simulation) -> Vec<(Field, Values)> {
    let mut columns = vec![
        required("user_id", DataType::Int64, |rows| rows.int64(|event| event.user)),
        required("item_id", DataType::Int64, |rows| rows.int64(|event| event.item)),
        required("country", DataType::Utf8, |rows| rows.text(|event| COUNTRIES[rows.user(event).country].0)),
        required("segment", DataType::Utf8, |rows| {
            rows.text(|event| &rows.segments[rows.user(event).segment as usize])
        }),
        required("device", DataType::Utf8, |rows| rows.text(|event| DEVICES[event.device].0)),
        required("user_age", DataType::Float32, |rows| rows.float32(|event| rows.user(event).age)),
        required("item_price", DataType::Float32, |rows| {
            rows.float32(|event| rows.world.people.items[event.item].price)
        }),
    ];
    if config.shape == Shape::Log {
        columns.push(required("position", DataType::Int32, |rows| rows.int32(|event| event.position)));
    }
    columns.extend([
        required("day", DataType::Date32, |rows| {
            Arc::new(Date32Array::from_iter_values(rows.events.iter().map(|event| event.day)))
        }),
        required("split", DataType::Utf8, |rows| rows.text(|event| event.split)),
        required("treated", DataType::Boolean, |rows| {
            Arc::new(rows.events.iter().map(|event| Some(event.treated)).collect::<BooleanArray>())
        }),
        optional("outcome", DataType::Float64, |rows| {
            Arc::new(rows.events.iter().map(|event| event.outcome).collect::<Float64Array>())
        }),
    ]);
    if config.shape == Shape::Matrix {
        columns.push(required("rating", DataType::Int32, |rows| rows.int32(|event| event.rating)));
    }
    columns.extend([
        required("propensity", DataType::Float64, |rows| rows.float64(|event| event.truth.stated_propensity)),
        required("prediction", DataType::Float64, |rows| rows.float64(|event| event.truth.prediction)),
        required("true_propensity", DataType::Float64, |rows| rows.float64(|event| event.truth.propensity)),
        required("true_conversion", DataType::Float64, |rows| rows.float64(|event| event.truth.conversion)),
        required("phi", DataType::FixedSizeList(phi_item(), config.dim as i32), |rows| {
            let values = rows.events.iter().flat_map(|event| rows.world.people.phi(event.user, event.item));
            let values = Arc::new(Float32Array::from_iter_values(values));
            Arc::new(FixedSizeListArray::new(phi_item(), rows.world.people.dim() as i32, values, None))
        }),
    ]);
    columns
}

fn required(name: &str, data_type: DataType, values: Values) -> (Field, Values) {
    (Field::new(name, data_type, false), values)
}

fn optional(name: &str, data_type: DataType, values: Values) -> (Field, Values) {
    (Field::new(name, data_type, true), values)
}

fn phi_item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float32, false))
}

/// The names of the segments, of one width so that they sort.
fn segment_names(segments: u32) -> Vec<String> {
    let width = (segments - 1).to_string().len();
    (0..segments).map(|segment| format!("segment-{segment:0width$}")).collect()
}

impl<'a> Rows<'a> {
    fn user(&self, event: &Event) -> &'a User {
        &self.world.people.users[event.user]
    }

    fn int32(&self, value: impl Fn(&Event) -> Option<i32>) -> ArrayRef {
        Arc::new(self.events.iter().map(value).collect::<Int32Array>())
    }

    fn int64(&self, value: impl Fn(&Event) -> usize) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(self.events.iter().map(|event| value(event) as i64)))
    }

    fn float32(&self, value: impl Fn(&Event) -> f32) -> ArrayRef {
        Arc::new(Float32Array::from_iter_values(self.events.iter().map(value)))
    }

    fn float64(&self, value: impl Fn(&Event) -> f64) -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(self.events.iter().map(value)))
    }

    fn text(&self, value: impl Fn(&Event) -> &'a str) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(self.events.iter().map(value)))
    }
}
