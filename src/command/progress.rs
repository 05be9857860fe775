//! Events on a terminal: bars where standard error is one, log lines elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::events::{Event, EventSink, log};
use crate::model::EpochRecord;

/// Shows events on standard error.
#[derive(Debug)]
pub struct Terminal {
    is_terminal: bool,
    /// The bar of the task under way, by the task's name.
    bar: Mutex<Option<(String, ProgressBar)>>,
}

impl Default for Terminal {
    fn default() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), bar: Mutex::default() }
    }
}

impl Terminal {
    fn show(&self, task: &str, done: u64, total: Option<u64>, message: &str) {
        let mut shown = self.bar.lock();
        if shown.as_ref().is_none_or(|(known, _)| known != task) {
            clear(&mut shown);
            let bar = match total {
                Some(total) => ProgressBar::new(total)
                    .with_style(style("{prefix} {pos}/{len} {wide_bar} {msg} [{elapsed}, {eta} left]")),
                None => ProgressBar::no_length().with_style(style("{prefix} {pos} {spinner} {msg} [{elapsed}]")),
            };
            *shown = Some((task.to_owned(), bar.with_prefix(task.to_owned())));
        }
        let Some((_, bar)) = &*shown else { return };
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_message(message.to_owned());
        bar.set_position(done);
        if total == Some(done) {
            clear(&mut shown);
        }
    }

    fn epoch(&self, (member, members): (usize, usize), epochs: usize, record: &EpochRecord) {
        let metrics = &record.validation;
        let loss = record.losses.get("total").copied();
        if self.is_terminal {
            let shown = [("loss", loss), ("auc", metrics.auc), ("bmse", metrics.bmse)];
            let shown = shown.iter().filter_map(|(name, value)| Some(format!("{name} {:.4}", (*value)?)));
            let done = (member * epochs + record.epoch) as u64;
            self.show("epoch", done, Some((members * epochs) as u64), &shown.collect::<Vec<_>>().join(" "));
            return;
        }
        let losses = serde_json::to_string(&record.losses).unwrap_or_default();
        tracing::info!(
            member = (members > 1).then_some(member + 1),
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

fn clear(shown: &mut Option<(String, ProgressBar)>) {
    if let Some((_, bar)) = shown.take() {
        bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a template without mistakes")
}

impl EventSink for Terminal {
    fn emit(&self, event: Event) {
        match event {
            Event::Epoch { member, members, epochs, record } => self.epoch((member, members), epochs, &record),
            Event::Progress { task, done, total, message } => {
                if self.is_terminal {
                    self.show(&task, done, total, &message);
                }
            }
            Event::Log { level, message } => match &*self.bar.lock() {
                Some((_, bar)) => bar.suspend(|| log(&level, &message)),
                None => log(&level, &message),
            },
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        clear(&mut self.bar.lock());
    }
}
