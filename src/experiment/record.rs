//! The records of trials that have ended, and the folder that holds them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::Result;
use crate::model::{DataRecord, TrainingRecord};
use crate::output::Outputs;
use crate::redact::redact;
use crate::storage::{Storage, child};

/// How a trial went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// The trial's identity.
    pub(super) id: String,
    /// How long its process ran.
    pub(super) wall_seconds: f64,
    /// How it ended.
    pub(super) outcome: Outcome,
}

/// How a trial ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// With a model.
    Finished(Box<Finished>),
    /// With a loss or a gradient that was not a finite number.
    Diverged {
        /// The message.
        error: String,
    },
    /// With another error.
    Failed {
        /// Its message.
        error: String,
    },
}

/// What the manifest of a trial's model says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Finished {
    /// What it was trained and evaluated on.
    pub(super) data: DataRecord,
    /// How training went.
    pub(super) training: TrainingRecord,
}

impl Record {
    /// Whether the trial would end the same way again.
    pub(super) fn is_final(&self) -> bool {
        !matches!(self.outcome, Outcome::Failed { .. })
    }

    /// What the trial found, if it did not fail.
    pub(super) fn finished(&self) -> Option<&Finished> {
        match &self.outcome {
            Outcome::Finished(finished) => Some(finished),
            Outcome::Diverged { .. } | Outcome::Failed { .. } => None,
        }
    }

    /// Its error, if it failed.
    pub(super) fn error(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Finished(_) => None,
            Outcome::Diverged { error } | Outcome::Failed { error } => Some(error),
        }
    }
}

/// The records and models of an experiment's trials, in its folder.
#[derive(Debug)]
pub(super) struct Store<'a> {
    storage: &'a Arc<Storage>,
    folder: Url,
}

impl<'a> Store<'a> {
    pub(super) fn new(storage: &'a Arc<Storage>, folder: Url) -> Self {
        Self { storage, folder }
    }

    pub(super) fn storage(&self) -> &'a Arc<Storage> {
        self.storage
    }

    /// The folder of a trial's model.
    pub(super) fn model(&self, id: &str) -> Result<Url> {
        child(&self.folder, &format!("models/{id}/"))
    }

    fn record(&self, id: &str) -> Result<Url> {
        child(&self.folder, &format!("trials/{id}.json"))
    }

    /// The record of a trial, if there is one that this version can read.
    pub(super) async fn read(&self, id: &str) -> Result<Option<Record>> {
        let url = self.record(id)?;
        let Some(bytes) = self.storage.read_if_present(&url).await? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(error) => {
                tracing::warn!("{url} is not a record of this version: the trial runs again: {error}");
                Ok(None)
            }
        }
    }

    /// Writes a record, and gives it as it will be read.
    pub(super) async fn write(&self, record: &Record) -> Result<Record> {
        let text = serde_json::to_string_pretty(record).map_err(std::io::Error::from)?;
        let mut bytes = redact(&text).into_owned().into_bytes();
        bytes.push(b'\n');
        let url = self.record(&record.id)?;
        Outputs::write(async |outputs| outputs.put(self.storage, &url, &bytes).await).await?;
        Ok(serde_json::from_slice(&bytes).map_err(std::io::Error::from)?)
    }
}
