use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Result, invalid};
use crate::storage::Storage;

/// `[storage]`: how stores are asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSpec {
    /// Seconds that a store may take for each answer, for each next part of one and for each upload, retries included; 60 by
    /// default.
    #[schemars(range(min = 1))]
    pub timeout: Option<u64>,
}

impl StorageSpec {
    /// The stores that it and the environment configure.
    pub fn stores(&self) -> Storage {
        let storage = Storage::from_env();
        match self.timeout {
            Some(seconds) => storage.with_timeout(Duration::from_secs(seconds)),
            None => storage,
        }
    }

    pub(in crate::job) fn validate(&self) -> Result<()> {
        if self.timeout == Some(0) {
            invalid!("storage.timeout = 0: give at least 1 second");
        }
        Ok(())
    }
}
