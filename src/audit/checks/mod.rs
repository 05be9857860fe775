//! The checks of an audit, one file each: its SQL, what it reads of the result, its verdict and its gauges.
//!
//! The SQL is a file of `sql/` that runs as it stands over a view named `audited`. Its first comment line is what the check
//! asks, `-- Needs:` lists the columns that `audited` must give it, and the rest of the comment says how to read the
//! result.

mod balance;
mod calibration;
mod drift;
mod elements;
mod estimates;
mod lambda;
mod model_change;
mod positivity;
mod propensity_fit;
mod rows;
mod segments;
mod trend;
mod verdict;
mod weights;

use std::fmt;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::error::ArrowError;

use super::figures::{Column, Figures, decode, field};
use super::gauges::Gauges;
use super::verdict::Verdict;
use crate::error::{Context, Result};

/// Every check, in the order in which an audit runs them.
pub const CHECKS: &[ListedCheck] = &[
    ListedCheck::of::<rows::Rows>(),
    ListedCheck::of::<verdict::Effect>(),
    ListedCheck::of::<balance::Balance>(),
    ListedCheck::of::<segments::Segment>(),
    ListedCheck::of::<elements::Element>(),
    ListedCheck::of::<positivity::Positivity>(),
    ListedCheck::of::<weights::Weights>(),
    ListedCheck::of::<calibration::Bin>(),
    ListedCheck::of::<propensity_fit::PropensityFit>(),
    ListedCheck::of::<estimates::Estimate>(),
    ListedCheck::of::<lambda::Optimum>(),
    ListedCheck::of::<trend::Day>(),
    ListedCheck::of::<drift::Drift>(),
    ListedCheck::of::<model_change::ModelChange>(),
];

/// A check: the type of a row of its result, and what its rows say.
trait Check: Figures {
    /// The check's name in reports, and that of its files.
    const NAME: &'static str;

    /// The file `sql/NAME.sql`.
    const SQL: &'static str;

    /// Columns that the text of a report leaves out: all rows have the same value in them, which the verdict or the
    /// heading tells.
    const HIDDEN: &'static [&'static str] = &[];

    /// Whether the check is of all rows; the others are of those that functions do not refuse.
    const EVERY_ROW: bool = false;

    /// What the rows say, of which there is at least one; `None` where figures that it takes are NULL, as they are where
    /// hardly any row of the audited table counts.
    fn verdict(rows: &[Self]) -> Option<Verdict>;

    /// Sets the series that the rows give; none by default.
    fn gauges(_rows: &[Self], _gauges: &mut Gauges) {}
}

/// A check as [`CHECKS`] lists it.
#[derive(Debug, Clone, Copy)]
pub struct ListedCheck {
    /// The check's name: the file's without `.sql`.
    pub name: &'static str,
    /// The file.
    pub sql: &'static str,
    pub(super) hidden: &'static [&'static str],
    pub(super) every_row: bool,
    columns: &'static [Column],
    conclude: fn(&RecordBatch) -> Result<(Verdict, Gauges), ArrowError>,
}

impl ListedCheck {
    const fn of<C: Check>() -> Self {
        Self {
            name: C::NAME,
            sql: C::SQL,
            hidden: C::HIDDEN,
            every_row: C::EVERY_ROW,
            columns: C::COLUMNS,
            conclude: conclude::<C>,
        }
    }

    /// What is checked: a question.
    pub fn title(&self) -> &'static str {
        self.header().next().unwrap_or_default()
    }

    /// The columns of `audited` without which the check is left out.
    pub fn needs(&self) -> impl Iterator<Item = &'static str> {
        let listed = self.header().find_map(|line| line.strip_prefix("Needs:")).unwrap_or_default();
        listed.split(',').map(str::trim)
    }

    /// The lines of the comment that starts the file.
    pub fn header(&self) -> impl Iterator<Item = &'static str> {
        self.sql.lines().map_while(|line| line.strip_prefix("--")).map(str::trim)
    }

    /// Whether a result of that schema has every column that the check knows by name.
    ///
    /// # Errors
    /// Names the check and a column that is not there or holds values of another type.
    pub(super) fn verify(&self, schema: &Schema) -> Result<()> {
        let hidden = self.hidden.iter().try_for_each(|name| field(schema, name).map(drop));
        let verified = hidden.and_then(|()| self.columns.iter().try_for_each(|column| column.verify(schema)));
        verified.context(|| format!("check {}", self.name))
    }

    /// What a result says, and the series that it gives.
    ///
    /// # Errors
    /// Those of [`Self::verify`], and a column without a value in a row that must have one.
    pub(super) fn conclude(&self, result: &RecordBatch) -> Result<(Verdict, Gauges)> {
        (self.conclude)(result).context(|| format!("check {}", self.name))
    }
}

fn conclude<C: Check>(result: &RecordBatch) -> Result<(Verdict, Gauges), ArrowError> {
    let rows = decode::<C>(result)?;
    let mut gauges = Gauges::default();
    C::gauges(&rows, &mut gauges);
    Ok((judge(&rows), gauges))
}

fn judge<C: Check>(rows: &[C]) -> Verdict {
    if rows.first().is_none_or(|first| first.n() == 0) {
        return Verdict::calm("there are no rows to judge by");
    }
    C::verdict(rows).unwrap_or_else(|| Verdict::calm("there are too few rows to judge by"))
}

