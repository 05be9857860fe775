//! A model folder: weights, vocabularies, and a manifest that says which files belong together.
//!
//! Weights and vocabularies carry the hash of their content and the run in their names, and `manifest.json`, put in place
//! after them, names them. Whoever reads the manifest finds the files it means, whole, also while a new model is being
//! written over an old one.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use object_store::ObjectStoreExt;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};
use url::Url;

use crate::data::vocabulary::Vocabulary;
use crate::error::Torch;
use crate::fit::models::Models;
use crate::model::{Head, Model};
use counterweight::error::{Context, Error, Result, invalid};
use counterweight::job::{LossSpec, ModelSpec};
use counterweight::model::{DataRecord, FORMAT, MANIFEST, Manifest, TrainingRecord, VocabularyFile};
use counterweight::output::{Others, OutputFolder, Outputs, parquet_bytes};
use counterweight::redact::redact;
use counterweight::storage::{Storage, child, is_not_found};

/// How often a reader starts anew because the model was replaced under its hands.
const ATTEMPTS: usize = 3;

/// A model as it was trained.
#[derive(Debug)]
pub struct TrainedModel {
    /// Its manifest.
    pub manifest: Manifest,
    /// The users.
    pub users: Arc<Vocabulary>,
    /// The items.
    pub items: Arc<Vocabulary>,
    /// The models.
    pub models: Models,
}

/// What a manifest says beside the names of files.
#[derive(Debug)]
pub struct Description {
    /// The models.
    pub model: ModelSpec,
    /// The loss.
    pub loss: LossSpec,
    /// The data sets.
    pub data: DataRecord,
    /// How training went.
    pub training: TrainingRecord,
    /// The whole job.
    pub job: serde_json::Value,
}

/// The files of a model, not yet written.
#[derive(Debug)]
pub struct Files {
    named: Vec<(String, Vec<u8>)>,
    manifest: Manifest,
}

impl Files {
    /// Lays out a model; `users` and `items` are what [`vocabulary_file`] gave.
    pub(crate) fn new(
        models: &Models,
        users: (VocabularyFile, Vec<u8>),
        items: (VocabularyFile, Vec<u8>),
        about: Description,
    ) -> Result<Self> {
        let (weights, tensors) = serialize(models)?;
        let weights = (content_name("weights", "safetensors", &weights), weights);
        let ((user_file, user_bytes), (item_file, item_bytes)) = (users, items);
        let versions = [("counterweight", env!("CARGO_PKG_VERSION")), ("datafusion", datafusion::DATAFUSION_VERSION)];
        let Description { model, loss, data, training, job } = about;
        let manifest = Manifest {
            format: FORMAT,
            created: Utc::now(),
            versions: versions.map(|(name, version)| (name.to_owned(), version.to_owned())).into(),
            model,
            loss,
            weights: weights.0.clone(),
            tensors,
            users: user_file.clone(),
            items: item_file.clone(),
            data,
            training,
            job,
        };
        Ok(Self { named: vec![weights, (user_file.file, user_bytes), (item_file.file, item_bytes)], manifest })
    }

    /// Writes the model into `folder`, in place of the one that was there. Returns what was written.
    pub async fn write(&self, storage: &Storage, folder: &Url) -> Result<Vec<Url>> {
        let ((), written) = Outputs::write(async |outputs| {
            let folder = outputs.folder(storage, folder, Others::Kept).await?;
            self.stage(&folder).await
        })
        .await?;
        Ok(written)
    }

    async fn stage(&self, folder: &OutputFolder) -> Result<()> {
        for (name, bytes) in &self.named {
            folder.put(name, bytes).await?;
        }
        let mut manifest = self.manifest.clone();
        let Manifest { weights, users, items, .. } = &mut manifest;
        for name in [weights, &mut users.file, &mut items.file] {
            *name = folder.path_of(name);
        }
        let manifest = serde_json::to_string_pretty(&manifest).map_err(std::io::Error::from)?;
        folder.put_fixed(MANIFEST, format!("{}\n", redact(&manifest)).as_bytes()).await
    }
}

