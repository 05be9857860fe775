//! The text of a training report.

use std::fmt::Write;

use crate::artifact::model_folder::Description;
use crate::data::vocabulary::Vocabulary;
use counterweight::job::Split;
use counterweight::model::{Metrics, Stop, TrainingRecord};

/// What the report of a run says; ranked lists were `k` long.
pub(super) fn render(
    about: &Description,
    k: usize,
    users: &Vocabulary,
    items: &Vocabulary,
    unknown: [usize; 2],
) -> String {
    let Description { data, training, .. } = about;
    let seconds: f64 = training.epochs().map(|record| record.seconds).sum();
    let (rows, treated) = data.get(Split::Train).map_or((0, 0), |set| (set.rows, set.treated));
    let mut text = format!(
        "trained on {} rows ({} treated), {} users, {} items, on {}\n",
        rows,
        treated,
        users.len(),
        items.len(),
        training.device
    );
    let epochs = training.epochs().count();
    let reason = match &training.stop {
        Stop::Epochs => "all done".to_owned(),
        Stop::Patience => "the validation metric stopped improving".to_owned(),
        Stop::Interrupted { epoch } => format!("interrupted at epoch {epoch}"),
        Stop::Diverged(divergence) => format!("diverged at epoch {}", divergence.epoch),
    };
    let best = training.members.iter().map(|member| member.best_epoch.to_string()).collect::<Vec<_>>().join(", ");
    let kept = match training.members.len() {
        1 => format!("these are the weights of epoch {best}"),
        members => format!("these are the means of {members} models, at their epochs {best}"),
    };
    let _ = writeln!(text, "{epochs} epochs, {:.3} s each; {reason}; {kept}\n", seconds / epochs.max(1) as f64);
    if let Some(times) = mean_timing(training) {
        let _ = writeln!(text, "of an epoch's seconds: {times}\n");
    }
    let _ = writeln!(
        text,
        "{:<12}{:>8}{:>8}{:>8}{:>8}{:>10}{:>8}{:>10}{:>10}{:>11}",
        "", "rows", "AUC", "Recall", "NDCG", "log loss", "MSE", "BMSE", "of φ = 1", "of φ = r̂"
    );
    let sets = [
        (Split::Validation, Some(&training.validation), unknown[0]),
        (Split::Test, training.test.as_ref(), unknown[1]),
    ];
    for (split, metrics, unknown) in sets {
        let (Some(data), Some(metrics)) = (data.get(split), metrics) else { continue };
        let name = split.name();
        let Metrics { auc, recall, ndcg, log_loss, mse, bmse, bmse_constant, bmse_prediction } = metrics;
        let show = |value: &Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        let short = |value: &Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2e}"));
        let rows = data.treated;
        let [auc, recall, ndcg, log_loss, mse] = [auc, recall, ndcg, log_loss, mse].map(show);
        let [bmse, constant, prediction] = [bmse, bmse_constant, bmse_prediction].map(short);
        let _ = write!(text, "{name:<12}{rows:>8}{auc:>8}{recall:>8}{ndcg:>8}{log_loss:>10}{mse:>8}");
        let _ = write!(text, "{bmse:>10}{constant:>10}{prediction:>10}");
        let _ = match unknown {
            0 => writeln!(text),
            _ => writeln!(text, "  ({unknown} rows of unknown users or items left out)"),
        };
    }
    for note in training.ranked.iter().filter_map(|(split, users)| users.note(split.name(), k)) {
        let _ = writeln!(text, "\n{note}");
    }
    text
}

/// The mean seconds of each part of an epoch, where they were recorded.
fn mean_timing(training: &TrainingRecord) -> Option<String> {
    let timings: Vec<_> = training.epochs().filter_map(|record| record.timing).collect();
    let names = timings.first()?.parts().map(|(name, _)| name);
    let mean = |part: usize| timings.iter().map(|timing| timing.parts()[part].1).sum::<f64>() / timings.len() as f64;
    let parts = names.iter().enumerate().map(|(part, name)| format!("{name} {:.4}", mean(part)));
    Some(parts.collect::<Vec<_>>().join(", "))
}
