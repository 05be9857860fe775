//! From a batch of rows to the same rows with scores.

use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Float64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tch::{Device, Kind, Tensor};

use crate::artifact::model_folder::TrainedModel;
use crate::data::sampler::{Batch, Row};
use crate::data::vocabulary::{Ids, Vocabulary, id_type};
use crate::error::Torch;
use crate::loss::imputation::imputed_error;
use crate::loss::regularizers::phi;
use crate::model::{Model, Scores, logits};
use counterweight::error::{Result, invalid, suggestion};
use counterweight::job::{Columns, LossSpec, Phi, Role, ScoreSpec, Unknown};

/// A model that scores rows. An unknown user or item has the row after the last known one, which is their average.
pub(super) struct Scorer {
    user: String,
    item: String,
    users: Arc<Vocabulary>,
    items: Arc<Vocabulary>,
    /// Tensors may be used by one thread at a time.
    models: Mutex<Scored>,
    added: Added,
    loss: LossSpec,
    device: Device,
    unknown: Unknown,
}

struct Scored {
    propensity: Model,
    prediction: Model,
    imputation: Option<Model>,
}

impl Scored {
    /// φ of each row, `[rows, dim φ]`.
    fn phi(&self, kind: Phi, rows: &[Row], device: Device) -> Tensor {
        let batch = Batch::of_rows(rows, self.propensity.users(), device);
        let scores = |model: &Model| Scores::of(model.rows(&batch), batch.layout);
        tch::no_grad(|| phi(kind, &scores(&self.propensity), || scores(&self.prediction).probability()))
    }
}

/// The columns that scoring adds to `propensity` and `prediction`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Added {
    pub(super) imputed_error: bool,
    /// The length of φ, where it is written.
    pub(super) phi: Option<i32>,
}

impl Added {
    fn fields(self) -> Vec<Field> {
        let mut fields = vec!["propensity", "prediction"];
        fields.extend(self.imputed_error.then_some("imputed_error"));
        let mut fields: Vec<_> = fields.iter().map(|name| Field::new(*name, DataType::Float64, false)).collect();
        fields.extend(self.phi.map(|length| Field::new_fixed_size_list("phi", phi_item(), length, false)));
        fields
    }
}

/// The field of the values of φ.
fn phi_item() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Float32, false))
}

/// Rows scored, and those of them that named a user or item unknown to the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) rows: usize,
    pub(super) unknown_user: usize,
    pub(super) unknown_item: usize,
}

impl Counts {
    pub(super) fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.unknown_user += other.unknown_user;
        self.unknown_item += other.unknown_item;
    }
}

impl Scorer {
    pub(super) fn new(model: TrainedModel, columns: &Columns, spec: &ScoreSpec) -> Result<Self> {
        let (user, item) = roles(columns)?;
        let TrainedModel { manifest, users, items, models } = model;
        let device = models.prediction.table().device();
        let models = Scored {
            propensity: with_average(&models.propensity),
            prediction: with_average(&models.prediction),
            imputation: models.imputation.as_ref().map(with_average),
        };
        let added = Added {
            imputed_error: models.imputation.is_some(),
            phi: spec.phi.then(|| models.phi(manifest.loss.phi, &[], device).size()[1] as i32),
        };
        Ok(Self {
            user: user.to_owned(),
            item: item.to_owned(),
            users,
            items,
            models: Mutex::new(models),
            added,
            loss: manifest.loss,
            device,
            unknown: spec.unknown,
        })
    }

    /// The schema of scored rows.
    pub(super) fn output_schema(&self, input: &SchemaRef, is_partition: &dyn Fn(&str) -> bool) -> Result<SchemaRef> {
        let columns = Columns::default().with(Role::User, &self.user).with(Role::Item, &self.item);
        output_schema(input, &columns, self.added, is_partition)
    }

