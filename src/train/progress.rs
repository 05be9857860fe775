//! Progress of training: a bar on a terminal, log lines elsewhere.

use std::io::IsTerminal;

use indicatif::ProgressBar;

use super::trainer::EpochRecord;
use crate::progress::progress_bar;

/// Tells how training goes.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    epochs: usize,
    members: usize,
}

impl Progress {
    /// Progress over at most `epochs` of each of `members` models.
    pub(crate) fn new(epochs: usize, members: usize) -> Self {
        let length = (members * epochs) as u64;
        let bar = || progress_bar("epoch {pos}/{len} {wide_bar} {msg} [{elapsed}]", length);
        Self { bar: std::io::stderr().is_terminal().then(bar), epochs, members }
    }

    /// An epoch of a member is done; members count from 0.
    pub(crate) fn report(&self, member: usize, record: &EpochRecord) {
        let metrics = &record.validation;
        let loss = record.losses.get("total").copied();
        if let Some(bar) = &self.bar {
            let shown = [("loss", loss), ("auc", metrics.auc), ("bmse", metrics.bmse)];
            let shown = shown.iter().filter_map(|(name, value)| Some(format!("{name} {:.4}", (*value)?)));
            bar.set_message(shown.collect::<Vec<_>>().join(" "));
            bar.set_position((member * self.epochs + record.epoch) as u64);
            return;
        }
        let losses = serde_json::to_string(&record.losses).unwrap_or_default();
        tracing::info!(
            member = (self.members > 1).then_some(member + 1),
            epoch = record.epoch,
            seconds = record.seconds,
            loss,
            losses,
            lambda = record.lambda,
            auc = metrics.auc,
            recall = metrics.recall,
            ndcg = metrics.ndcg,
            log_loss = metrics.log_loss,
            mse = metrics.mse,
            bmse = metrics.bmse,
            "trained an epoch"
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
