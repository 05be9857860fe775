//! The figures of an audit as Prometheus gauges.
//!
//! Every series is labelled with `table`, the job's name, and `audit`. The families of balance add `phi`,
//! `segment_column` and `segment`; the last two are empty for the whole table, so that `counterweight_bmse{segment=""}`
//! selects it. Only the segments that the audit shows, `worst` for each segment column, get a series: which they are
//! changes from run to run, so alert on the whole table or on `counterweight_segments_out_of_balance`.

use super::outcome::AuditOutcome;
use crate::error::Result;
use crate::metrics::{Exposition, Family};

/// The labels of a family with one series for each audit.
pub(super) const AUDIT: &[&str] = &["table", "audit"];

pub(super) const fn family(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family { name, help, labels }
}

/// Not renewed by an audit that is no success.
const FINISHED: Family =
    family("counterweight_audit_timestamp_seconds", "When the audit last succeeded, in Unix time.", AUDIT);
const TOOK: Family = family("counterweight_audit_duration_seconds", "How long the audit ran.", AUDIT);

/// The series that the figures of one check give.
#[derive(Debug, Default)]
pub(super) struct Gauges(Vec<Gauge>);

#[derive(Debug)]
struct Gauge {
    family: Family,
    /// The values of the labels that are not of the whole audit.
    labels: Vec<String>,
    value: f64,
}

impl Gauges {
    /// Sets the series of a family that has one for each audit; a figure that is NULL gives none.
    pub(super) fn set(&mut self, family: Family, value: Option<f64>) {
        self.set_labelled(family, &[], value);
    }

    /// The same of a family with labels beyond `table`, `audit` and `phi`: `labels` are their values, in order.
    pub(super) fn set_labelled(&mut self, family: Family, labels: &[&str], value: Option<f64>) {
        let labels = || labels.iter().map(|&label| label.to_owned()).collect();
        self.0.extend(value.map(|value| Gauge { family, labels: labels(), value }));
    }
}

/// Adds every series of an audit.
pub(super) fn expose(exposition: &mut Exposition, audit: &AuditOutcome) -> Result<()> {
    for gauge in audit.parts().flat_map(|part| &part.gauges.0) {
        let mut further = gauge.labels.iter().map(String::as_str);
        let value = |label: &&str| match *label {
            "table" => audit.table.as_str(),
            "audit" => audit.name.as_str(),
            "phi" => audit.phi.as_str(),
            _ => further.next().unwrap_or_default(),
        };
        let labels: Vec<&str> = gauge.family.labels.iter().map(value).collect();
        exposition.set(&gauge.family, &labels, gauge.value)?;
    }
    let labels = [audit.table.as_str(), audit.name.as_str()];
    if audit.is_success() {
        exposition.set(&FINISHED, &labels, audit.finished.timestamp_millis() as f64 / 1e3)?;
    }
    exposition.set(&TOOK, &labels, audit.took.as_secs_f64())
}

/// Whether a series of a metrics file that is there stays beside those of `audits`: those of others do, and of an audit
/// that was no success the time of the last one.
pub(super) fn is_kept(audits: &[AuditOutcome], family: &str, labels: &[(String, String)]) -> bool {
    let is = |key: &str, value: &str| labels.iter().any(|(known, of)| known == key && of == value);
    let own = audits.iter().find(|audit| is("table", &audit.table) && is("audit", &audit.name));
    own.is_none_or(|audit| family == FINISHED.name && !audit.is_success())
}
