//! What training leaves behind: the model folder, and the checkpoint that an interrupted run is resumed from.

pub mod checkpoint;
pub(crate) mod resume;
