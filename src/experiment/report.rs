//! The report: tables in the shape of a paper's, and plots.

use super::document::{Document, Entry, Mark, Table};
use super::file::Experiment;
use super::plot::{Chart, Kind, Series};
use super::settings::Settings;
use super::summary::{Comparison, DataSummary, Figure, MethodSummary, Summary};
use crate::job::{Metric, name_of};

/// The report on what the trials of an experiment say.
pub(super) fn report(experiment: &Experiment, summary: &Summary<'_>) -> Document {
    let mut report = Document::default();
    report.heading(1, &experiment.name);
    report.paragraph(format!(
        "{} trials. Figures are mean ± standard deviation over the seeds {}; the best of a column is bold, the second-best \
         underlined.",
        summary.trials,
        seeds(&experiment.seeds.0)
    ));
    for data in &summary.data {
        let page = Page { experiment, data };
        page.write(&mut report);
    }
    if !summary.failures.is_empty() {
        report.heading(2, "Trials that failed");
        let row = |(trial, error): &(String, &str)| vec![trial.clone().into(), (*error).to_owned().into()];
        let rows = summary.failures.iter().map(row).collect();
        report.table(Table { head: ["trial", "error"].map(str::to_owned).to_vec(), rows });
    }
    report
}

/// The part on one data set.
struct Page<'a> {
    experiment: &'a Experiment,
    data: &'a DataSummary<'a>,
}

