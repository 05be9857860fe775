//! Gauges in the Prometheus text format, for node_exporter's textfile collector, a push gateway or `/metrics`.

use std::collections::HashMap;

use prometheus::{GaugeVec, Opts, Registry, TextEncoder};

use crate::error::{Error, Result};

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
}
