//! What a model folder holds, to be read without libtorch: the manifest, the record of training, and its metrics.

mod divergence;
mod manifest;
mod metrics;
mod training;

pub use divergence::{Divergence, Quantity};
pub use manifest::{DataRecord, FORMAT, Fingerprint, MANIFEST, Manifest, VocabularyFile};
pub use metrics::{Metrics, RankedUsers, is_better};
pub use training::{EpochRecord, MemberRecord, Optimum, Stop, Timing, TrainingRecord};