impl Page<'_> {
    fn write(&self, report: &mut Document) {
        let DataSummary { name, methods, tested, .. } = self.data;
        report.heading(2, *name);
        if !tested {
            report.paragraph("There are no test rows: figures are of the validation rows that chose the epoch.");
        }
        report.table(self.figures());
        if self.experiment.metrics.contains(&Metric::Bmse) && !self.data.same_phi {
            report.paragraph(
                "BMSE is of the φ of each method's loss, which are not the same here: it is not compared. The metrics \
                 bmse_constant and bmse_prediction are of one φ for all.",
            );
        }
        if let Some(k) = self.data.k {
            let notes = self.data.ranked.iter().filter_map(|(split, users)| users.note(split.name(), k as usize));
            notes.for_each(|note| report.paragraph(format!("{note}.")));
        }
        if let Some(baseline) = &self.experiment.baseline {
            report.heading(3, format!("Against {baseline}"));
            report.paragraph(
                "Differences are paired by seed. p: of a two-sided paired t-test, and of Wilcoxon's signed-rank test \
                 (exact) where six seeds or more differ; neither is corrected for the number of comparisons.",
            );
            report.table(self.comparisons());
        }
        if methods.iter().any(|method| method.candidates > 1) {
            report.heading(3, "Settings selected on the validation rows");
            report.table(self.selected());
        }
        report.heading(3, "By epoch");
        report.paragraph("Means over the seeds, until the first of them stops.");
        for &metric in &self.experiment.metrics {
            self.plot(report, "epochs", metric, self.curves(metric));
        }
        let gains = self.experiment.metrics.iter().enumerate().filter(|(_, metric)| !is_balance(**metric));
        let gains: Vec<_> = gains.filter_map(|(at, &metric)| Some((metric, self.gains(at, metric)?))).collect();
        if let (Some(baseline), false) = (&self.experiment.baseline, gains.is_empty()) {
            report.heading(3, "Drop in BMSE and gain");
            let of = self.balance().map_or(String::new(), |metric| format!(" {} is meant.", self.label(metric)));
            report.paragraph(format!("Each relative to {baseline}, which is where the dashed lines cross.{of}"));
        }
        for (metric, chart) in gains {
            self.plot(report, "gain", metric, chart);
        }
    }

    fn figures(&self) -> Table {
        let mut head = vec!["method".to_owned()];
        head.extend(self.experiment.metrics.iter().map(|metric| self.label(*metric)));
        head.push("seeds".to_owned());
        let row = |method: &MethodSummary<'_>| {
            let mut row = vec![Entry::from(method.name.to_owned())];
            row.extend(method.figures.iter().map(shown));
            row.push(method.trials.len().to_string().into());
            row
        };
        Table { head, rows: self.data.methods.iter().map(row).collect() }
    }

    fn comparisons(&self) -> Table {
        let head = ["method", "metric", "difference", "improvement", "better on", "p (t-test)", "p (signed rank)"];
        let mut rows = Vec::new();
        for method in &self.data.methods {
            for (metric, comparison) in self.experiment.metrics.iter().zip(&method.against) {
                let Some(Comparison { n, mean, deviation, improvement, wins, t_test, signed_rank }) = comparison else {
                    continue;
                };
                let difference = format!("{}{}", signed(*mean), spread(*deviation));
                let row = [
                    method.name.to_owned(),
                    self.label(*metric),
                    difference,
                    format!("{:+.2} %", 100.0 * improvement),
                    format!("{wins} of {n} seeds"),
                    probability(*t_test),
                    probability(*signed_rank),
                ];
                rows.push(row.map(Entry::from).to_vec());
            }
        }
        Table { head: head.map(str::to_owned).to_vec(), rows }
    }

    fn selected(&self) -> Table {
        let head = ["method", "candidates", "settings"].map(str::to_owned).to_vec();
        let row = |method: &MethodSummary<'_>| {
            let settings = settings(&method.settings);
            [method.name.to_owned(), method.candidates.to_string(), settings].map(Entry::from).to_vec()
        };
        Table { head, rows: self.data.methods.iter().map(row).collect() }
    }

    /// The validation metric after each epoch.
    fn curves(&self, metric: Metric) -> Chart<'_> {
        let rows = if is_balance(metric) { "the training population" } else { "validation rows" };
        let methods = self.data.methods.iter().enumerate();
        let series = |(color, method): (usize, &MethodSummary<'_>)| (color, method.curve(metric));
        let series = methods.map(|method| (method.1.name, series(method)));
        let series = series.filter(|(_, (_, points))| !points.is_empty());
        Chart {
            title: format!("{} on {rows}, {}", self.label(metric), self.data.name),
            x: "epoch",
            y: self.label(metric),
            kind: Kind::Lines,
            series: series.map(|(name, (color, points))| Series { name, color, points }).collect(),
        }
    }

    /// The first metric of balance that methods are compared by.
    fn balance(&self) -> Option<Metric> {
        let is_compared = |metric: &Metric| is_balance(*metric) && (*metric != Metric::Bmse || self.data.same_phi);
        self.experiment.metrics.iter().copied().find(is_compared)
    }

    /// How much each method lowers BMSE against how much it improves a metric, both relative to the baseline.
    fn gains(&self, at: usize, metric: Metric) -> Option<Chart<'_>> {
        let balance = self.balance()?;
        let bmse = self.experiment.metrics.iter().position(|metric| *metric == balance)?;
        let baseline = self.experiment.baseline.as_deref()?;
        let series = self.data.methods.iter().enumerate().filter_map(|(color, method)| {
            let against = |at: usize| method.against.get(at).copied().flatten();
            let point = (100.0 * against(bmse)?.improvement, 100.0 * against(at)?.improvement);
            Some(Series { name: method.name, color, points: vec![point] })
        });
        Some(Chart {
            title: format!("{} gain against BMSE drop, {}", self.label(metric), self.data.name),
            x: "drop in BMSE (%)",
            y: format!("{} against {baseline} (%)", self.label(metric)),
            kind: Kind::Points,
            series: series.collect(),
        })
    }

    fn plot(&self, report: &mut Document, kind: &str, metric: Metric, chart: Chart<'_>) {
        let letter = |letter: char| if letter.is_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
        let data: String = self.data.name.chars().map(letter).collect();
        if let Some(svg) = chart.svg() {
            report.plot(format!("plots/{data}-{kind}-{}.svg", name_of(&metric)), &chart.title, svg);
        }
    }

    fn label(&self, metric: Metric) -> String {
        let k = self.data.k.map_or("product".to_owned(), |k| k.to_string());
        match metric {
            Metric::Auc => "AUC".to_owned(),
            Metric::Recall => format!("Recall@{k}"),
            Metric::Ndcg => format!("NDCG@{k}"),
            Metric::LogLoss => "log loss".to_owned(),
            Metric::Mse => "MSE".to_owned(),
            Metric::Bmse if self.data.same_phi => "BMSE".to_owned(),
            Metric::Bmse => "BMSE of its own φ".to_owned(),
            Metric::BmseConstant => "BMSE of φ = 1".to_owned(),
            Metric::BmsePrediction => "BMSE of φ = r̂".to_owned(),
        }
    }
}

