//! Columns of text that stand where numbers are to be: what their values say is wrong.

use std::collections::BTreeMap;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::advice::quoted;
use crate::error::Result;
use crate::table::is_marker;

/// Rows that are looked at.
const ROWS: usize = 100_000;

/// What to do about each column of `names` that holds text; `query` is the job's key of the query.
///
/// A column whose values cannot be read has no advice: whoever runs the query says why.
pub(super) async fn advice(frame: &DataFrame, names: &[&str], query: &str) -> BTreeMap<String, String> {
    let mut advice = BTreeMap::new();
    for &name in names {
        let fields = frame.schema().qualified_fields_with_unqualified_name(name);
        let [(qualifier, field)] = fields.as_slice() else { continue };
        if is_text(field.data_type()) {
            let column = Expr::Column(Column::new(qualifier.cloned(), name));
            if let Ok(found) = look(frame, column, name, query).await {
                advice.insert(name.to_owned(), found);
            }
        }
    }
    advice
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => values.is_string(),
        other => other.is_string(),
    }
}

async fn look(frame: &DataFrame, column: Expr, name: &str, query: &str) -> Result<String> {
    let tables = tables(frame.logical_plan());
    let values = frame.clone().limit(0, Some(ROWS))?.select([column])?.collect().await?;
    let (mut markers, mut others, mut flags, mut numbers) = (Vec::new(), None, 0, 0);
    for batch in values {
        let texts = cast(batch.column(0), &DataType::Utf8)?;
        for text in texts.as_string::<i32>().iter().flatten() {
            match text.trim() {
                marker if marker.is_empty() || marker.eq_ignore_ascii_case("nan") || is_marker(marker) => {
                    if !markers.iter().any(|known| known == text) {
                        markers.push(text.to_owned());
                    }
                }
                flag if ["true", "false"].contains(&flag.to_ascii_lowercase().as_str()) => flags += 1,
                number if number.parse::<f64>().is_ok() => numbers += 1,
                _ => others = others.or_else(|| Some(text.to_owned())),
            }
        }
    }
    let quoted = quoted(name);
    let all_flags = flags > 0 && numbers == 0;
    let other = others.or_else(|| (flags > 0 && numbers > 0).then(|| "true".to_owned()));
    Ok(match (other, markers.as_slice()) {
        (Some(other), _) => format!(
            "not all of it is numbers, such as {other:?}: correct that, or make it NULL with \
             TRY_CAST({quoted} AS DOUBLE) AS {quoted} in {query}"
        ),
        (None, []) if flags + numbers == 0 => format!(
            "no row has a value that would tell its type: CAST({quoted} AS DOUBLE) AS {quoted} in {query}, or a schema for \
             its table"
        ),
        (None, []) if all_flags => {
            format!("all of it is true or false: CAST({quoted} AS BOOLEAN) AS {quoted} in {query}")
        }
        (None, []) => format!("all of it is numbers: CAST({quoted} AS DOUBLE) AS {quoted} in {query}"),
        (None, [marker]) => format!(
            "{marker:?} stands for NULL in it: set null = {marker:?} {}",
            match tables.as_slice() {
                [table] => format!("in [tables.{table}]"),
                _ => "in the section [tables.NAME] of the table that it comes from".to_owned(),
            }
        ),
        (None, several) => format!(
            "several of its values stand for NULL ({}): make them NULL with TRY_CAST({quoted} AS DOUBLE) AS {quoted} in \
             {query}",
            several.iter().map(|marker| format!("{marker:?}")).collect::<Vec<_>>().join(", ")
        ),
    })
}

/// The tables of the job that a query reads; those that it names by URL have no section.
fn tables(plan: &LogicalPlan) -> Vec<String> {
    let mut tables = Vec::new();
    let _ = plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let name = scan.table_name.table();
            if !name.contains(['/', '.']) && !tables.iter().any(|known| known == name) {
                tables.push(name.to_owned());
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    tables
}
