//! The scores of any number of rows.

use tch::Device;

use super::{Model, Scores};
use crate::data::sampler::{Batch, Row};

/// Embedding values gathered, and hidden activations made, at a time.
pub(crate) const GATHERED: usize = 1 << 24;

/// The scores of `rows`, before the sigmoid.
pub fn logits(model: &Model, rows: &[Row], device: Device) -> Vec<f32> {
    let chunk = (GATHERED / (2 * (model.dim() as usize + 1) + model.head().activations())).max(1);
    let mut scores = vec![0.0; rows.len()];
    tch::no_grad(|| {
        for (rows, scores) in rows.chunks(chunk).zip(scores.chunks_mut(chunk)) {
            let batch = Batch::of_rows(rows, model.users(), device);
            let logit = Scores::of(model.rows(&batch), batch.layout).logit;
            logit.to_device(Device::Cpu).copy_data(scores, rows.len());
        }
    });
    scores
}
