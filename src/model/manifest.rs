//! The manifest of a model: what its folder holds, and how that was made.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use url::Url;

use super::training::TrainingRecord;
use crate::error::{Error, Result, invalid};
use crate::job::{LossSpec, ModelSpec, Split};
use crate::storage::{Storage, child};

/// The version of the layout below.
pub const FORMAT: u32 = 1;
/// The name of the manifest in a model folder.
pub const MANIFEST: &str = "manifest.json";

/// What `manifest.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this layout.
    pub format: u32,
    /// When it was written.
    pub created: DateTime<Utc>,
    /// What wrote it: `counterweight`, `datafusion`.
    pub versions: BTreeMap<String, String>,
    /// The models.
    pub model: ModelSpec,
    /// The loss they were trained with: how a score becomes an imputed error, and which φ is balanced.
    pub loss: LossSpec,
    /// The file of weights, safetensors of float32.
    pub weights: String,
    /// The shape of each tensor in it.
    pub tensors: BTreeMap<String, Vec<i64>>,
    /// The users.
    pub users: VocabularyFile,
    /// The items.
    pub items: VocabularyFile,
    /// The data sets.
    pub data: DataRecord,
    /// How training went.
    pub training: TrainingRecord,
    /// The whole job, with its preset and variables filled in.
    pub job: serde_json::Value,
}

/// A Parquet file whose column `id` lists ids in the order of their rows in the embedding tables.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VocabularyFile {
    /// Its name in the model folder.
    pub file: String,
    /// How many ids it lists.
    pub count: usize,
    /// The Arrow type of the ids.
    pub data_type: String,
}

/// What the models were trained and evaluated on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DataRecord {
    /// What each split held.
    #[serde(flatten)]
    pub sets: BTreeMap<Split, Fingerprint>,
    /// The hash of the covariates of users and items, where a logistic regression has some.
    #[serde(default)]
    pub covariates: Option<String>,
}

impl DataRecord {
    /// What a split held, where there was one.
    pub fn get(&self, split: Split) -> Option<&Fingerprint> {
        self.sets.get(&split)
    }
}

/// What a data set held, to tell whether two runs saw the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Rows.
    pub rows: u64,
    /// Rows with o = 1.
    pub treated: u64,
    /// Sum of the rows' hashes, in hexadecimal: the same in whatever order they come.
    pub hash: String,
}

impl Manifest {
    /// Reads the manifest of the model in `folder`.
    ///
    /// # Errors
    /// Where there is none, or it is of a later version.
    pub async fn read(storage: &Storage, folder: &Url) -> Result<Self> {
        let url = child(folder, MANIFEST)?;
        let Some(bytes) = storage.read_if_present(&url).await? else {
            invalid!("there is no model at {folder}: it holds no {MANIFEST}");
        };
        let broken = |error: serde_json::Error| Error::Invalid(format!("{url} is not a model's manifest: {error}"));
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(broken)?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {
                let manifest: Self = serde_json::from_value(value).map_err(broken)?;
                if let Some(name) = manifest.files().into_iter().find(|name| !is_file_name(name)) {
                    invalid!("{url} names {name:?}, which is no file of its folder; train the model again");
                }
                Ok(manifest)
            }
            Some(format) => invalid!("{url} has format {format}, and this version reads format {FORMAT}"),
            None => invalid!("{url} is not a model's manifest: it states no format"),
        }
    }

    /// The names of its files, but for the manifest itself.
    pub fn files(&self) -> [&str; 3] {
        [&self.weights, &self.users.file, &self.items.file]
    }
}

/// Whether `name` is that of a file of a folder, and not a path or a URL.
fn is_file_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(is_plain)
}