    /// The rows of `batch` with their scores, in `schema`.
    pub(super) fn score(&self, batch: &RecordBatch, schema: &SchemaRef, counts: &mut Counts) -> Result<RecordBatch> {
        let (user, unknown_user) = self.indices(batch, &self.user, &self.users, "user")?;
        let (item, unknown_item) = self.indices(batch, &self.item, &self.items, "item")?;
        counts.merge(&Counts { rows: batch.num_rows(), unknown_user, unknown_item });
        let row = |(user, item)| Row { user, item, treated: false, outcome: 0.0, propensity: None };
        let rows: Vec<Row> = user.into_iter().zip(item).map(row).collect();

        let models = self.models.lock().expect("no panic holds this lock");
        let prediction = probabilities(&models.prediction, &rows, self.device);
        let clip = self.loss.propensity_clip;
        let propensity = probabilities(&models.propensity, &rows, self.device);
        let propensity = propensity.into_iter().map(|p| p.clamp(clip, 1.0 - clip));
        let mut scores: Vec<(&str, ArrayRef)> = vec![("propensity", Arc::new(propensity.collect::<Float64Array>()))];
        if let Some(imputation) = &models.imputation {
            let logit: Vec<f64> = logits(imputation, &rows, self.device).into_iter().map(f64::from).collect();
            let imputed = imputed_error(&self.loss, &Tensor::from_slice(&logit), &Tensor::from_slice(&prediction));
            let imputed = Vec::<f64>::try_from(imputed.to_kind(Kind::Double)).torch()?;
            scores.push(("imputed_error", Arc::new(Float64Array::from(imputed))));
        }
        if let Some(length) = self.added.phi {
            let phi = models.phi(self.loss.phi, &rows, self.device);
            let values = Float32Array::from(Vec::<f32>::try_from(phi.flatten(0, -1).to_device(Device::Cpu)).torch()?);
            scores.push(("phi", Arc::new(FixedSizeListArray::try_new(phi_item(), length, Arc::new(values), None)?)));
        }
        drop(models);
        scores.push(("prediction", Arc::new(Float64Array::from(prediction))));

        let column = |field: &Arc<Field>| -> ArrayRef {
            let scored = scores.iter().find(|(name, _)| name == field.name());
            Arc::clone(scored.map_or_else(|| &batch[field.name().as_str()], |(_, values)| values))
        };
        Ok(RecordBatch::try_new(Arc::clone(schema), schema.fields().iter().map(column).collect())?)
    }

    /// The index of each row's id, and how many are unknown.
    fn indices(&self, batch: &RecordBatch, name: &str, known: &Vocabulary, role: &str) -> Result<(Vec<u32>, usize)> {
        let ids = Ids::of(&batch[name], name)?;
        let found = known.look_up(&ids, name)?;
        let unknown = found.iter().filter(|index| index.is_none()).count();
        if unknown > 0 && self.unknown == Unknown::Error {
            let row = found.iter().position(Option::is_none).unwrap_or_default();
            invalid!(
                "column {name:?}: the model knows no {role} {} ({unknown} of {} rows here name an unknown one); \
                 train on a log that has them, or set score.unknown = \"average\"",
                ids.display(row),
                found.len()
            );
        }
        let average = known.len() as u32;
        Ok((found.into_iter().map(|index| index.unwrap_or(average)).collect(), unknown))
    }
}

fn roles(columns: &Columns) -> Result<(&str, &str)> {
    match (columns.get(Role::User), columns.get(Role::Item)) {
        (Some(user), Some(item)) => Ok((user, item)),
        (None, _) => invalid!("columns.user is missing: name the column that holds the user"),
        (_, None) => invalid!("columns.item is missing: name the column that holds the item"),
    }
}

/// The schema of `input` with the columns that scoring adds or replaces, and without those of the folders in which a file
/// lies: its copy lies in the same ones.
///
/// # Errors
/// Where the user or item has no column, or one that holds no ids, or is itself to be replaced.
pub(super) fn output_schema(
    input: &SchemaRef,
    columns: &Columns,
    added: Added,
    is_partition: &dyn Fn(&str) -> bool,
) -> Result<SchemaRef> {
    let added = added.fields();
    let (user, item) = roles(columns)?;
    for (role, name) in [("user", user), ("item", item)] {
        match input.field_with_name(name) {
            Ok(field) => drop(id_type(field.data_type(), name)?),
            Err(_) => {
                let known: Vec<_> = input.fields().iter().map(|field| field.name().as_str()).collect();
                invalid!("columns.{role} = {name:?} is no column of the scored files{}", suggestion(name, known));
            }
        }
        if added.iter().any(|field| field.name() == name) {
            invalid!("columns.{role} = {name:?} is the name of a column that scoring writes; rename it");
        }
    }
    let of_files = input.fields().iter().filter(|field| !is_partition(field.name()));
    let mut fields: Vec<Arc<Field>> = of_files.cloned().collect();
    for field in added.into_iter().map(Arc::new) {
        match fields.iter_mut().find(|known| known.name() == field.name()) {
            Some(known) => *known = field,
            None => fields.push(field),
        }
    }
    Ok(Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())))
}

fn probabilities(model: &Model, rows: &[Row], device: Device) -> Vec<f64> {
    logits(model, rows, device).into_iter().map(|logit| 1.0 / (1.0 + (-f64::from(logit)).exp())).collect()
}

/// `model`, with embeddings of its own and one more user and one more item, each the mean of all others.
fn with_average(model: &Model) -> Model {
    let longer = |(embedding, bias): &(Tensor, Tensor)| {
        let mean = |tensor: &Tensor| tensor.mean_dim(0, true, Kind::Float);
        (Tensor::cat(&[embedding, &mean(embedding)], 0), Tensor::cat(&[bias, &mean(bias)], 0))
    };
    tch::no_grad(|| {
        let [user, item] = model.parts().map(|part| longer(&part));
        Model::from_parts((&user.0, &user.1), (&item.0, &item.1), model.head().map(Tensor::copy))
    })
}