/// Removes a file that another has replaced; where that fails it stays, with a warning.
pub(crate) async fn remove(storage: &Storage, url: &Url) {
    let removed = async {
        let (store, path) = storage.resolve(url)?;
        Ok::<_, Error>(store.delete(&path).await?)
    };
    if let Err(error) = removed.await {
        tracing::warn!("a file that was replaced is left behind, {url}: {error}");
    }
}

impl TrainedModel {
    /// Reads the model in `folder`, its weights to `device`.
    ///
    /// # Errors
    /// Where there is none, or a file is missing or damaged.
    pub async fn read(storage: &Storage, folder: &Url, device: Device) -> Result<Self> {
        let mut manifest = Manifest::read(storage, folder).await?;
        for _ in 1..ATTEMPTS {
            match Self::read_files(storage, folder, manifest, device).await {
                Ok(model) => return Ok(model),
                Err(error) if is_not_found(&error) => manifest = Manifest::read(storage, folder).await?,
                Err(error) => return Err(error),
            }
        }
        Self::read_files(storage, folder, manifest, device).await
    }

    async fn read_files(storage: &Storage, folder: &Url, manifest: Manifest, device: Device) -> Result<Self> {
        let mut contents = Vec::with_capacity(3);
        for name in manifest.files() {
            contents.push(read_named(storage, folder, name).await?);
        }
        let [weights, users, items] = <[Vec<u8>; 3]>::try_from(contents).expect("three files");
        let model = Self {
            users: Arc::new(read_vocabulary(users).context(|| &manifest.users.file)?),
            items: Arc::new(read_vocabulary(items).context(|| &manifest.items.file)?),
            models: deserialize(&weights, device).context(|| &manifest.weights)?,
            manifest,
        };
        let rows = model.models.prediction.table().size()[0] as usize;
        if rows != model.users.len() + model.items.len() {
            invalid!("the model at {folder} has {rows} embeddings, which is not its users and items together");
        }
        Ok(model)
    }
}

/// Reads a file of `folder` that is named after its content.
pub(crate) async fn read_named(storage: &Storage, folder: &Url, name: &str) -> Result<Vec<u8>> {
    let url = child(folder, name)?;
    let bytes = storage.read(&url).await?;
    if !name.contains(&content_hash(&bytes)) {
        invalid!("{url} is damaged: its content is not what its name says; train the model again");
    }
    Ok(bytes)
}

fn content_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// The part of a file's name that tells its content, whichever run wrote it: `users-0123456789abcdef`.
pub(crate) fn content_of(name: &str) -> &str {
    let hash = name.find('-').map_or(0, |dash| dash + 1);
    let end = name[hash..].find(['-', '.']).map_or(name.len(), |end| hash + end);
    &name[..end]
}

/// The name of a file after its content.
pub(crate) fn content_name(stem: &str, extension: &str, bytes: &[u8]) -> String {
    format!("{stem}-{}.{extension}", content_hash(bytes))
}

/// The shape of each tensor, by name.
type Shapes = BTreeMap<String, Vec<i64>>;

/// The owner, in the names of tensors, of embeddings that the models share.
const SHARED: &str = "shared";

/// `propensity.user_embedding`, `propensity.user_bias`, … as safetensors, with their shapes; shared embeddings are
/// `shared.user_embedding` and `shared.item_embedding`, and the weights of heads are `propensity.head.0.weight` and so on
/// (see [`Head::named`]).
pub(crate) fn serialize(models: &Models) -> Result<(Vec<u8>, Shapes)> {
    let mut tensors = BTreeMap::new();
    for (name, model) in models.named() {
        let owner = if model.embeddings().is_some() { SHARED } else { name };
        for (side, (embedding, bias)) in ["user", "item"].iter().zip(model.parts()) {
            tensors.insert(format!("{owner}.{side}_embedding"), embedding);
            tensors.insert(format!("{name}.{side}_bias"), bias);
        }
        tensors.extend(model.head().named().into_iter().map(|(part, weights)| (format!("{name}.{part}"), weights)));
    }
    let bytes = to_safetensors(&tensors)?;
    Ok((bytes, tensors.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect()))
}

