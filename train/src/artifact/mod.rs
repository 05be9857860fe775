//! What training leaves behind: the model folder, and the checkpoint that an interrupted run is resumed from.

pub(crate) mod checkpoint;
pub mod model_folder;
