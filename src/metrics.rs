//! Gauges in the Prometheus text format, for node_exporter's textfile collector, a push gateway or `/metrics`.

use std::collections::{BTreeMap, HashMap};

use prometheus::{GaugeVec, Opts, Registry, TextEncoder};

use crate::error::{Error, Result, invalid};

/// A family of gauges: series that differ in the values of the same labels.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// The name, with its unit last.
    pub name: &'static str,
    /// What the value is: one sentence.
    pub help: &'static str,
    /// The names of the labels.
    pub labels: &'static [&'static str],
}

/// Gauges that are set once and then read as text.
#[derive(Debug, Default)]
pub struct Exposition {
    registry: Registry,
    gauges: HashMap<&'static str, GaugeVec>,
}

impl Exposition {
    /// Sets the series of `family` with those values of its labels, in the order of their names.
    ///
    /// # Errors
    /// Where the family's name or labels are not what Prometheus allows, or `labels` are not as many.
    pub fn set(&mut self, family: &Family, labels: &[&str], value: f64) -> Result<()> {
        if !self.gauges.contains_key(family.name) {
            let gauge = GaugeVec::new(Opts::new(family.name, family.help), family.labels).map_err(refused)?;
            self.registry.register(Box::new(gauge.clone())).map_err(refused)?;
            self.gauges.insert(family.name, gauge);
        }
        self.gauges[family.name].get_metric_with_label_values(labels).map_err(refused)?.set(value);
        Ok(())
    }

    /// The text of all series, families by name.
    pub fn text(&self) -> Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(refused)
    }

    /// The text of all series, and of those of `existing`, a text that is there, which `is_kept` by its name and labels.
    ///
    /// # Errors
    /// Where `existing` is no text of metrics.
    pub fn text_beside(&self, existing: &str, is_kept: impl Fn(&str, &[(String, String)]) -> bool) -> Result<String> {
        let Some(mut families) = parse_text(&self.text()?) else {
            return Err(Error::Io(std::io::Error::other("metrics: their text cannot be read back")));
        };
        let Some(others) = parse_text(existing) else {
            invalid!("the file there holds no metrics");
        };
        for (name, other) in others {
            let kept: Vec<_> =
                other.samples.into_iter().filter(|sample| is_kept(&sample.name, &sample.labels)).collect();
            if kept.is_empty() {
                continue;
            }
            match families.get_mut(&name) {
                Some(own) => own.samples.extend(kept),
                None => drop(families.insert(name, TextFamily { about: other.about, samples: kept })),
            }
        }
        let lines = families
            .into_values()
            .flat_map(|family| family.about.into_iter().chain(family.samples.into_iter().map(|sample| sample.line)));
        Ok(lines.map(|line| line + "\n").collect())
    }
}

/// A family of a text of metrics.
#[derive(Debug, Default)]
pub(crate) struct TextFamily {
    /// Its lines of HELP and TYPE.
    about: Vec<String>,
    samples: Vec<Sample>,
}

/// A line of a text of metrics.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    line: String,
}

/// The families of a text of metrics, by name; none where it is something else.
pub(crate) fn parse_text(text: &str) -> Option<BTreeMap<String, TextFamily>> {
    let mut families: BTreeMap<String, TextFamily> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix('#') {
            let mut words = comment.split_whitespace();
            if let (Some("HELP" | "TYPE"), Some(name)) = (words.next(), words.next()) {
                current = name.to_owned();
                families.entry(current.clone()).or_default().about.push(line.to_owned());
            }
            continue;
        }
        let sample = parse_sample(line)?;
        // The series of a histogram and of a summary have names that start with the family's.
        if !sample.name.starts_with(current.as_str()) || current.is_empty() {
            current = sample.name.clone();
        }
        families.entry(current.clone()).or_default().samples.push(sample);
    }
    Some(families)
}

fn parse_sample(line: &str) -> Option<Sample> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter);
    let end = line.find(|letter| !is_letter(letter))?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside.trim_start_matches([',', ' ']);
        while !rest.starts_with('}') {
            let (label, value) = rest.split_once("=\"")?;
            let (value, after) = parse_value(value)?;
            labels.push((label.trim().to_owned(), value));
            rest = after.trim_start_matches([',', ' ']);
        }
        rest = &rest[1..];
    }
    let mut figures = rest.split_whitespace();
    figures.next()?.parse::<f64>().ok()?;
    let is_whole = figures.next().is_none_or(|time| time.parse::<i64>().is_ok()) && figures.next().is_none();
    let starts_well = name.starts_with(|letter: char| is_letter(letter) && !letter.is_ascii_digit());
    (is_whole && starts_well).then(|| Sample { name: name.to_owned(), labels, line: line.to_owned() })
}

/// The text up to the quote that ends it, and what follows.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

fn refused(error: prometheus::Error) -> Error {
    Error::Io(std::io::Error::other(format!("metrics: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_text_with_escaped_labels() {
        const SIZE: Family = Family { name: "test_size_bytes", help: "A size.", labels: &["table", "segment"] };
        let mut exposition = Exposition::default();
        exposition.set(&SIZE, &["log", "a \"b\"\\\n"], 0.5).unwrap();
        exposition.set(&SIZE, &["log", ""], 1e-9).unwrap();
        exposition.set(&SIZE, &["log", ""], 2e-9).unwrap();
        let expected = "# HELP test_size_bytes A size.\n# TYPE test_size_bytes gauge\n\
                        test_size_bytes{segment=\"\",table=\"log\"} 0.000000002\n\
                        test_size_bytes{segment=\"a \\\"b\\\"\\\\\\n\",table=\"log\"} 0.5\n";
        assert_eq!(exposition.text().unwrap(), expected);
        assert!(exposition.set(&SIZE, &["log"], 1.0).unwrap_err().to_string().contains("metrics"));
    }

    #[test]
    fn what_is_kept_of_a_text_stands_in_its_family() {
        const SIZE: Family = Family { name: "b_size", help: "A size.", labels: &["table"] };
        let mut exposition = Exposition::default();
        exposition.set(&SIZE, &["mine"], 1.0).unwrap();
        let existing = "# HELP b_size Another text.\n# TYPE b_size gauge\nb_size{table=\"mine\"} 7\n\
                        b_size{table=\"its \\\"b\\\"\\\\\\n}\"} 2 1700000000000\n# a remark\n\
                        # TYPE a_time histogram\na_time_bucket{le=\"+Inf\"} 3\na_time_sum 4.5\na_time_count 3\nc +Inf\n";
        let text =
            exposition.text_beside(existing, |_, labels| !labels.contains(&("table".into(), "mine".into()))).unwrap();
        let expected = "# TYPE a_time histogram\na_time_bucket{le=\"+Inf\"} 3\na_time_sum 4.5\na_time_count 3\n\
                        # HELP b_size A size.\n# TYPE b_size gauge\nb_size{table=\"mine\"} 1\n\
                        b_size{table=\"its \\\"b\\\"\\\\\\n}\"} 2 1700000000000\nc +Inf\n";
        assert_eq!(text, expected);
        let label = |text: &str| parse_text(text).unwrap().into_values().next().unwrap().samples[0].labels[0].1.clone();
        assert_eq!(label("x{a=\"b \\\"c\\\"\\\\\\n}\"} 1"), "b \"c\"\\\n}");
        for other in ["{\"audit\": 1}", "o,p\n1,0.5\n", "PAR1", "x", "x y", "x{a=\"b} 1", "x 1 2 3", "1 2"] {
            assert!(parse_text(other).is_none(), "{other}");
        }
        assert!(parse_text("").unwrap().is_empty());
    }
}