/// Tensors as float32, by name.
pub(crate) fn to_safetensors(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>> {
    let contents = tensors.iter().map(|(name, tensor)| {
        let tensor = tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
        let mut bytes = vec![0; tensor.numel() * size_of::<f32>()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel()).torch()?;
        Ok((name.as_str(), tensor.size(), bytes))
    });
    let contents = contents.collect::<Result<Vec<_>>>()?;
    let views = contents.iter().map(|(name, size, bytes)| {
        let shape = size.iter().map(|length| *length as usize).collect();
        Ok((*name, TensorView::new(Dtype::F32, shape, bytes).map_err(unreadable)?))
    });
    safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None).map_err(unreadable)
}

/// The tensor of that name, of float32.
pub(crate) fn read_tensor(tensors: &SafeTensors<'_>, name: &str, device: Device) -> Result<Tensor> {
    let view = tensors.tensor(name).map_err(unreadable)?;
    let size: Vec<i64> = view.shape().iter().map(|length| *length as i64).collect();
    Ok(Tensor::f_from_data_size(view.data(), &size, Kind::Float).torch()?.to_device(device))
}

/// The models that [`serialize`] wrote.
pub(crate) fn deserialize(bytes: &[u8], device: Device) -> Result<Models> {
    let tensors = SafeTensors::deserialize(bytes).map_err(unreadable)?;
    let tensor = |name: String| read_tensor(&tensors, &name, device);
    let sides = |owner: &str, what: &str| {
        Ok::<_, Error>([tensor(format!("{owner}.user_{what}"))?, tensor(format!("{owner}.item_{what}"))?])
    };
    let has = |owner: &str| tensors.names().iter().any(|name| name.starts_with(&format!("{owner}.")));
    let shared = match has(SHARED) {
        true => Some(Tensor::cat(&sides(SHARED, "embedding")?, 0)),
        false => None,
    };
    let model = |name: &str| {
        let [user_bias, item_bias] = sides(name, "bias")?;
        let named = |part: &str| format!("{name}.{part}");
        let head = Head::from_named(|part| tensors.tensor(&named(part)).is_ok(), |part| tensor(named(part)))?;
        Ok::<_, Error>(match &shared {
            Some(embeddings) => {
                let biases = Tensor::cat(&[&user_bias, &item_bias], 0).unsqueeze(1);
                Model::from_shared(embeddings, biases, user_bias.size()[0] as usize, head)
            }
            None => {
                let [user, item] = sides(name, "embedding")?;
                Model::from_parts((&user, &user_bias), (&item, &item_bias), head)
            }
        })
    };
    Ok(Models {
        propensity: model("propensity")?,
        prediction: model("prediction")?,
        naive_bayes: None,
        imputation: has("imputation").then(|| model("imputation")).transpose()?,
    })
}

/// The error of bytes that are not safetensors, or lack a tensor.
pub(crate) fn unreadable(error: safetensors::SafeTensorError) -> Error {
    Error::Invalid(format!("not readable as safetensors: {error}"))
}

/// The file of a vocabulary, with its content.
pub(crate) fn vocabulary_file(stem: &str, vocabulary: &Vocabulary) -> Result<(VocabularyFile, Vec<u8>)> {
    let data_type = vocabulary.ids().data_type().clone();
    let schema = Arc::new(Schema::new(vec![Field::new("id", data_type.clone(), false)]));
    let bytes = parquet_bytes(&RecordBatch::try_new(schema, vec![Arc::clone(vocabulary.ids())])?)?;
    let file = content_name(stem, "parquet", &bytes);
    Ok((VocabularyFile { file, count: vocabulary.len(), data_type: DataType::to_string(&data_type) }, bytes))
}

fn read_vocabulary(bytes: Vec<u8>) -> Result<Vocabulary> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?;
    let schema = Arc::clone(reader.schema());
    let batches = reader.build()?.collect::<Result<Vec<_>, _>>()?;
    let batch = concat_batches(&schema, &batches)?;
    match batch.column_by_name("id") {
        Some(ids) => Vocabulary::from_ids(Arc::clone(ids)),
        None => invalid!("a vocabulary has a column \"id\""),
    }
}