impl fmt::Display for ListedCheck {
    /// The name, and the header indented below it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        for line in self.header() {
            writeln!(f, "{}", format!("  {line}").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use datafusion::arrow::datatypes::{DataType, Field};
    use datafusion::prelude::SessionContext;

    use super::super::figures::CellKind;
    use super::*;
    use crate::job::Role;
    use crate::session::{SessionOptions, session};
    use crate::storage::Storage;

    /// The alarm and the text of a verdict.
    pub(super) fn judged<C: Check>(rows: &[C]) -> (bool, String) {
        let Verdict { text, alarm, .. } = judge(rows);
        (alarm, text)
    }

    /// A session with a view `audited` that has every column.
    async fn with_view() -> SessionContext {
        let session = session(&SessionOptions::default(), Arc::new(Storage::new([]))).unwrap();
        let numbers = Role::ALL.iter().filter(|role| !["treated", "day"].contains(&role.key()));
        let numbers: Vec<_> = numbers.map(|role| format!("0.5 AS {role}")).collect();
        let view = format!(
            "CREATE VIEW audited AS SELECT true AS treated, DATE '2026-01-01' AS day, 'a' AS segment, \
             0.5 AS true_error, {}",
            numbers.join(", ")
        );
        session.sql(&view).await.unwrap();
        session
    }

    #[test]
    fn headers_say_what_is_asked_and_needed() {
        for check in CHECKS {
            assert!(check.title().ends_with('?'), "{}: {:?}", check.name, check.title());
            let needs: Vec<_> = check.needs().collect();
            assert!(needs.starts_with(&["treated", "propensity"]), "{}: {needs:?}", check.name);
            let is_known = |need: &&str| *need == "segment" || Role::from_key(need).is_some();
            assert!(needs.iter().all(is_known), "{}: {needs:?}", check.name);
            assert!(check.header().any(|line| line.starts_with("How to read it.")), "{}", check.name);
        }
    }

    #[test]
    fn a_check_is_named_once_and_as_its_file() {
        let names: BTreeSet<_> = CHECKS.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), CHECKS.len());
        for check in CHECKS {
            let file = format!("{}/sql/{}.sql", env!("CARGO_MANIFEST_DIR"), check.name);
            assert_eq!(std::fs::read_to_string(&file).unwrap(), check.sql, "{file}");
        }
    }

    #[tokio::test]
    async fn the_sql_of_every_check_gives_what_the_check_reads() {
        let session = with_view().await;
        for check in CHECKS {
            let frame = session.sql(check.sql).await.unwrap();
            check.verify(frame.schema().inner()).unwrap();
        }
    }

    #[tokio::test]
    async fn a_column_that_is_renamed_in_the_sql_is_an_error() {
        let session = with_view().await;
        for (name, from, to, column) in [
            ("balance", "n, rows_skipped, null_treated", "n, rows_skipped AS skipped, null_treated", "rows_skipped"),
            ("verdict", "n, clusters, verdict, decides", "n, clusters, verdict AS value, decides", "verdict"),
            ("segments", "OVER () AS segments", "OVER () AS all_segments", "segments"),
            ("weights", "AS max_weight,", "AS heaviest,", "max_weight"),
            ("trend", "days, out_of_balance", "days AS n_days, out_of_balance", "days"),
            ("estimates", "estimate - true_error AS gap", "estimate - true_error AS off", "gap"),
        ] {
            let mut check = *CHECKS.iter().find(|check| check.name == name).unwrap();
            assert!(check.sql.contains(from), "{from} is not in {}", check.sql);
            check.sql = check.sql.replace(from, to).leak();
            let frame = session.sql(check.sql).await.unwrap();
            let error = check.verify(frame.schema().inner()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("check {name}: ")), "{error}");
            assert!(error.contains(&format!("there is no column {column:?}")), "{error}");
        }
    }

    #[test]
    fn every_column_that_a_check_reads_must_be_there_and_of_its_type() {
        let of_kind = |column: &Column, kind: CellKind| {
            let data_type = match kind {
                CellKind::Integer => DataType::UInt64,
                CellKind::Number => DataType::Float32,
                CellKind::Text => DataType::Utf8View,
            };
            Field::new(column.name, data_type, true)
        };
        for check in CHECKS {
            let is_read = |name: &&str| check.columns.iter().any(|column| column.name == *name);
            let only_hidden = check.hidden.iter().copied().filter(|name| !is_read(name));
            let mut sound: Vec<_> = check.columns.iter().map(|column| of_kind(column, column.kind)).collect();
            sound.extend(only_hidden.map(|name| Field::new(name, DataType::Int64, true)));
            check.verify(&Schema::new(sound.clone())).unwrap();
            for (at, column) in check.columns.iter().enumerate() {
                let refused = |fields: Vec<Field>| {
                    let result = RecordBatch::new_empty(Arc::new(Schema::new(fields)));
                    let verified = check.verify(result.schema_ref()).unwrap_err().to_string();
                    let concluded = check.conclude(&result).unwrap_err().to_string();
                    assert_eq!(verified, concluded);
                    assert!(verified.contains(check.name), "{verified}");
                    assert!(verified.contains(&format!("{:?}", column.name)), "{verified}");
                };
                let mut missing = sound.clone();
                missing.remove(at);
                refused(missing);
                let mut mistyped = sound.clone();
                let other = if column.kind == CellKind::Text { CellKind::Number } else { CellKind::Text };
                mistyped[at] = of_kind(column, other);
                refused(mistyped);
            }
        }
    }

    #[test]
    fn every_check_is_in_the_guide() {
        let guide = include_str!("../../../docs/guide.md");
        let table = guide.split("| check |").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
        let listed: Vec<_> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(listed, CHECKS.iter().map(|check| check.name).collect::<Vec<_>>());
    }
}