/// Whether a metric is of the propensities.
fn is_balance(metric: Metric) -> bool {
    matches!(metric, Metric::Bmse | Metric::BmseConstant | Metric::BmsePrediction)
}

/// Four decimals, or three significant digits of what is too small for them.
fn number(value: f64) -> String {
    if value == 0.0 || value.abs() >= 1e-3 { format!("{value:.4}") } else { format!("{value:.2e}") }
}

fn signed(value: f64) -> String {
    format!("{}{}", if value < 0.0 { "−" } else { "+" }, number(value.abs()))
}

fn spread(deviation: Option<f64>) -> String {
    deviation.map_or(String::new(), |deviation| format!(" ± {}", number(deviation)))
}

fn shown(figure: &Figure) -> Entry {
    if figure.n == 0 {
        return Entry::from("–".to_owned());
    }
    let mark = match figure.place {
        1 => Mark::Best,
        2 => Mark::Second,
        _ => Mark::None,
    };
    Entry { text: format!("{}{}", number(figure.mean), spread(figure.deviation)), mark }
}

fn probability(p: Option<f64>) -> String {
    match p {
        None => "–".to_owned(),
        Some(p) if p < 0.001 => "< 0.001".to_owned(),
        Some(p) => format!("{p:.3}"),
    }
}

fn settings(settings: &Settings) -> String {
    let settings = settings.iter().map(|(key, value)| match value.as_float() {
        Some(number) => format!("{key} = {}", significant(number)),
        None => format!("{key} = {value}"),
    });
    settings.collect::<Vec<_>>().join(", ")
}

/// Four significant digits are enough to read; the table of results has the others.
fn significant(number: f64) -> String {
    format!("{number:.3e}").parse::<f64>().map_or_else(|_| number.to_string(), |rounded| rounded.to_string())
}

/// `0 to 4, 7`.
fn seeds(seeds: &[u64]) -> String {
    let follows = |one: &u64, next: &u64| one.checked_add(1) == Some(*next);
    let range = |range: &[u64]| match range {
        [first, .., last] if range.len() > 2 => format!("{first} to {last}"),
        _ => range.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
    };
    seeds.chunk_by(follows).map(range).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_a_reader() {
        assert_eq!(seeds(&[0, 1, 2, 3, 7, 9, 10]), "0 to 3, 7, 9, 10");
        assert_eq!(probability(Some(0.00049)), "< 0.001");
        assert_eq!(probability(Some(0.0312)), "0.031");
        assert_eq!(signed(-0.01234), "−0.0123");
        assert_eq!(signed(0.000_123), "+1.23e-4");
        assert_eq!(significant(0.001_234_567), "0.001235");
        let figure = Figure { n: 3, mean: 0.77314, deviation: Some(0.00621), place: 2 };
        let entry = shown(&figure);
        assert_eq!((entry.text.as_str(), entry.mark), ("0.7731 ± 0.0062", Mark::Second));
        assert_eq!(shown(&Figure { n: 0, mean: f64::NAN, deviation: None, place: 1 }).text, "–");
    }
}
